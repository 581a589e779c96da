"""Other ways to dispatch, over the same engines, to compare with the gateway's router.

What each does is taken from its authors' papers and code and named at each function. They see what
a balancer would see: sizes as believed, their own requests in flight, answers when they end. Knows
the simulator's interface and profiles; chance is an argument.
"""

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf

import numpy as np

from planner.engine.profiles import Profile
from planner.program import baselines
from planner.proof.simulate import OnFinished, Placement, Route, SimulationResult, simulate
from planner.sizes import FloatArray, Grid, log_edges
from planner.slo import Slo
from planner.traffic.trace import Trace

# Mélange's buckets (arXiv 2404.14527, 6.1 and figure 5): upper edges in tokens.
INPUTS = (25, 100, 250, 500, 1000, 2000, 4000, 8000, 12000, 16000)
OUTPUTS = (25, 100, 250, 500, 1000, 2000)
FULL = 1.0  # AIBrix: Σ 1/(X·latency) at which a backend pulls no more
CELLS = Grid(  # sizes in one cell differ by a fifth at most
    input_edges=log_edges(1, 2**17, per_octave=4), output_edges=log_edges(1, 2**15, per_octave=4)
)
WINDOW = 300  # lengths that AIBrix's histogram of one input size remembers here


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SimulationCase:
    """What policies are played on.

    engines: (K,) one profile per backend, as given to `simulate`. slo: what throughputs are for.
    output_tokens: (N,) outputs as `least_load` believes them; `None`: as they will be.
    """

    trace: Trace
    engines: tuple[Profile, ...]
    slo: Slo
    output_tokens: FloatArray | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingPolicy:
    """Both callables of `simulate`; patience_s: how long its own queue keeps a request."""

    route: Route
    finished: OnFinished | None = None
    patience_s: float = 0.0


class SlotPlacement:
    """A request in flight: one more on its backend, and `slot` of its load, until released."""

    __slots__ = ("_fleet", "_slot", "backend")

    def __init__(self, fleet: "_PolicyFleet", backend: int, slot: float) -> None:
        self.backend = backend
        self._fleet = fleet
        self._slot = slot
        fleet.in_flight[backend] += 1
        fleet.load[backend] += slot

    def prefilled(self) -> None:
        """Nobody here looks at prefill."""

    def release(self) -> None:
        fleet, backend = self._fleet, self.backend
        fleet.in_flight[backend] -= 1
        fleet.load[backend] -= self._slot
        if fleet.in_flight[backend] == 0:  # sums of floats drift
            fleet.load[backend] = 0.0


class _PolicyFleet:
    """What a policy has in flight by backend, and the kinds of backend there are."""

    def __init__(self, case: SimulationCase) -> None:
        self.in_flight = [0] * len(case.engines)
        self.load = [0.0] * len(case.engines)
        self.kinds = tuple(dict.fromkeys(case.engines))
        self.kind = [self.kinds.index(engine) for engine in case.engines]
        self.all = range(len(case.engines))

    def least_loaded(self, backends: Sequence[int]) -> int:
        return min(backends, key=self.load.__getitem__)

    def hold(self, backend: int, slot: float = 0.0) -> Placement:
        return SlotPlacement(self, backend, slot)


def random(case: SimulationCase, rng: np.random.Generator) -> RoutingPolicy:
    """Any backend, each as likely as the others."""
    fleet = _PolicyFleet(case)
    return RoutingPolicy(route=lambda request, now_s: fleet.hold(_any(len(fleet.all), rng)))


def round_robin(case: SimulationCase, rng: np.random.Generator) -> RoutingPolicy:
    """One backend after the other."""
    fleet = _PolicyFleet(case)
    return RoutingPolicy(route=lambda request, now_s: fleet.hold(request % len(fleet.all)))


def least_request(case: SimulationCase, rng: np.random.Generator) -> RoutingPolicy:
    """The backend with the fewest requests in flight, whatever their size (join the shortest
    queue); the first of equals after a random start, so that ties do not favour one."""
    fleet = _PolicyFleet(case)

    def route(request: int, now_s: float) -> Placement:
        start = _any(len(fleet.all), rng)
        turned = [*fleet.all[start:], *fleet.all[:start]]
        return fleet.hold(min(turned, key=fleet.in_flight.__getitem__))

    return RoutingPolicy(route=route)


def power_of_two(case: SimulationCase, rng: np.random.Generator) -> RoutingPolicy:
    """The less busy, by requests in flight, of two backends drawn at random (Mitzenmacher)."""
    fleet = _PolicyFleet(case)
    count = len(fleet.all)

    def route(request: int, now_s: float) -> Placement:
        one = _any(count, rng)
        two = (one + 1 + _any(count - 1, rng)) % count if count > 1 else one
        return fleet.hold(one if fleet.in_flight[one] <= fleet.in_flight[two] else two)

    return RoutingPolicy(route=route)


def least_load(case: SimulationCase, rng: np.random.Generator) -> RoutingPolicy:
    """The backend with the least Σ 1/n* in flight, the new request included; without queued
    prefill, spill or plan. Backends that cannot hold its SLO only if none can."""
    fleet = _PolicyFleet(case)
    trace, outputs = case.trace, case.output_tokens
    outputs = trace.output_tokens if outputs is None else outputs
    n_star = [kind.capacity(trace.input_tokens, outputs, case.slo).n_star for kind in fleet.kinds]
    with np.errstate(divide="ignore"):
        slots: list[list[float]] = (1.0 / np.array(n_star)).T.tolist()

    def route(request: int, now_s: float) -> Placement:
        slot = slots[request]
        best = min(fleet.all, key=lambda k: (fleet.load[k] + slot[fleet.kind[k]], fleet.load[k]))
        # One that holds no SLO anywhere may slow a whole backend down.
        return fleet.hold(best, min(slot[fleet.kind[best]], 1.0))

    return RoutingPolicy(route=route)


def melange(case: SimulationCase, rng: np.random.Generator) -> RoutingPolicy:
    """Mélange's balancer (arXiv 2404.14527, appendix A.2): weighted random over all backends.

    The output is taken for the running mean of all outputs seen in the input's bucket, which fixes
    the size's bucket; a backend's weight is its GPU's largest throughput at that bucket's upper
    corner. Neither queues nor the program's own assignment count. Unstated there, so ours: the mean
    of all answers for an input bucket without one, the first output bucket before any answer, equal
    weights where no backend holds the SLO.
    """
    fleet, trace = _PolicyFleet(case), case.trace
    tput = [_corners(kind, case.slo) for kind in fleet.kinds]
    sums = [[0.0, 0.0] for _ in (*INPUTS, "all")]  # answers and their tokens by input bucket
    limits: dict[tuple[int, int], list[float]] = {}
    rows = [_bucket(INPUTS, tokens) for tokens in trace.input_tokens.tolist()]

    def route(request: int, now_s: float) -> Placement:
        row = rows[request]
        count, total = sums[row] if sums[row][0] else sums[-1]
        cell = row, _bucket(OUTPUTS, total / count if count else 1.0)
        if cell not in limits:
            weights = np.array([tput[kind][cell] for kind in fleet.kind])
            weights = weights if weights.any() else np.ones(len(weights))
            limits[cell] = (np.cumsum(weights) / weights.sum()).tolist()
        backend = bisect_left(limits[cell], 1.0 - rng.random())
        return fleet.hold(min(backend, len(fleet.all) - 1))

    def finished(request: int, now_s: float) -> None:
        for entry in (sums[rows[request]], sums[-1]):
            entry[0] += 1
            entry[1] += float(trace.output_tokens[request])

    return RoutingPolicy(route=route, finished=finished)


def aibrix(case: SimulationCase, rng: np.random.Generator) -> RoutingPolicy:
    """AIBrix's `slo` routing (vllm-project/aibrix, `pkg/plugins/gateway/queue/slo_queue.go`).

    GPU types by the profile's mean latency at the request's size, fastest first and blind to cost;
    a backend pulls while Σ 1/(X·mean latency) ≤ 1, which by Little's law is Σ 1/n*; what no
    backend pulls waits in the gateway. The output is a random draw from the histogram of its
    log₂ input, one token before it has any (`pkg/cache/output_predictor.go`). Ours, where a
    profile of other origin stands in for theirs: types are ranked by a request's latency alone (at
    the SLO's edge all are equally slow), the queue is first come, first served, and a size whose
    SLO no type holds goes to the least loaded.
    """
    fleet, trace = _PolicyFleet(case), case.trace
    ranking = _Ranking(fleet, case.slo)
    seen: dict[int, deque[int]] = {}
    drawn: dict[int, int] = {}  # once per request, also if it waits

    def route(request: int, now_s: float) -> Placement | None:
        inputs = int(trace.input_tokens[request])
        if request not in drawn:
            history = seen.get(inputs.bit_length())
            drawn[request] = history[_any(len(history), rng)] if history else 1
        ranks = ranking.of(inputs, drawn[request])
        for backends, slot in ranks:
            best = fleet.least_loaded(backends)
            if fleet.load[best] + slot <= FULL or fleet.in_flight[best] == 0:
                return fleet.hold(best, slot)
        return None if ranks else fleet.hold(fleet.least_loaded(fleet.all), FULL)

    def finished(request: int, now_s: float) -> None:
        octave = int(trace.input_tokens[request]).bit_length()
        history = seen.setdefault(octave, deque(maxlen=WINDOW))
        history.append(max(1, int(trace.output_tokens[request])))

    return RoutingPolicy(route=route, finished=finished, patience_s=inf)


class _Ranking:
    """GPU types by size, fastest first: (its backends, 1/n*) where its SLO holds."""

    def __init__(self, fleet: _PolicyFleet, slo: Slo) -> None:
        centres = np.array([CELLS.centre(cell) for cell in range(CELLS.cells)], dtype=float)
        inputs, outputs = centres.T
        self._n_star = [kind.capacity(inputs, outputs, slo).n_star.tolist() for kind in fleet.kinds]
        self._latency_s = [_alone_s(kind, inputs, outputs).tolist() for kind in fleet.kinds]
        kinds = range(len(fleet.kinds))
        self._members = [[k for k in fleet.all if fleet.kind[k] == kind] for kind in kinds]
        self._ranks: dict[int, list[tuple[list[int], float]]] = {}

    def of(self, inputs: int, outputs: int) -> list[tuple[list[int], float]]:
        cell = CELLS.cell(inputs, outputs)
        if cell not in self._ranks:
            able = [kind for kind, n_star in enumerate(self._n_star) if n_star[cell] > 0]
            able.sort(key=lambda kind: self._latency_s[kind][cell])
            self._ranks[cell] = [(self._members[k], 1.0 / self._n_star[k][cell]) for k in able]
        return self._ranks[cell]


POLICIES: Mapping[str, Callable[[SimulationCase, np.random.Generator], RoutingPolicy]] = {
    "random": random,
    "round-robin": round_robin,
    "power-of-two": power_of_two,
    "least-request": least_request,
    "least-load": least_load,
    "melange": melange,
    "aibrix-slo": aibrix,
}


def simulated(name: str, case: SimulationCase, seed: int) -> SimulationResult:
    """Plays a scene under the policy of that name; Mélange's looks up its own profile corners."""
    seen = case
    if name == "melange":
        corners = tuple(baselines.with_corner_context(profile) for profile in case.engines)
        seen = replace(case, engines=corners, slo=baselines.without_ttft(case.slo))
    policy = POLICIES[name](seen, np.random.default_rng(seed))
    return simulate(
        case.trace,
        case.engines,
        policy.route,
        on_finished=policy.finished,
        patience_s=policy.patience_s,
    )


def _any(count: int, rng: np.random.Generator) -> int:
    """A number below count; several times faster than `Generator.integers`."""
    return int(rng.random() * count)


def _bucket(edges: tuple[int, ...], tokens: float) -> int:
    """The first bucket whose upper edge is not below; the last one takes what is above."""
    return min(bisect_left(edges, tokens), len(edges) - 1)


def _corners(profile: Profile, slo: Slo) -> FloatArray:
    """(inputs, outputs) the largest throughput at the upper corner of every bucket."""
    rows, columns = np.meshgrid(INPUTS, OUTPUTS, indexing="ij")
    return profile.capacity(rows.astype(float), columns.astype(float), slo).rate


def _alone_s(profile: Profile, inputs: FloatArray, outputs: FloatArray) -> FloatArray:
    """Seconds that a request takes with a backend to itself."""
    one = np.ones_like(inputs)
    decode_s = profile.roofline.decode_s(one, inputs + outputs / 2)
    return np.asarray(profile.roofline.prefill_s(inputs) + outputs * decode_s)
