"""What dispatch alone is worth: one plan with its shares kept, policies swapped, load rising.

Owns the search for the largest load at which a fleet keeps its promise under each policy. Which
pool serves a request is the plan's word for everybody, unless asked otherwise; the policies are in
`compare/policies`, the gateway's own is its router, rehearsed. Knows nothing of commands.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil

import msgspec
import numpy as np

from gateway.config.load import Loaded
from gateway.rehearsal.certify import SKIP
from gateway.rehearsal.play import rehearse
from gateway.rehearsal.traffic import Process, ReplayedTraffic, TrafficSample
from gateway.routing.table import compile_table
from loadtest.compare.comparison import FRESH, Case, Say, case
from loadtest.compare.policies import SimulationCase, simulated
from planner.engine.profiles import Profile
from planner.errors import InvalidValue
from planner.model.demand import Demand
from planner.model.plan import Plan
from planner.model.pool import Pool
from planner.program import solve
from planner.sizes import IntArray
from planner.slo import Slo
from planner.traffic.trace import Trace

CUVEE, CHANCE = "cuvee", "random"
STEP = 0.005  # of the fluid capacity: how finely loads are told apart
STEPS = 256  # a power of two, so that loads up to 1.28 are told apart by eight plays
PLAY_S = 300.0  # of traffic at the fluid capacity
REQUESTS = 3000  # of one play at the least


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fixed:
    """One fleet with the shares of one plan, and the traffic that it meets.

    capacity: requests/s at which the mean load `M/y` of its fullest pool is 1. left_out: the share
    of the trace's requests whose promise no pool of the fleet can keep, which are not played.
    """

    plan: Plan
    pools: tuple[Pool, ...]
    traffic: ReplayedTraffic
    capacity: float
    left_out: float

    @property
    def slo(self) -> Slo:
        return self.plan.buckets.classes[0].slo


@dataclass(frozen=True, slots=True, kw_only=True)
class Usable:
    """The largest load under one policy, in fluid capacities: (S,) one per seed, 0 if there is
    none. ratio: (S,) the same over that of random dispatch, `None` where that is 0."""

    policy: str
    load: tuple[float, ...]
    ratio: tuple[float | None, ...]


def fixed(
    loaded: Loaded,
    trace: Trace,
    *,
    rate: float | None = None,
    fleet: Mapping[str, int] | None = None,
    process: Process = "poisson",
    requests: int | None = None,
) -> Fixed:
    """The cheapest fleet for a rate, or a given one with shares for as much as it can take.

    fleet: backends by pool name. Raises InvalidValue if a pool is unknown, or the fleet can serve
    nothing.
    """
    model, slo = loaded.buckets.classes[0].model, loaded.buckets.classes[0].slo
    pools = tuple(p for p in loaded.pools if p.model == model and (not fleet or p.name in fleet))
    if fleet and len(pools) < len(fleet):
        raise InvalidValue(f"the pools of {model} are {', '.join(_names(loaded, model))}")
    kept = _promised(trace, pools, slo)
    loaded = msgspec.structs.replace(loaded, pools=pools)
    asked = case(loaded, kept, rate=rate, process=process, requests=1)
    plan, capacity = _full(asked, fleet) if fleet else _cheapest(asked)
    long = requests or max(REQUESTS, round(PLAY_S * capacity))
    return Fixed(
        plan=plan,
        pools=asked.loaded.pools,
        traffic=replace(asked.traffic, rate=capacity, requests=long),
        capacity=capacity,
        left_out=1 - len(kept) / len(trace),
    )


def _cheapest(asked: Case) -> tuple[Plan, float]:
    """The program's own plan, and its capacity."""
    plan = solve.provision(asked.demand, asked.loaded.pools)
    return plan, _capacity(plan, asked.demand)


def _full(asked: Case, fleet: Mapping[str, int]) -> tuple[Plan, float]:
    """The shares that keep a fleet's peak least at about its capacity, and what that is then."""
    demand, pools = asked.demand, asked.loaded.pools
    counts = tuple(fleet[pool.name] for pool in pools)
    demand = demand.scaled_to(_capacity(solve.assign(demand, pools, counts), demand))
    plan = solve.assign(demand, pools, counts)
    return plan, _capacity(plan, demand)


def promised(loaded: Loaded, ttft_s: float | None, tpot_s: float | None) -> Loaded:
    """The configuration with other targets for the first model's first class, where given."""
    first, *others = loaded.buckets.classes
    slo = replace(first.slo, ttft_s=ttft_s or first.slo.ttft_s, tpot_s=tpot_s or first.slo.tpot_s)
    buckets = replace(loaded.buckets, classes=(replace(first, slo=slo), *others))
    return msgspec.structs.replace(loaded, buckets=buckets)


def usable(
    given: Fixed,
    policies: Sequence[str],
    *,
    seeds: int,
    across: bool = False,
    told: Say = lambda _: None,
) -> list[Usable]:
    """Every policy's usable load on the same fresh draws, and over random dispatch's.

    across: the others choose among all backends; their shares are then their own.
    """
    found: dict[str, tuple[float, ...]] = {}
    for policy in dict.fromkeys((CHANCE, *policies)):
        loads = []
        for seed in range(FRESH, FRESH + seeds):
            told(f"{policy}, seed {seed - FRESH + 1} of {seeds}")
            drawn = given.traffic.draw(seed)
            loads.append(edge(_attained(given, policy, drawn, seed, across), given.slo.attainment))
        found[policy] = tuple(loads)
    chance = found[CHANCE]
    return [
        Usable(
            policy=policy,
            load=found[policy],
            ratio=tuple(a / b if b else None for a, b in zip(found[policy], chance, strict=True)),
        )
        for policy in policies
    ]


def edge(attained: Callable[[float], float], target: float) -> float:
    """The largest load below `STEP·STEPS`, to a `STEP`, that attains the target; 0 if none does.

    attained: attainment by load, which falls.
    """
    low, high = 0, STEPS
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if attained(middle * STEP) >= target else (low, middle)
    return low * STEP


def turns(plan: Plan, pools: tuple[Pool, ...], drawn: TrafficSample) -> IntArray:
    """(N,) the pool of each request by the plan's shares of its bucket, in turn as the router's:
    smooth weighted round robin."""
    slices = compile_table(plan, pools).slices
    credit = np.zeros((plan.buckets.count, len(pools)))
    grid, found = plan.buckets.grid, []
    for inputs, outputs, _ in drawn.believed.tolist():
        bucket = grid.cell(int(inputs), int(outputs))
        for pool, weight in slices[bucket]:
            credit[bucket, pool] += weight
        best = max((p for p, _ in slices[bucket]), key=lambda p: float(credit[bucket, p]))
        credit[bucket, best] -= 1.0
        found.append(best)
    return np.array(found, dtype=np.int64)


def _attained(
    given: Fixed, policy: str, drawn: TrafficSample, seed: int, across: bool
) -> Callable[[float], float]:
    """Attainment by load: the draw's own arrivals, faster or slower."""

    def faster(load: float) -> Trace:
        return replace(drawn.trace, arrival_s=drawn.trace.arrival_s / load)

    def ours(load: float) -> float:
        played = rehearse(faster(load), given.plan, given.pools, believed=drawn.believed)
        return played.attainment(given.slo, skip=SKIP)

    groups = [] if policy == CUVEE else list(_groups(given, drawn, across))

    def theirs(load: float) -> float:
        trace, met = faster(load), np.zeros(len(drawn.trace), dtype=np.bool_)
        for rows, engines in groups:
            case = SimulationCase(
                trace=trace.take(rows),
                engines=engines,
                slo=given.slo,
                output_tokens=drawn.believed[rows, 1],
            )
            met[rows] = simulated(policy, case, seed).met(given.slo)
        return float(met[ceil(SKIP * len(met)) :].mean())

    return ours if policy == CUVEE else theirs


def _groups(
    given: Fixed, drawn: TrafficSample, across: bool
) -> Iterator[tuple[IntArray, tuple[Profile, ...]]]:
    """Every pool's requests, by row, and its backends; across: all requests and all backends."""
    each = [(p.profile,) * n for p, n in zip(given.pools, given.plan.backends, strict=True)]
    if across:
        yield np.arange(len(drawn.trace)), tuple(engine for pool in each for engine in pool)
        return
    pool = turns(given.plan, given.pools, drawn)
    for p in np.unique(pool).tolist():
        yield np.flatnonzero(pool == p), each[p]


def _capacity(plan: Plan, demand: Demand) -> float:
    """Requests/s at which the fullest pool's mean load is 1, the shares as they are."""
    if plan.unserved:
        raise InvalidValue(f"the fleet cannot serve it all: {plan.unserved[0].reason}")
    fullest = max(m / y for m, y in zip(plan.load, plan.backends, strict=True) if y)
    return demand.total_rate / fullest


def _promised(trace: Trace, pools: tuple[Pool, ...], slo: Slo) -> Trace:
    """The requests whose size some pool can serve within the promise."""
    held = [p.profile.capacity(trace.input_tokens, trace.output_tokens, slo).rate for p in pools]
    rows = np.flatnonzero(np.array(held).max(axis=0) > 0)
    if not len(rows):
        raise InvalidValue("no pool can keep the promise of any request")
    return trace.take(rows)


def _names(loaded: Loaded, model: str) -> list[str]:
    return [pool.name for pool in loaded.pools if pool.model == model]
