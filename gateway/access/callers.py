"""Identifies the caller of a request by a digest of its credentials.

The `Authorization` header is read here and nowhere else. It stays in the memory of the process that
got it: learning, statistics, logs and other processes see the id of the caller. Knows no request
body and no backend.
"""

from dataclasses import dataclass
from hashlib import blake2b

KNOWN = 4096  # callers kept; then all are dropped, which costs each of them one hash
ID_BYTES = 8  # among a million callers two share an id with a probability of 3·10⁻⁸


@dataclass(frozen=True, slots=True, kw_only=True)
class CallerLimits:
    """The limits of a caller, which nothing enforces yet; `None`: no limit. concurrency: requests
    under way at once."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrency: int | None = None


UNLIMITED = CallerLimits()


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """A sender of requests.

    id: a digest of its credentials, the same in every process and gateway; "" without credentials.
    slo_class: SLO class of requests that name none; `None`: the model's default class.
    """

    id: str
    slo_class: str | None = None
    limits: CallerLimits = UNLIMITED


ANONYMOUS = Caller(id="")


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
