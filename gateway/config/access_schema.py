"""The sections that say who may use the gateway: keys, types, domains, defaults and meanings.

As in `schema`, the text below each key is its documentation.
"""

import msgspec

from gateway.config.domains import Count, Positive


class AdminAccessSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who may use a part of the admin port: whoever shows the token, as `Authorization: Bearer
    TOKEN` or as the password of HTTP Basic with any user, or one of these certificates.
    """

    token_file: str | None = None
    """File with the token, one line, relative to this file; read again when it changes."""
    token_env: str | None = None
    """Variable of the environment with the token."""
    certificates: tuple[str, ...] = ()
    """Names (common name, DNS or URI) of client certificates that `gateway.admin_tls.client_ca` has
    signed; `*` stands for all of them."""


class TlsSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Certificates of a port: TLS 1.2 or newer. The files are read again when they change, and no
    connection is dropped for that. Paths are relative to this file.
    """

    certificate: str
    """The certificate, with those of the authorities between it and the root behind it, in PEM."""
    key: str
    """Its private key, in PEM, without a password."""
    client_ca: str | None = None
    """Certificates, in PEM, of the authorities that sign certificates of clients. With it each
    client must show one (mTLS); on the admin port `/livez` and `/readyz` need none.
    """


class AccessSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who may use the gateway ([access](access.md)). With one of the three sources of keys each
    request to a model needs a key; all sources count together.
    """

    keys_file: str | None = None
    """File with the clients' keys, hashed, and their limits, relative to this file. `cuvee keys add
    NAME` writes it."""
    keys_env: str | None = None
    """Variable of the environment with keys as they are, separated by commas or blanks, each as
    `KEY` or `NAME=KEY`; or with what a keys file has, as JSON."""
    keys_folder: str | None = None
    """Folder with a file for each key, such as a mounted Secret of Kubernetes. The file's name is
    the key's name, its content the key or `sha256:` and its digest. A file `NAME.yaml` or
    `NAME.json` has what a keys file has below the name."""
    admin_read: AdminAccessSection | None = None
    """Who may GET from the admin port; default: everybody who reaches it. `/livez` and `/readyz`
    are open to all. Whoever may write may read."""
    admin_write: AdminAccessSection | None = None
    """Who may POST and DELETE there; default: as `admin_read`."""


class KeySection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One key, in a keys file below `keys.NAME`. The name is what metrics, logs, bills and the
    journal call the client."""

    hash: str
    """`sha256:` and the SHA-256 of the key, in hexadecimal digits."""
    models: tuple[str, ...] | None = None
    """Models, aliases and adapters that it may ask for; default: all."""
    slo_classes: tuple[str, ...] | None = None
    """SLO classes that it may ask for; default: all."""
    default_slo_class: str | None = None
    """Class of its requests that name none. Default: that of the model, or the first of
    `slo_classes` where they do not have it."""
    weight: Positive = 1.0
    """Its part of what a class is given while it waits, as `gateway.caller_weights`."""
    requests_per_minute: Count | None = None
    """Requests in a minute, which [slides](access.md#what-the-limits-mean); a further one gets 429
    with `retry-after`."""
    tokens_per_minute: Count | None = None
    """Tokens of prompts and answers in such a minute: a request counts with its estimate until its
    end, then with what the engine has reported."""
    concurrency: Count | None = None
    """Requests at the same time."""
    usd_per_day: Positive | None = None
    """Dollars in a day of UTC, as the bill has them: the key's part of the time in backends, of
    what their pools cost."""
    expires: str | None = None
    """Moment from which the key is refused: `2026-12-31T12:00:00Z`, or a date, which is its
    beginning in UTC."""


class KeysFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A keys file."""

    keys: dict[str, KeySection] = {}
    """The keys by name."""
