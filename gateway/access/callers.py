"""Who sent a request, without the secret that says so.

The `Authorization` header is looked at here and nowhere else: everything behind it (learning,
statistics, logs, other processes) sees the caller's id. Knows no request body and no backend.
"""

from dataclasses import dataclass
from hashlib import blake2b

KNOWN = 4096  # callers kept; then all are forgotten, which costs one hash each
ID_BYTES = 8  # two of a million callers share an id with a chance of 3·10⁻⁸


@dataclass(frozen=True, slots=True, kw_only=True)
class CallerLimits:
    """What a caller may use, per minute and at once; `None`: as much as there is."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrency: int | None = None


UNLIMITED = CallerLimits()


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """One sender of requests.

    id: a digest of its credentials, the same in every process and gateway; "" for requests without
    any. slo_class: the class of its requests that name none; `None`: the model's default. limits:
    what it may use.
    """

    id: str
    slo_class: str | None = None
    limits: CallerLimits = UNLIMITED


ANONYMOUS = Caller(id="")


def caller_id(authorization: bytes) -> str:
    """The id of whoever sends this `Authorization` header; "" for an empty one."""
    if not authorization:
        return ""
    return blake2b(authorization, digest_size=ID_BYTES, person=b"cuvee caller").hexdigest()


class Callers:
    """The callers seen lately, by their header: hashing once per caller is cheaper than per
    request."""

    def __init__(self) -> None:
        self._known: dict[bytes, Caller] = {b"": ANONYMOUS}

    def __repr__(self) -> str:
        return f"<Callers {len(self._known)} known>"

    def identify(self, authorization: bytes) -> Caller:
        """The caller that sends this `Authorization` header (empty: none was sent)."""
        caller = self._known.get(authorization)
        if caller is None:
            if len(self._known) >= KNOWN:
                self._known = {b"": ANONYMOUS}
            caller = self._known[authorization] = Caller(id=caller_id(authorization))
        return caller
