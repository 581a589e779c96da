"""The section of a pool that says where its backends are found while the gateway serves: keys,
types, domains, defaults and meanings.

As in `schema`, the text below each key is its documentation.
"""

import msgspec


class DiscoverSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where backends of the pool are found while the gateway serves, beside its `backends`: they
    come and go without a reload ([discovery](discovery.md)).
    """

    file: str | None = None
    """JSON or YAML file, relative to this file, with a list of base URLs, or, for several pools,
    with such lists by the pools' names. It is looked at each second.
    """
