"""A backend and its load, and the leases that requests hold on it. Outlives every table.

Reserving and releasing are synchronous, so that on one event loop no other request can come between
choosing a backend and reserving it. Knows no table, no HTTP and no clock.
"""

from collections import deque
from typing import Final

from gateway.routing.breaker import Breaker

FULL_S: Final = 1.0  # for so long an engine that refused a request for lack of room counts as full


class Backend:
    """One running engine behind one URL.

    in_flight: number of leases. load: Σ 1/n* over the leases; at 1.0 the backend just keeps the
    SLO. pending_s: seconds of prefill of the leases without a first token. All three are totals
    over all workers, as far as this worker knows; its own part is in its cell of the shared array,
    if there is one. healthy: whether the last probe was good. breaker: judges it by its requests.
    """

    __slots__ = (
        "_cell",
        "_full_at",
        "_full_until_s",
        "_unprefilled",
        "breaker",
        "healthy",
        "in_flight",
        "load",
        "name",
        "pending_s",
        "pool",
        "url",
    )

    def __init__(self, *, name: str, pool: str, url: str) -> None:
        self.name = name
        self.pool = pool
        self.url = url
        self.in_flight = 0
        self.load = 0.0
        self.pending_s = 0.0
        self.healthy = True
        self.breaker = Breaker()
        self._full_at = 0
        self._full_until_s = 0.0
        self._unprefilled: deque[Lease] = deque()
        self._cell: memoryview[float] | None = None

    def __repr__(self) -> str:
        state = "up" if self.healthy else "down"
        return (
            f"<Backend {self.name} {state}, {self.in_flight} in flight, load {self.load:.2f}, "
            f"prefill {self.pending_s:.2f} s, {self.breaker!r}>"
        )

    def live(self, now_s: float) -> bool:
        """Whether it may get a request now: its last probe was good and its breaker allows it."""
        return self.healthy and self.breaker.allows(now_s)

    def refused(self, now_s: float) -> None:
        """Note that the engine refused a request for lack of room. It is full with one request less
        than are in flight now; that is no failure."""
        self._full_at = self.in_flight - 1  # the refused request holds a lease too
        self._full_until_s = now_s + FULL_S

    def full(self, now_s: float) -> bool:
        """Whether the engine refused requests a moment ago and still has as many as then."""
        return now_s < self._full_until_s and self.in_flight >= self._full_at

    def probed(self, up: bool) -> None:
        """Note the result of a probe; a good one closes the breaker."""
        self.healthy = up
        if up:
            self.breaker.succeeded()

    def publish_to(self, cell: "memoryview[float]") -> None:
        """Publish this worker's leases in a cell of the shared array from now on: number, load and
        pending prefill, three doubles. Called while this worker holds no lease."""
        self._cell = cell

    def set_totals(self, in_flight: float, load: float, pending_s: float) -> None:
        """Set the totals: what the other workers reported plus this worker's own leases, as far as
        they are published (`publish_to`)."""
        mine = self._cell or (0.0, 0.0, 0.0)
        self.in_flight = int(mine[0] + in_flight)
        self.load = mine[1] + load
        self.pending_s = mine[2] + pending_s

    def add(self, count: int, load: float, pending_s: float) -> None:
        """Add to this worker's leases, or subtract (negative)."""
        self.in_flight += count
        self.load += load
        self.pending_s += pending_s
        if self.in_flight == 0:  # the count is exact; sums of floats drift away from zero
            self.load = self.pending_s = 0.0
        cell = self._cell
        if cell is not None:
            cell[0] += count
            idle = cell[0] == 0.0
            cell[1] = 0.0 if idle else cell[1] + load
            cell[2] = 0.0 if idle else cell[2] + pending_s


class Lease:
    """The hold of one request on one backend; a context manager, released once on every path."""

    __slots__ = ("_held", "_prefill_s", "_slot", "backend", "bucket", "decision", "plan_id")

    def __init__(
        self,
        backend: Backend,
        *,
        slot: float,
        prefill_s: float,
        bucket: int,
        plan_id: str | None,
        decision: str,
    ) -> None:
        """Reserve. slot: load of the request. prefill_s: seconds of its prefill."""
        self.backend = backend
        self.bucket = bucket
        self.plan_id = plan_id
        self.decision = decision
        self._slot = slot
        self._prefill_s = prefill_s
        self._held = True
        backend.add(1, slot, prefill_s)
        backend.breaker.begin(self)
        # In order of arrival, which is the order of prefill; see `prefilled`.
        backend._unprefilled.append(self)

    def __enter__(self) -> "Lease":
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def __repr__(self) -> str:
        state = "held" if self._held else "released"
        return f"<Lease {state} on {self.backend.name}, bucket {self.bucket}, {self.decision}>"

    def prefilled(self) -> None:
        """The first token came: the prefill is done. Engines prefill in order of arrival (vLLM's
        default), so the prefill of all earlier leases of the backend is done too."""
        queue = self.backend._unprefilled
        while self._prefill_s and queue:
            queue.popleft()._forget_prefill()

    def release(self) -> None:
        """Release the lease; a second call does nothing."""
        if not self._held:
            return
        self._held = False
        backend = self.backend
        backend.breaker.end(self)
        prefill_s, self._prefill_s = self._prefill_s, 0.0
        while backend._unprefilled and not backend._unprefilled[0]._prefill_s:
            backend._unprefilled.popleft()
        backend.add(-1, -self._slot, -prefill_s)

    def _forget_prefill(self) -> None:
        self.backend.add(0, 0.0, -self._prefill_s)
        self._prefill_s = 0.0
