"""Identifies the caller of a request by a digest of its credentials.

The `Authorization` header is read here and nowhere else. It stays in the memory of the process that
got it: learning, statistics, logs and other processes see the id of the caller. Knows no request
body and no backend.
"""

from hashlib import blake2b
from typing import Final

KNOWN: Final = 4096  # callers kept; then all are dropped, which costs each of them one hash
ID_BYTES: Final = 8  # among a million callers two share an id with a probability of 3·10⁻⁸


class Caller:
    """A sender of requests; never changed.

    id: a digest of its credentials, the same in every process and gateway; "" without credentials.
    slo_class: SLO class of requests that name none; `None`: the model's default class.

    A plain class instead of a frozen dataclass, so that compiled code reads its attributes as C
    fields.
    """

    __slots__ = ("id", "slo_class")

    def __init__(self, *, id: str, slo_class: str | None = None) -> None:
        self.id = id
        self.slo_class = slo_class

    def __repr__(self) -> str:
        return f"<Caller {self.id or 'without credentials'}>"


ANONYMOUS: Final = Caller(id="")


def caller_id(authorization: bytes) -> str:
    """The id of the caller with this `Authorization` header; "" for an empty header."""
    if not authorization:
        return ""
    return blake2b(authorization, digest_size=ID_BYTES, person=b"cuvee caller").hexdigest()


class Callers:
    """The recent callers by their header, so that a header is hashed once and not per request."""

    def __init__(self) -> None:
        self._known: dict[bytes, Caller] = {b"": ANONYMOUS}

    def __repr__(self) -> str:
        return f"<Callers {len(self._known)} known>"

    def identify(self, authorization: bytes) -> Caller:
        """The caller with this `Authorization` header; empty if the request has none."""
        caller = self._known.get(authorization)
        if caller is None:
            if len(self._known) >= KNOWN:
                self._known = {b"": ANONYMOUS}
            caller = self._known[authorization] = Caller(id=caller_id(authorization))
        return caller
