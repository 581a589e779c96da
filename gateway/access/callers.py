"""Identifies the caller of a request by a digest of its credentials.

The `Authorization` header is read here and nowhere else. It stays in the memory of the process that
got it: learning, statistics, logs and other processes see the id of the caller. Where the gateway
has keys, a caller is one of them, and its id is the key's name. Knows no request body and no
backend.
"""

from hashlib import blake2b
from math import inf
from typing import Final

from gateway.access.key import AccessKey
from gateway.access.key_ring import KeyRing

KNOWN: Final = 4096  # callers kept; then all are dropped, which costs each of them one hash
ID_BYTES: Final = 8  # among a million callers two share an id with a probability of 3·10⁻⁸


class Caller:
    """A sender of requests; never changed.

    id: the name of its key, or a digest of its credentials, the same in every process and gateway;
    "" without credentials. slo_class: SLO class of requests that name none; `None`: the model's
    default class. key: `None` where the gateway has none.

    A plain class instead of a frozen dataclass, so that compiled code reads its attributes as C
    fields.
    """

    __slots__ = ("id", "key", "slo_class")

    def __init__(
        self, *, id: str, slo_class: str | None = None, key: AccessKey | None = None
    ) -> None:
        self.id = id
        self.slo_class = slo_class
        self.key = key

    def __repr__(self) -> str:
        return f"<Caller {self.id or 'without credentials'}>"


ANONYMOUS: Final = Caller(id="")


def caller_id(authorization: bytes) -> str:
    """The id of the caller with this `Authorization` header; "" for an empty header."""
    if not authorization:
        return ""
    return blake2b(authorization, digest_size=ID_BYTES, person=b"cuvee caller").hexdigest()


class Callers:
    """The recent callers by their header, so that a header is hashed once and not per request.

    keyed: whether the gateway has keys, so that a request without one is refused. A header that
    opens nothing is not remembered.
    """

    def __init__(self) -> None:
        self.keyed = False
        self._ring: KeyRing | None = None
        self._known: dict[bytes, Caller] = {b"": ANONYMOUS}

    def __repr__(self) -> str:
        return f"<Callers {len(self._known)} known>"

    def configure(self, ring: KeyRing | None) -> None:
        """Let in who has one of these keys from now on; `None`: everybody."""
        self._ring, self.keyed = ring, ring is not None
        self._known = {} if self.keyed else {b"": ANONYMOUS}

    def identify(self, authorization: bytes) -> Caller:
        """The caller with this `Authorization` header; empty if the request has none. Raises
        KeyRefused where the gateway has keys, and this is none of them."""
        caller = self._known.get(authorization)
        if caller is None:
            if len(self._known) >= KNOWN:
                self.configure(self._ring)
            caller = self._known[authorization] = self._made(authorization)
        elif self.keyed and caller.key is not None and caller.key.expires_s < inf:
            assert self._ring is not None
            self._ring.require_valid(caller.key)
        return caller

    def known_key(self, authorization: bytes) -> AccessKey | None:
        """The key of a caller that was identified lately; `None` of any other."""
        caller = self._known.get(authorization)
        return None if caller is None else caller.key

    def _made(self, authorization: bytes) -> Caller:
        if self._ring is None:
            return Caller(id=caller_id(authorization))
        key = self._ring.find(authorization)
        return Caller(id=key.name, slo_class=key.slo_class, key=key)
