"""The last requests and the slowest ones of the last hour, and where those of each bucket went.

A sample, of which each process tells a few at a time: what it holds is bounded, whatever comes.
"""

from collections import deque
from collections.abc import Iterable

from gateway.overview.requests_view import SeenAt
from gateway.telemetry.seen_request import SeenRequest
from planner.model.buckets import Buckets

LAST = 200  # requests
SLOWEST = 50
HOUR_S = 3600.0
SLOT_S, SLOTS = 10.0, 30  # shares of buckets are of the last five minutes

Shares = dict[tuple[int, str], int]  # numbers of requests by bucket and pool


class RequestMemory:
    """What is kept of them. number: of all that were noted."""

    def __init__(self) -> None:
        self.number = 0
        self._last: deque[SeenAt] = deque(maxlen=LAST)
        self._slowest: list[SeenAt] = []  # the slowest first
        self._slots: deque[tuple[float, Shares]] = deque(maxlen=SLOTS)
        self._buckets: Buckets | None = None

    def __repr__(self) -> str:
        return f"<RequestMemory of {len(self._last)} requests>"

    def add(
        self, requests: Iterable[SeenRequest], *, at_s: float, now_s: float, buckets: Buckets
    ) -> None:
        """Note requests that ended. at_s: the time of day now, now_s: the same on the gateway's
        clock. buckets: that they are numbered by."""
        if self._buckets is None or not self._buckets.numbered_as(buckets):
            self._slots.clear()
        self._buckets = buckets
        if not self._slots or at_s - self._slots[-1][0] >= SLOT_S:
            self._slots.append((at_s, {}))
        shares = self._slots[-1][1]
        for one in requests:
            self.number += 1
            known = 0 <= one.bucket < buckets.count
            what = buckets.describe(one.bucket) if known else None
            promise = buckets.class_of(one.bucket).slo if known else None
            seen = SeenAt(one, at_s - (now_s - one.arrival_s), what, promise)
            if one.sampled:
                self._last.append(seen)
                if one.pool is not None:
                    key = one.bucket, one.pool
                    shares[key] = shares.get(key, 0) + 1
            if one.slowness is not None:
                self._slowest.append(seen)
        self._slowest = sorted(
            (seen for seen in self._slowest if at_s - seen.at_s < HOUR_S),
            key=lambda seen: -(seen.request.slowness or 0.0),
        )[:SLOWEST]

    @property
    def last(self) -> list[SeenAt]:
        """The newest first."""
        return list(self._last)[::-1]

    @property
    def slowest(self) -> list[SeenAt]:
        """The slowest first."""
        return self._slowest

    def find(self, request_id: str) -> SeenAt | None:
        """The newest request of an id; `None` if it is not kept."""
        kept = (*reversed(self._last), *self._slowest)
        return next((seen for seen in kept if seen.request.request_id == request_id), None)

    def shares(self, at_s: float) -> Shares:
        """Where the sampled requests of the last minutes went."""
        sums: Shares = {}
        for since_s, shares in self._slots:
            if at_s - since_s < SLOT_S * SLOTS:
                for key, number in shares.items():
                    sums[key] = sums.get(key, 0) + number
        return sums
