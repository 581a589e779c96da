"""A backend and its load, and the leases that requests hold on it. Outlives every table.

Reserving and releasing are synchronous, so that on one event loop no other request can come between
choosing a backend and reserving it. Knows no table, no HTTP and no clock.
"""

from collections import deque
from math import inf
from typing import Final

from gateway.routing.breaker import Breaker
from planner.model.buckets import MOST_CLASSES as MOST

# Room for the loads of all classes that a model may have, so that they fit in arrays that processes
# share.
MOST_CLASSES: Final = MOST

# The pressure of a backend that has just come up, in which caches are empty and graphs not yet
# captured, beside that of its requests. It falls to 0 while the backend warms up.
COLD: Final = 0.9
FULL_S: Final = 1.0  # for so long an engine that refused a request for lack of room counts as full
NO_CLASS: Final = -1  # of a request without a promise
# Layout of a worker's part of these sums: in flight, pending prefill, memory, loads, requests by
# class.
FIRST_LOAD: Final = 3
FIRST_PRESENT: Final = FIRST_LOAD + MOST_CLASSES
WIDTH: Final = FIRST_PRESENT + MOST_CLASSES


class Backend:
    """One running engine behind one URL.

    in_flight: sequences that requests hold here, one for each prompt and choice; most requests are
    one. loads: by class of its model, Σ 1/n* over all leases, as measured by the promise of the
    class; at 1.0 the backend just keeps it. present: by class, number of leases of its requests.
    pending_s: seconds of prefill of the leases without a first token. memory: the share of the KV
    cache that all leases fill on average, as estimated. All are totals over all workers, as far as
    this worker knows; its own part is in its cell of the shared array, if there is one. Where other
    pools have the same URL, all but `present` are of that engine, so with the leases there
    (`join`). healthy: whether the last probe was good. breaker: judges it by its requests. silent:
    whether it has streams and none of them goes on. asleep: whether its engine says that it sleeps.
    leaving: whether it ends soon: streams that have not begun go to others. foreign: load of other
    clients of its engine, as far as the engine says so. paused_until_s: until when its engine wants
    no requests. heard_s: when an answer last began or came whole. cold_until_s: until when it gets
    fewer requests than it could take.
    """

    __slots__ = (
        "_cell", "_full_at", "_full_until_s", "_kin", "_unprefilled", "_warmup_s", "asleep",
        "breaker", "cold_until_s", "foreign", "healthy", "heard_s", "in_flight", "leaving", "loads",
        "memory", "name", "paused_until_s", "pending_s", "pool", "present", "silent", "url",
    )  # fmt: skip

    def __init__(self, *, name: str, pool: str, url: str) -> None:
        self.name = name
        self.pool = pool
        self.url = url
        self.in_flight = 0
        self.loads = [0.0] * MOST_CLASSES
        self.present = [0] * MOST_CLASSES
        self.pending_s = self.memory = 0.0
        self.healthy = True
        self.silent = self.asleep = self.leaving = False
        self.foreign = 0.0
        self.breaker = Breaker()
        self._full_at = 0
        self._full_until_s = self.paused_until_s = self.heard_s = 0.0
        self.cold_until_s = self._warmup_s = 0.0
        self._unprefilled: deque[Lease] = deque()
        self._cell: memoryview[float] | None = None
        self._kin: list[Backend] | None = None

    def __repr__(self) -> str:
        state = "up" if self.healthy else "down"
        return (
            f"<Backend {self.name} {state}, {self.in_flight} in flight, load {self.load:.2f}, "
            f"prefill {self.pending_s:.2f} s, {self.breaker!r}>"
        )

    @property
    def load(self) -> float:
        """The load by the strictest promise that is made to a request in flight."""
        present = [k for k in range(MOST_CLASSES) if self.present[k]]
        return max([self.loads[k] for k in present or [0]])

    def live(self, now_s: float) -> bool:
        """Whether it may get a request now: its last probe was good, it goes on and does not sleep,
        and its breaker allows it."""
        return self.healthy and not self.silent and not self.asleep and self.breaker.allows(now_s)

    @property
    def idle(self) -> bool:
        """Whether its engine has no request, of ours or of others."""
        return self.in_flight == 0 and self.foreign == 0.0

    def doubted(self, now_s: float) -> bool:
        """Whether it gets no requests although it answers probes and does not sleep."""
        return self.healthy and not self.asleep and not self.live(now_s)

    @property
    def resting(self) -> bool:
        """Whether it gets no requests, or one on trial, because of what became of others."""
        return self.silent or self.breaker.tripped

    def refused(self, now_s: float, pause_s: float = 0.0, width: int = 1) -> None:
        """Note that the engine refused a request for lack of room. It is full with that request
        less than is in flight now; that is no failure. pause_s: for how long it wants no requests
        at all, if it said so. width: of the request, in sequences."""
        for one in self._kin or (self,):
            one._full_at = one.in_flight - width  # the refused request holds a lease too
            one._full_until_s = now_s + FULL_S
            if pause_s:
                one.paused_until_s = max(one.paused_until_s, now_s + pause_s)

    def full(self, now_s: float) -> bool:
        """Whether the engine refused requests a moment ago and still has as many as then, or wants
        none for a while."""
        return now_s < self.paused_until_s or (
            now_s < self._full_until_s and self.in_flight >= self._full_at
        )

    def behind(self, now_s: float) -> bool:
        """Whether a first token that was due has not come: the engine is slower than its profile,
        its memory is full, or it stands still. More prompts would only wait there.

        A request that does not stream shows no first token: its prefill counts as done when it is
        due.
        """
        queue = self._unprefilled
        while queue:
            first = queue[0]
            if first._prefill_s and now_s <= first._due_s:
                return False
            if first._prefill_s and first._streams:
                return True
            queue.popleft()._forget_prefill()
        return False

    def probed(self, up: bool) -> None:
        """Note the result of a probe. One that finds it up again ends a pause, but closes the
        breaker only of one that could not be reached: probes are no answers."""
        self.healthy = up
        if up:
            self.breaker.up_again()

    def warm_up(self, now_s: float, warmup_s: float) -> None:
        """Take only a few requests at first and more with time, over so many seconds."""
        self._warmup_s = warmup_s
        self.cold_until_s = now_s + warmup_s

    def cold(self, now_s: float) -> float:
        """The pressure of the requests that it is not given while it is cold."""
        left_s = self.cold_until_s - now_s
        return COLD * left_s / self._warmup_s if left_s > 0.0 else 0.0

    def join(self, kin: "list[Backend]") -> None:
        """Be one engine with these from now on, which have the same URL; one that leaves the list
        goes on to tell them of the leases that end. Load by another model's promise is not known:
        that of their leases counts by the strictest of their own."""
        if kin:
            one = kin[0]
            self.in_flight, self.pending_s, self.memory = one.in_flight, one.pending_s, one.memory
            self.loads = [max(one.loads)] * MOST_CLASSES
        kin.append(self)
        self._kin = kin

    def lend(self, width: int, load: float, memory: float, pending_s: float) -> None:
        """Add to the totals, or subtract, what a lease of another of the same URL holds."""
        self.in_flight = max(0, self.in_flight + width)
        if self.in_flight == 0:
            self.pending_s = self.memory = 0.0
            self.loads = [0.0] * MOST_CLASSES
            return
        self.pending_s += pending_s
        self.memory += memory
        self.loads = [one + load for one in self.loads]

    def _tell_kin(self, width: int, load: float, memory: float, pending_s: float) -> None:
        for other in self._kin or ():
            if other is not self:
                other.lend(width, load, memory, pending_s)

    def publish_to(self, cell: "memoryview[float]") -> None:
        """Publish this worker's leases in a cell of the shared array from now on, `WIDTH` doubles.
        Called while this worker holds no lease."""
        self._cell = cell

    def set_totals(self, others: list[float]) -> None:
        """Set the totals: what the other workers reported plus this worker's own leases, as far as
        they are published (`publish_to`)."""
        mine = self._cell
        totals = others if mine is None else [a + b for a, b in zip(others, mine, strict=True)]
        self.in_flight = int(totals[0])
        self.pending_s, self.memory = totals[1], totals[2]
        self.loads = totals[FIRST_LOAD:FIRST_PRESENT]
        self.present = [int(count) for count in totals[FIRST_PRESENT:]]

    def add(
        self,
        sign: int,
        own: int,
        slots: tuple[float, ...],
        memory: float,
        pending_s: float,
        width: int = 1,
    ) -> None:
        """Add a request to this worker's leases (sign 1), or take one out (sign -1).

        own: number of its class among those of the model, or `NO_CLASS`. slots: its loads. memory:
        its share of the KV cache. pending_s: to add to the pending prefill. width: its sequences.
        """
        self.in_flight += sign * width
        loads = self.loads
        if self.in_flight == 0:  # the count is exact; sums of floats drift away from zero
            self.pending_s = self.memory = 0.0
            for k in range(len(slots)):
                loads[k] = 0.0
        elif sign > 0:
            self.pending_s += pending_s
            self.memory += memory
            for k in range(len(slots)):
                loads[k] = loads[k] + slots[k]
        else:
            self.pending_s += pending_s
            self.memory -= memory
            for k in range(len(slots)):
                loads[k] = loads[k] - slots[k]
        if own >= 0:
            self.present[own] += sign
        if self._cell is not None:
            self._publish(self._cell, sign, own, slots, memory, pending_s, width)
        if self._kin is not None:
            self._tell_kin(sign * width, sign * max(slots), sign * memory, pending_s)

    def pend(self, seconds: float) -> None:
        """Add to the pending prefill of this worker's leases, or subtract (negative)."""
        self.pending_s += seconds
        if self._cell is not None:
            self._cell[1] += seconds
        if self._kin is not None:
            self._tell_kin(0, 0.0, 0.0, seconds)

    def _publish(
        self,
        cell: "memoryview[float]",
        sign: int,
        own: int,
        slots: tuple[float, ...],
        memory: float,
        pending_s: float,
        width: int,
    ) -> None:
        cell[0] += sign * width
        idle = cell[0] == 0.0
        cell[1] = 0.0 if idle else cell[1] + pending_s
        cell[2] = 0.0 if idle else cell[2] + sign * memory
        for k in range(len(slots)):
            cell[FIRST_LOAD + k] = 0.0 if idle else cell[FIRST_LOAD + k] + sign * slots[k]
        if own >= 0:
            cell[FIRST_PRESENT + own] += sign


class Lease:
    """The hold of one request on one backend; a context manager, released once on every path.

    in_flight: sequences on the backend while it was held, its own included: the mean of those at
    its start and at its end, which over many requests is the mean of all that time. Until the end,
    those at its start. width: its own sequences.
    """

    __slots__ = (
        "_due_s", "_held", "_memory", "_own", "_prefill_s", "_slots", "_streams", "backend",
        "bucket", "decision", "in_flight", "plan_id", "width",
    )  # fmt: skip

    def __init__(
        self,
        backend: Backend,
        *,
        own: int,
        slots: tuple[float, ...],
        prefill_s: float,
        bucket: int,
        plan_id: str | None,
        decision: str,
        memory: float = 0.0,
        due_s: float = inf,
        streams: bool = True,
        width: int = 1,
    ) -> None:
        """Reserve. own, slots: its class and loads, as for `Backend.add`. prefill_s: seconds of
        its prefill. memory: its share of the KV cache. due_s: when its first token is due, if
        all is as planned. streams: whether that token will be seen."""
        self.backend = backend
        self.bucket = bucket
        self.plan_id = plan_id
        self.decision = decision
        self._own = own
        self._slots = slots
        self._prefill_s = prefill_s
        self._memory = memory
        self._due_s = due_s
        self._streams = streams
        self._held = True
        self.width = width
        backend.add(1, own, slots, memory, prefill_s, width)
        self.in_flight = float(backend.in_flight)
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

    @property
    def held(self) -> bool:
        """Whether it has not been released."""
        return self._held

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
        self.in_flight = (self.in_flight + backend.in_flight) / 2
        backend.add(-1, self._own, self._slots, self._memory, -prefill_s, self.width)

    def _forget_prefill(self) -> None:
        if self._prefill_s:
            self.backend.pend(-self._prefill_s)
            self._prefill_s = 0.0
