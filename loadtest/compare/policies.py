"""Other ways to dispatch, over the same engines, to compare with the gateway's router.

What each does is taken from its authors' papers and code and named at each function. A policy
sees what a load balancer would see: sizes as believed, its own requests in flight, answers when
they end. Knows the simulator's interface and profiles; chance is an argument.
"""

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf

import numpy as np

from planner.engine.profiles import Profile
from planner.program import baselines
from planner.proof.simulate import SimulationResult, simulate
from planner.proof.timeline import FirstCome, OnFinished, Placement, Route
from planner.sizes import FloatArray, Grid, log_edges
from planner.slo import Slo
from planner.traffic.trace import Trace

# Mélange's buckets (arXiv 2404.14527, 6.1 and figure 5): upper edges in tokens.
INPUT_EDGES = (25, 100, 250, 500, 1000, 2000, 4000, 8000, 12000, 16000)
OUTPUT_EDGES = (25, 100, 250, 500, 1000, 2000)
PULL_LIMIT = 1.0  # AIBrix: Σ 1/(X·latency) at which a backend pulls no more
CELLS = Grid(  # of AIBrix's ranking: sizes in one cell differ by a fifth at most
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
    """Both callables of `simulate`. patience_s: how long the policy's own queue keeps a request."""

    route: Route
    on_finished: OnFinished | None = None
    patience_s: float = 0.0


class PolicyPlacement:
    """A request in flight: one more on its backend, and `load` of its load, until released."""

    __slots__ = ("_fleet", "_load", "backend")

    def __init__(self, fleet: "_PolicyFleet", backend: int, load: float) -> None:
        self.backend = backend
        self._fleet = fleet
        self._load = load
        fleet.in_flight[backend] += 1
        fleet.load[backend] += load

    def prefilled(self) -> None:
        """Do nothing: no policy here looks at prefill."""

    def release(self) -> None:
        """The request has ended; called once."""
        fleet, backend = self._fleet, self.backend
        fleet.in_flight[backend] -= 1
        fleet.load[backend] -= self._load
        if fleet.in_flight[backend] == 0:  # sums of floats drift: an idle backend has no load
            fleet.load[backend] = 0.0


class _PolicyFleet:
    """What a policy has in flight, by backend.

    profiles: the different profiles of the case. profile: (K,) index of each backend's profile.
    """

    def __init__(self, case: SimulationCase) -> None:
        self.in_flight = [0] * len(case.engines)
        self.load = [0.0] * len(case.engines)
        self.profiles = tuple(dict.fromkeys(case.engines))
        self.profile = [self.profiles.index(engine) for engine in case.engines]
        self.backends = range(len(case.engines))

    def least_loaded(self, backends: Sequence[int]) -> int:
        """The first of the backends with the least load in flight."""
        return min(backends, key=self.load.__getitem__)

    def place(self, backend: int, load: float = 0.0) -> Placement:
        """Put a request on a backend."""
        return PolicyPlacement(self, backend, load)


def random(case: SimulationCase, rng: np.random.Generator) -> RoutingPolicy:
    """Any backend, each as likely as the others."""
    fleet = _PolicyFleet(case)
    count = len(fleet.backends)
    return RoutingPolicy(route=lambda request, now_s: fleet.place(_random_index(count, rng)))


def round_robin(case: SimulationCase, rng: np.random.Generator) -> RoutingPolicy:
    """One backend after the other."""
    fleet = _PolicyFleet(case)
    count = len(fleet.backends)
    return RoutingPolicy(route=lambda request, now_s: fleet.place(request % count))


def least_request(case: SimulationCase, rng: np.random.Generator) -> RoutingPolicy:
    """The backend with the fewest requests in flight, whatever their size (join the shortest
    queue); the first of equals after a random start, so that ties do not favour one."""
    fleet = _PolicyFleet(case)

    def route(request: int, now_s: float) -> Placement:
        start = _random_index(len(fleet.backends), rng)
        rotated = [*fleet.backends[start:], *fleet.backends[:start]]
        return fleet.place(min(rotated, key=fleet.in_flight.__getitem__))

    return RoutingPolicy(route=route)


def power_of_two(case: SimulationCase, rng: np.random.Generator) -> RoutingPolicy:
    """The less busy, by requests in flight, of two different backends drawn at random.

    Mitzenmacher, The power of two choices in randomized load balancing, 2001.
    """
    fleet = _PolicyFleet(case)
    count = len(fleet.backends)

    def route(request: int, now_s: float) -> Placement:
        first = _random_index(count, rng)
        second = (first + 1 + _random_index(count - 1, rng)) % count if count > 1 else first
        busier = fleet.in_flight[first] > fleet.in_flight[second]
        return fleet.place(second if busier else first)

    return RoutingPolicy(route=route)


def least_load(case: SimulationCase, rng: np.random.Generator) -> RoutingPolicy:
    """The backend with the least Σ 1/n* in flight, the new request included; without queued
    prefill, spill or plan. Backends that cannot hold its SLO only if none can."""
    fleet = _PolicyFleet(case)
    trace, outputs = case.trace, case.output_tokens
    outputs = trace.output_tokens if outputs is None else outputs
    n_star = [
        profile.capacity(trace.input_tokens, outputs, case.slo).n_star for profile in fleet.profiles
    ]
    with np.errstate(divide="ignore"):  # n* is 0 where the SLO cannot be held: an infinite load
        loads: list[list[float]] = (1.0 / np.array(n_star)).T.tolist()

    def route(request: int, now_s: float) -> Placement:
        load = loads[request]
        best = min(
            fleet.backends,
            key=lambda k: (fleet.load[k] + load[fleet.profile[k]], fleet.load[k]),
        )
        # One that holds no SLO anywhere may slow a whole backend down.
        return fleet.place(best, min(load[fleet.profile[best]], 1.0))

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
    throughput = [_corner_rates(profile, case.slo) for profile in fleet.profiles]
    # Answers and their tokens by input bucket; the last entry is for all of them.
    sums = [[0.0, 0.0] for _ in (*INPUT_EDGES, "all")]
    limits: dict[tuple[int, int], list[float]] = {}  # cumulated shares of the backends by bucket
    rows = [_bucket_index(INPUT_EDGES, tokens) for tokens in trace.input_tokens.tolist()]

    def route(request: int, now_s: float) -> Placement:
        row = rows[request]
        count, total = sums[row] if sums[row][0] else sums[-1]
        cell = row, _bucket_index(OUTPUT_EDGES, total / count if count else 1.0)
        if cell not in limits:
            weights = np.array([throughput[profile][cell] for profile in fleet.profile])
            weights = weights if weights.any() else np.ones(len(weights))
            limits[cell] = (np.cumsum(weights) / weights.sum()).tolist()
        # 1 − random() lies in (0, 1]: a backend of weight 0 is never drawn.
        backend = bisect_left(limits[cell], 1.0 - rng.random())
        return fleet.place(min(backend, len(fleet.backends) - 1))

    def on_finished(request: int, now_s: float) -> None:
        for entry in (sums[rows[request]], sums[-1]):
            entry[0] += 1
            entry[1] += float(trace.output_tokens[request])

    return RoutingPolicy(route=route, on_finished=on_finished)


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
    ranking = _GpuRanking(fleet, case.slo)
    histories: dict[int, deque[int]] = {}
    draws: dict[int, int] = {}  # once per request, also if it waits and is asked again

    def route(request: int, now_s: float) -> Placement | None:
        inputs = int(trace.input_tokens[request])
        if request not in draws:
            history = histories.get(inputs.bit_length())
            draws[request] = history[_random_index(len(history), rng)] if history else 1
        ranks = ranking.of(inputs, draws[request])
        for backends, load in ranks:
            best = fleet.least_loaded(backends)
            # An idle backend takes any request, or one larger than the limit would wait for ever.
            if fleet.load[best] + load <= PULL_LIMIT or fleet.in_flight[best] == 0:
                return fleet.place(best, load)
        return None if ranks else fleet.place(fleet.least_loaded(fleet.backends), PULL_LIMIT)

    def on_finished(request: int, now_s: float) -> None:
        octave = int(trace.input_tokens[request]).bit_length()
        history = histories.setdefault(octave, deque(maxlen=WINDOW))
        history.append(max(1, int(trace.output_tokens[request])))

    return RoutingPolicy(route=route, on_finished=on_finished, patience_s=inf)


class _GpuRanking:
    """GPU types by size, fastest first: (its backends, 1/n*), those alone that hold the SLO."""

    def __init__(self, fleet: _PolicyFleet, slo: Slo) -> None:
        centres = np.array([CELLS.centre(cell) for cell in range(CELLS.cells)], dtype=float)
        inputs, outputs = centres.T
        profiles = fleet.profiles
        self._n_star = [p.capacity(inputs, outputs, slo).n_star.tolist() for p in profiles]
        self._latency_s = [_unloaded_s(p, inputs, outputs).tolist() for p in profiles]
        self._members = [
            [k for k in fleet.backends if fleet.profile[k] == index]
            for index in range(len(profiles))
        ]
        self._ranks: dict[int, list[tuple[list[int], float]]] = {}

    def of(self, inputs: int, outputs: int) -> list[tuple[list[int], float]]:
        """(backends, load of the request) for each GPU type that holds the SLO at that size."""
        cell = CELLS.cell(inputs, outputs)
        if cell not in self._ranks:
            able = [index for index, n_star in enumerate(self._n_star) if n_star[cell] > 0]
            able.sort(key=lambda index: self._latency_s[index][cell])
            self._ranks[cell] = [(self._members[i], 1.0 / self._n_star[i][cell]) for i in able]
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


def simulate_policy(name: str, case: SimulationCase, seed: int) -> SimulationResult:
    """Play a case under the policy of that name.

    Mélange's policy looks up its own profile corners: a longer context and the TPOT target alone,
    as its program plans with. The engines that are played stay those of the case.
    """
    known = case
    if name == "melange":
        corners = tuple(baselines.with_corner_context(profile) for profile in case.engines)
        known = replace(case, engines=corners, slo=baselines.without_ttft(case.slo))
    policy = POLICIES[name](known, np.random.default_rng(seed))
    return simulate(
        case.trace,
        case.engines,
        FirstCome(policy.route, policy.patience_s),
        on_finished=policy.on_finished,
    )


def _random_index(count: int, rng: np.random.Generator) -> int:
    """An index below count; several times faster than `Generator.integers`."""
    return int(rng.random() * count)


def _bucket_index(edges: tuple[int, ...], tokens: float) -> int:
    """The first bucket whose upper edge is not below; the last one takes what is above."""
    return min(bisect_left(edges, tokens), len(edges) - 1)


def _corner_rates(profile: Profile, slo: Slo) -> FloatArray:
    """(inputs, outputs) the largest throughput at the upper corner of every bucket, requests/s."""
    rows, columns = np.meshgrid(INPUT_EDGES, OUTPUT_EDGES, indexing="ij")
    return profile.capacity(rows.astype(float), columns.astype(float), slo).rate


def _unloaded_s(profile: Profile, inputs: FloatArray, outputs: FloatArray) -> FloatArray:
    """Seconds that a request takes with a backend to itself."""
    batch, times = np.ones_like(inputs), profile.roofline or profile.times
    # Its context grows from inputs to inputs + outputs while it decodes: half way on average.
    decode_s = times.decode_s(batch, inputs + outputs / 2)
    return np.asarray(times.prefill_s(inputs) + outputs * decode_s)
