"""A fleet in virtual time: a heap, a clock and a counter around `planner.engine.batching`.

Owns the order of events: arrivals, iterations of engines, queueing and shedding. The router is a
callable that the caller passes in, so what is simulated is the router that serves. No clock is read
and no random number is drawn: the same input gives the same result, byte for byte. Must not know
plans, buckets or gateways.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from math import ceil, inf
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from planner.engine.batching import Engine, FirstToken
from planner.engine.profiles import Profile
from planner.errors import InvalidValue
from planner.sizes import FloatArray, IntArray
from planner.slo import Slo
from planner.traffic.trace import Trace


class Placement(Protocol):
    """The router's reservation of one backend for one request."""

    @property
    def backend(self) -> int:
        """The index of the engine that the request is submitted to."""

    def prefilled(self) -> None:
        """Called once, at the first token of the request."""

    def release(self) -> None:
        """Called once, when the request has ended or its engine refused it."""


class Dispatch(Protocol):
    """Decides which requests are placed, and when. It remembers those that wait."""

    def arrive(self, request: int, now_s: float) -> Iterable[tuple[int, Placement]]:
        """A request arrives: return the requests that are placed now, and where."""

    def room(self, now_s: float) -> Iterable[tuple[int, Placement]]:
        """A first or a last token came: return the waiting requests that are placed now."""

    def due_s(self) -> float:
        """When `room` is to be called next even if no token comes; infinite: never."""


Route = Callable[[int, float], Placement | None]  # (request, now_s) -> None if no backend has room
OnFinished = Callable[[int, float], None]  # (request, now_s), after the request's last token


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SimulationResult:
    """The outcome of N requests.

    ttft_s, tpot_s: (N,) seconds, nan where unknown: both for a shed request, TPOT for one with
    fewer than two output tokens. backend: (N,) index of the engine that served the request, -1 if
    it was shed.
    """

    ttft_s: FloatArray
    tpot_s: FloatArray
    backend: IntArray

    def __len__(self) -> int:
        return len(self.backend)

    def met(self, slo: Slo) -> NDArray[np.bool_]:
        """(N,) whether each request met the promise; a shed request did not."""
        # A comparison with nan is false: right for TTFT, the wrong way round for TPOT.
        return (self.ttft_s <= slo.ttft_s) & ~(self.tpot_s > slo.tpot_s)

    def attainment(self, slo: Slo, *, skip: float = 0.1) -> float:
        """The share of requests that met the promise, without the first `skip` of them.

        The first ones meet an empty fleet, which would flatter it. Raises InvalidValue if no
        request is left.
        """
        met = self.met(slo)[ceil(skip * len(self)) :]
        if not len(met):
            raise InvalidValue(f"no requests left of {len(self)} after skipping {skip}")
        return float(met.mean())


class FirstCome:
    """A `Dispatch` of a router that has no queue of its own: who waits is served in the order of
    arrival, and is shed after a time."""

    def __init__(self, route: Route, patience_s: float = 0.0) -> None:
        """route: called at each arrival, and again for the first in the queue whenever a token
        makes room."""
        self._route = route
        self._patience_s = patience_s
        self._waiting: deque[tuple[float, int]] = deque()  # (until_s, request)

    def arrive(self, request: int, now_s: float) -> Iterable[tuple[int, Placement]]:
        placement = self._route(request, now_s)
        if placement is not None:
            return ((request, placement),)
        if self._patience_s > 0:
            self._waiting.append((now_s + self._patience_s, request))
        return ()

    def room(self, now_s: float) -> Iterable[tuple[int, Placement]]:
        waiting, placed = self._waiting, []
        while waiting and waiting[0][0] < now_s:
            waiting.popleft()
        while waiting and (placement := self._route(waiting[0][1], now_s)) is not None:
            placed.append((waiting.popleft()[1], placement))
        return placed

    def due_s(self) -> float:
        return inf


def simulate(
    trace: Trace,
    engines: Sequence[Profile],
    dispatch: Dispatch,
    *,
    on_finished: OnFinished | None = None,
) -> SimulationResult:
    """Play a trace onto one fresh engine per profile until the last request has ended.

    dispatch: asked at each arrival and whenever there may be room. A request that it never places
    was shed. A request longer than its engine's context is refused there, and counts as shed. The
    hits in the trace are hits on every engine: who computed the prefix before is not played.
    on_finished: called when a request has ended, after its placement was released.
    At one moment the ends of iterations come first, in the order of the engines, then what is due
    by the clock, then arrivals: room that is made at a moment can be used at that moment.
    Raises InvalidValue if arrivals do not ascend.
    """
    if np.any(np.diff(trace.arrival_s) < 0):
        raise InvalidValue("the arrivals of a trace must ascend")
    simulation = _Simulation(trace, engines, dispatch, on_finished)
    for request, now_s in enumerate(simulation.arrivals_s):
        simulation.advance_to(now_s)
        simulation.place(dispatch.arrive(request, now_s), now_s)
    simulation.advance_to(inf)
    return simulation.result()


class _Simulation:
    """The state of one simulation: engines, and the heap of their next events.

    The heap has one live entry per engine. When an engine's next event moves, a new entry is pushed
    and the engine's version raised; the old entry is known as stale by its version. That is cheaper
    than removing it from the middle of the heap. Per-request state is kept in lists, not in NumPy
    arrays: reading and writing single elements of a list is several times faster.
    """

    def __init__(
        self,
        trace: Trace,
        engines: Sequence[Profile],
        dispatch: Dispatch,
        on_finished: OnFinished | None,
    ) -> None:
        self.arrivals_s: list[float] = trace.arrival_s.tolist()
        # The engine model has no request without a prompt or an answer; traces do.
        self._inputs = [max(1, int(tokens)) for tokens in trace.input_tokens.tolist()]
        self._outputs = [max(1, int(tokens)) for tokens in trace.output_tokens.tolist()]
        self._cached = [int(tokens) for tokens in trace.cached_tokens.tolist()]
        self._engines = [Engine(profile) for profile in engines]
        self._dispatch = dispatch
        self._on_finished = on_finished
        self._placements: dict[int, Placement] = {}
        self._heap: list[tuple[float, int, int]] = []  # (when, engine, version)
        self._due_s: list[float | None] = [None] * len(engines)
        self._version = [0] * len(engines)
        self._first_s = [np.nan] * len(trace)
        self._last_s = [np.nan] * len(trace)
        self._backend = [-1] * len(trace)

    def advance_to(self, until_s: float) -> None:
        """Run all engines, and what is due by the clock, up to and at `until_s`."""
        heap, version, dispatch = self._heap, self._version, self._dispatch
        while True:
            due_s = dispatch.due_s()
            if heap and heap[0][0] <= min(until_s, due_s):
                now_s, backend, known = heappop(heap)
                if known == version[backend]:
                    self._advance(backend, now_s)
            elif due_s <= until_s and due_s < inf:
                self.place(dispatch.room(due_s), due_s)
            else:
                return

    def place(self, placed: Iterable[tuple[int, Placement]], now_s: float) -> None:
        """Submit requests to their engines."""
        for request, placement in placed:
            self._submit(request, placement, now_s)

    def result(self) -> SimulationResult:
        """The outcome of all requests, once all have ended."""
        first_s, last_s = np.array(self._first_s), np.array(self._last_s)
        gaps = np.array(self._outputs, dtype=float) - 1
        with np.errstate(invalid="ignore", divide="ignore"):
            tpot_s = np.where(gaps > 0, (last_s - first_s) / gaps, np.nan)
        return SimulationResult(
            ttft_s=first_s - np.array(self.arrivals_s),
            tpot_s=tpot_s,
            backend=np.array(self._backend, dtype=np.int64),
        )

    def _submit(self, request: int, placement: Placement, now_s: float) -> None:
        """Submit a request to its engine, which refuses what is longer than its context."""
        backend = placement.backend
        engine, inputs, outputs = (
            self._engines[backend], self._inputs[request], self._outputs[request]
        )  # fmt: skip
        if inputs + outputs > engine.longest:
            placement.release()
            self.place(self._dispatch.room(now_s), now_s)
            return
        engine.submit(
            request,
            input_tokens=inputs,
            output_tokens=outputs,
            now_s=now_s,
            cached_tokens=self._cached[request],
        )
        self._placements[request] = placement
        self._backend[request] = backend
        self._schedule(backend)

    def _advance(self, backend: int, now_s: float) -> None:
        """Take an engine's events of this moment, then let others use the room they made."""
        engine = self._engines[backend]
        events = engine.advance(now_s)
        delay_s = engine.delay_s if events else 0.0
        for event in events:
            request: int = event.key  # type: ignore[assignment]
            if type(event) is FirstToken:
                self._first_s[request] = event.at_s + delay_s
                self._placements[request].prefilled()
                continue
            self._last_s[request] = event.at_s + delay_s
            self._placements.pop(request).release()
            if self._on_finished is not None:
                self._on_finished(request, now_s)
        # The entry of this event has been popped: the next one must be pushed even if it is due at
        # the same time.
        self._due_s[backend] = None
        self._schedule(backend)
        if events:
            self.place(self._dispatch.room(now_s), now_s)

    def _schedule(self, backend: int) -> None:
        """Push an engine's next event, unless its live entry stands at the right time already."""
        due_s = self._engines[backend].next_event_s
        if due_s == self._due_s[backend]:
            return
        self._due_s[backend] = due_s
        self._version[backend] += 1
        if due_s is not None:
            heappush(self._heap, (due_s, backend, self._version[backend]))
