"""The sections of files in which the gateway records what happens: keys, types, domains, defaults
and meanings.

As in `schema`, the text below each key is its documentation.
"""

from typing import Annotated

import msgspec
from msgspec import Meta

from gateway.config.domains import Count


class TraceSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A file with sizes and times of the requests, which `cuvee plan` and the other commands read
    ([traces](traces.md#from-the-gateway-itself)). No prompt, answer, header or key is in it.
    """

    path: str
    """The file. When it is full, `PATH` becomes `PATH.1`, that `PATH.2`, and so on."""
    file_bytes: Annotated[int, Meta(ge=4096, description="at least 4096")] = 67108864
    """About how large a file gets before the next one begins."""
    files: Count = 8
    """Most files, with the one that is written; the oldest is deleted."""
    salt: str | None = None
    """What callers are hashed with. By default chance, anew at each start: then files of two runs
    cannot be joined by caller. Whoever knows it and a key can find that key's requests.
    """


class JournalSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A file with every decision of the gateway, its cause, and what came of it
    ([operations](operations.md#what-was-decided-and-why)). It survives restarts.
    """

    path: str
    """The file. When it is full, `PATH` becomes `PATH.1`, whose lines are lost then."""
    file_bytes: Annotated[int, Meta(ge=4096, description="at least 4096")] = 8388608
    """About how large the file gets."""
