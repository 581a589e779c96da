"""A fleet in virtual time: a heap, a clock and a counter around `planner.engine.batching`.

Owns when things happen; whoever routes is a callable handed in, so that what serves is what is
simulated. Reads no clock and draws no random number: the same input gives the same result, byte
for byte. Knows nothing of plans, buckets or gateways.
"""

from collections import deque
from collections.abc import Callable, Sequence
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
    """One request's hold on one backend.

    backend: its index among the engines. Told of the first token once, and released once.
    """

    @property
    def backend(self) -> int: ...

    def prefilled(self) -> None: ...

    def release(self) -> None: ...


Route = Callable[[int, float], Placement | None]  # (request, now_s) -> its hold; None: no room now
Finish = Callable[[int, float], None]  # (request, now_s): its last token is out


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SimulationResult:
    """What became of N requests.

    ttft_s, tpot_s: (N,) seconds, nan where unknown: both of a shed request, TPOT under two output
    tokens. backend: (N,) index of the engine that served it, -1 if none did.
    """

    ttft_s: FloatArray
    tpot_s: FloatArray
    backend: IntArray

    def __len__(self) -> int:
        return len(self.backend)

    def met(self, slo: Slo) -> NDArray[np.bool_]:
        """(N,) whether each request met the promise; a shed one did not."""
        # A comparison with nan is false: right for TTFT, the wrong way round for TPOT.
        return (self.ttft_s <= slo.ttft_s) & ~(self.tpot_s > slo.tpot_s)

    def attainment(self, slo: Slo, *, skip: float = 0.1) -> float:
        """The share that met the promise, without the first `skip` of them: the fleet fills up."""
        met = self.met(slo)[ceil(skip * len(self)) :]
        if not len(met):
            raise InvalidValue(f"no requests left of {len(self)} after skipping {skip}")
        return float(met.mean())


def simulate(
    trace: Trace,
    engines: Sequence[Profile],
    route: Route,
    *,
    finished: Finish | None = None,
    patience_s: float = 0.0,
    hold_s: FloatArray | None = None,
) -> SimulationResult:
    """Plays a trace onto one fresh engine per profile until the last request has ended.

    route: asked at each arrival. What finds no room waits, first come, first served, up to
    patience_s, asking again whenever a request ends; then it is shed. hold_s: (N,) so long each
    waits in any case, and asks once more when that is over. A request longer than its engine can
    hold is refused there: shed as well. finished: told of each request that ends, after its hold is
    released. What happens at the same moment happens in the order: ends of iterations,
    by engine, then who was held, then arrivals. Raises InvalidValue if the arrivals do not ascend.
    """
    if np.any(np.diff(trace.arrival_s) < 0):
        raise InvalidValue("the arrivals of a trace must ascend")
    simulation = _Simulation(trace, engines, route, finished, patience_s, hold_s)
    for request, now_s in enumerate(simulation.arrivals_s):
        simulation.play(now_s)
        simulation.arrive(request, now_s)
    simulation.play(inf)
    return simulation.result()


class _Simulation:
    """The state of one simulation: one heap entry per engine, stale ones known by their version."""

    def __init__(
        self,
        trace: Trace,
        engines: Sequence[Profile],
        route: Route,
        finished: Finish | None,
        patience_s: float,
        hold_s: FloatArray | None,
    ) -> None:
        self.arrivals_s: list[float] = trace.arrival_s.tolist()
        self._inputs = [max(1, int(tokens)) for tokens in trace.input_tokens.tolist()]
        self._outputs = [max(1, int(tokens)) for tokens in trace.output_tokens.tolist()]
        self._engines = [Engine(profile) for profile in engines]
        self._route = route
        self._finished = finished
        self._hold_s = [0.0] * len(trace) if hold_s is None else hold_s.tolist()
        self._patience_s = max(patience_s, *self._hold_s, 0.0)
        self._holds: dict[int, Placement] = {}
        self._waiting: deque[int] = deque()
        self._held: list[tuple[float, int]] = []  # a heap: until when, and who is held back
        self._heap: list[tuple[float, int, int]] = []  # when, engine, version
        self._due_s: list[float | None] = [None] * len(engines)
        self._version = [0] * len(engines)
        self._first_s = [np.nan] * len(trace)
        self._last_s = [np.nan] * len(trace)
        self._backend = [-1] * len(trace)

    def play(self, until_s: float) -> None:
        """Everything that the engines do up to and at `until_s`, and who is held until then."""
        held = self._held
        while held and held[0][0] <= until_s:
            now_s, request = heappop(held)
            self._play(now_s)
            if request in self._waiting and self._start(request, now_s):
                self._waiting.remove(request)
        self._play(until_s)

    def _play(self, until_s: float) -> None:
        heap, version = self._heap, self._version
        while heap and heap[0][0] <= until_s:
            now_s, backend, known = heappop(heap)
            if known == version[backend]:
                self._advance(backend, now_s)

    def arrive(self, request: int, now_s: float) -> None:
        if not self._start(request, now_s) and self._patience_s > 0:
            self._waiting.append(request)
            if self._hold_s[request] > 0:
                until_s = self.arrivals_s[request] + self._hold_s[request]
                heappush(self._held, (until_s, request))

    def result(self) -> SimulationResult:
        first_s, last_s = np.array(self._first_s), np.array(self._last_s)
        gaps = np.array(self._outputs, dtype=float) - 1
        with np.errstate(invalid="ignore", divide="ignore"):
            tpot_s = np.where(gaps > 0, (last_s - first_s) / gaps, np.nan)
        return SimulationResult(
            ttft_s=first_s - np.array(self.arrivals_s),
            tpot_s=tpot_s,
            backend=np.array(self._backend, dtype=np.int64),
        )

    def _start(self, request: int, now_s: float) -> bool:
        """Routes a request and submits it; whether it found room (or is too long for it)."""
        hold = self._route(request, now_s)
        if hold is None:
            return False
        backend = hold.backend
        engine, inputs, outputs = (
            self._engines[backend], self._inputs[request], self._outputs[request]
        )  # fmt: skip
        if inputs + outputs > engine.longest:
            hold.release()
            return True
        engine.submit(request, input_tokens=inputs, output_tokens=outputs, now_s=now_s)
        self._holds[request] = hold
        self._backend[request] = backend
        self._schedule(backend)
        return True

    def _advance(self, backend: int, now_s: float) -> None:
        ended = False
        for event in self._engines[backend].advance(now_s):
            request: int = event.key  # type: ignore[assignment]
            if type(event) is FirstToken:
                self._first_s[request] = event.at_s
                self._holds[request].prefilled()
                continue
            self._last_s[request] = event.at_s
            self._holds.pop(request).release()
            ended = True
            if self._finished is not None:
                self._finished(request, now_s)
        self._due_s[backend] = None
        self._schedule(backend)
        if ended and self._waiting:
            self._retry(now_s)

    def _schedule(self, backend: int) -> None:
        """One live entry per engine: a new one only where its next event has moved."""
        due_s = self._engines[backend].next_event_s
        if due_s == self._due_s[backend]:
            return
        self._due_s[backend] = due_s
        self._version[backend] += 1
        if due_s is not None:
            heappush(self._heap, (due_s, backend, self._version[backend]))

    def _retry(self, now_s: float) -> None:
        """The queue's head tries again; who finds room wakes the next."""
        waiting = self._waiting
        while waiting and self.arrivals_s[waiting[0]] + self._patience_s < now_s:
            waiting.popleft()
        while waiting and self._start(waiting[0], now_s):
            waiting.popleft()
