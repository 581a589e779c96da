"""A fleet in virtual time: a heap, a clock and a counter around `planner.engine.batching`.

Owns the order of events: arrivals, iterations of engines, queueing and shedding. The router is a
callable that the caller passes in, so what is simulated is the router that serves. No clock is read
and no random number is drawn: the same input gives the same result, byte for byte. Must not know
plans, buckets or gateways, nor NumPy: mypyc compiles it.
"""

from collections import deque
from collections.abc import Callable, Iterable
from heapq import heappop, heappush
from math import inf, nan
from typing import Protocol, cast

from planner.engine.batching import Engine
from planner.engine.sequence import FirstToken, Moment


class Hold(Protocol):
    """What one request holds at the backend that it was placed on."""

    def prefilled(self) -> None:
        """Called once, at the first token of the request."""

    def release(self) -> None:
        """Called once, when the request has ended or its engine refused it."""


class Placement(Hold, Protocol):
    """The router's reservation of one backend for one request."""

    @property
    def backend(self) -> int:
        """The index of the engine that the request is submitted to."""


Placed = tuple[int, int, Hold]  # request, index of the engine that it is submitted to, its hold


class Dispatch(Protocol):
    """Decides which requests are placed, and when. It remembers those that wait."""

    def arrive(self, request: int, now_s: float) -> Iterable[Placed]:
        """A request arrives: return the requests that are placed now, and where."""

    def room(self, now_s: float) -> Iterable[Placed]:
        """A first or a last token came: return the waiting requests that are placed now."""

    def due_s(self) -> float:
        """When `room` is to be called next even if no token comes; infinite: never."""


Route = Callable[[int, float], Placement | None]  # (request, now_s) -> None if no backend has room
OnFinished = Callable[[int, float], None]  # (request, now_s), after the request's last token


class FirstCome:
    """A `Dispatch` of a router that has no queue of its own: who waits is served in the order of
    arrival, and is shed after a time."""

    def __init__(self, route: Route, patience_s: float = 0.0) -> None:
        """route: called at each arrival, and again for the first in the queue whenever a token
        makes room."""
        self._route = route
        self._patience_s = patience_s
        self._waiting: deque[tuple[float, int]] = deque()  # (until_s, request)

    def arrive(self, request: int, now_s: float) -> Iterable[Placed]:
        placement = self._route(request, now_s)
        if placement is not None:
            return ((request, placement.backend, placement),)
        if self._patience_s > 0:
            self._waiting.append((now_s + self._patience_s, request))
        return ()

    def room(self, now_s: float) -> Iterable[Placed]:
        waiting = self._waiting
        placed: list[Placed] = []
        while waiting and waiting[0][0] < now_s:
            waiting.popleft()
        while waiting and (placement := self._route(waiting[0][1], now_s)) is not None:
            placed.append((waiting.popleft()[1], placement.backend, placement))
        return placed

    def due_s(self) -> float:
        return inf


class Timeline:
    """The state of one simulation: engines, and the heap of their next events.

    first_s, last_s: by request, when a client saw its first and last token; nan without one.
    backend: by request, the index of its engine, -1 without one.

    The heap has one live entry per engine. When an engine's next event moves, a new entry is pushed
    and the engine's version raised; the old entry is known as stale by its version. That is cheaper
    than removing it from the middle of the heap. Per-request state is kept in lists, not in NumPy
    arrays: reading and writing single elements of a list is several times faster.
    """

    def __init__(
        self,
        engines: list[Engine],
        inputs: list[int],
        outputs: list[int],
        cached: list[int],
        dispatch: Dispatch,
        on_finished: OnFinished | None,
    ) -> None:
        """engines: fresh ones. inputs, outputs: tokens by request. cached: of the inputs, those
        that hit every engine's prefix cache."""
        requests = len(inputs)
        self._engines = engines
        self._inputs, self._outputs, self._cached = inputs, outputs, cached
        self._dispatch = dispatch
        self._on_finished = on_finished
        self._holds: list[Hold | None] = [None] * requests
        self._heap: list[tuple[float, int, int]] = []  # (when, engine, version)
        self._due_s: list[float | None] = [None] * len(engines)
        self._version = [0] * len(engines)
        self.first_s: list[float] = [nan] * requests
        self.last_s: list[float] = [nan] * requests
        self.backend = [-1] * requests

    def play(self, arrivals_s: list[float]) -> None:
        """Run until the last request has ended. arrivals_s: by request, ascending."""
        for request, now_s in enumerate(arrivals_s):
            self._advance_to(now_s)
            self._place(self._dispatch.arrive(request, now_s), now_s)
        self._advance_to(inf)

    def _advance_to(self, until_s: float) -> None:
        """Run all engines, and what is due by the clock, up to and at `until_s`."""
        heap, dispatch = self._heap, self._dispatch
        while True:
            due_s = dispatch.due_s()
            if heap and heap[0][0] <= (due_s if due_s < until_s else until_s):
                now_s, backend, known = heappop(heap)
                if known == self._version[backend]:
                    self._advance(backend, now_s)
            elif due_s <= until_s and due_s < inf:
                self._place(dispatch.room(due_s), due_s)
            else:
                return

    def _place(self, placed: Iterable[Placed], now_s: float) -> None:
        """Submit requests to their engines."""
        for request, backend, hold in placed:
            self._submit(request, backend, hold, now_s)

    def _submit(self, request: int, backend: int, hold: Hold, now_s: float) -> None:
        """Submit a request to its engine, which refuses what is longer than its context."""
        engine, inputs, outputs = (
            self._engines[backend], self._inputs[request], self._outputs[request]
        )  # fmt: skip
        if inputs + outputs > engine.longest:
            hold.release()
            self._place(self._dispatch.room(now_s), now_s)
            return
        engine.submit(
            request,
            input_tokens=inputs,
            output_tokens=outputs,
            now_s=now_s,
            cached_tokens=self._cached[request],
        )
        self._holds[request] = hold
        self.backend[request] = backend
        self._schedule(backend, engine)

    def _advance(self, backend: int, now_s: float) -> None:
        """Take an engine's events of this moment, then let others use the room they made."""
        engine = self._engines[backend]
        events = engine.advance(now_s)
        if events:
            self._take(events, engine.delay_s, now_s)
        # The entry of this event has been popped: the next one must be pushed even if it is due at
        # the same time.
        self._due_s[backend] = None
        self._schedule(backend, engine)
        if events:
            self._place(self._dispatch.room(now_s), now_s)

    def _take(self, events: list[Moment], delay_s: float, now_s: float) -> None:
        """Note first and last tokens, and tell the router of them."""
        for event in events:
            request = cast(int, event.key)
            hold = self._holds[request]
            assert hold is not None  # the request was submitted
            if isinstance(event, FirstToken):
                self.first_s[request] = event.at_s + delay_s
                hold.prefilled()
                continue
            self.last_s[request] = event.at_s + delay_s
            self._holds[request] = None
            hold.release()
            if self._on_finished is not None:
                self._on_finished(request, now_s)

    def _schedule(self, backend: int, engine: Engine) -> None:
        """Push an engine's next event, unless its live entry stands at the right time already."""
        due_s = engine.next_event_s
        if due_s == self._due_s[backend]:
            return
        self._due_s[backend] = due_s
        self._version[backend] += 1
        if due_s is not None:
            heappush(self._heap, (due_s, backend, self._version[backend]))
