"""What dispatch alone is worth: one plan with its shares kept, policies swapped, load rising.

Owns the search for the largest load at which a fleet keeps its SLO under each policy. The plan says
which pool serves a request under every policy, unless asked otherwise; the policies are in
`compare/policies`, the gateway's own is its router in virtual time. Knows nothing of commands.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil

import msgspec
import numpy as np

from gateway.config.load import Loaded
from gateway.rehearsal.play import rehearse
from gateway.rehearsal.traffic import Process, ReplayedTraffic, TrafficSample
from gateway.routing.table import compile_table
from loadtest.compare.comparison import FRESH_SEED, ComparisonCase, Progress, build_case
from loadtest.compare.policies import SimulationCase, simulate_policy
from planner.engine.profiles import Profile
from planner.errors import InvalidValue
from planner.model.demand import Demand
from planner.model.plan import Plan
from planner.model.pool import Pool
from planner.program import solve
from planner.sizes import IntArray
from planner.slo import Slo
from planner.traffic.trace import Trace

CUVEE, RANDOM = "cuvee", "random"
STEP = 0.005  # of the fluid capacity: how finely loads are told apart
STEPS = 256  # a power of two, so that loads up to 1.28 are told apart by eight plays
PLAY_S = 300.0  # of traffic at the fluid capacity
REQUESTS = 3000  # of one play at the least
SKIP = 0.1  # share of the requests that is not counted, because the fleet starts empty


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FixedFleet:
    """One fleet with the shares of one plan, and the traffic that it meets.

    capacity: requests/s at which the mean load `M/y` of its fullest pool is 1. left_out: the share
    of the trace's requests whose SLO no pool of the fleet can keep, which are not played.
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
class UsableLoad:
    """The largest load under one policy that keeps the SLO.

    load: (S,) per seed, in fluid capacities of the fleet; 0 where no load keeps it. ratio: (S,) the
    same over that of random dispatch, `None` where that is 0.
    """

    policy: str
    load: tuple[float, ...]
    ratio: tuple[float | None, ...]


def with_targets(loaded: Loaded, ttft_s: float | None, tpot_s: float | None) -> Loaded:
    """The configuration with other targets for the first model's first class, where given."""
    first, *others = loaded.buckets.classes
    slo = replace(first.slo, ttft_s=ttft_s or first.slo.ttft_s, tpot_s=tpot_s or first.slo.tpot_s)
    buckets = replace(loaded.buckets, classes=(replace(first, slo=slo), *others))
    return msgspec.structs.replace(loaded, buckets=buckets)


def fix_fleet(
    loaded: Loaded,
    trace: Trace,
    *,
    rate: float | None = None,
    backends: Mapping[str, int] | None = None,
    process: Process = "poisson",
    requests: int | None = None,
) -> FixedFleet:
    """The cheapest fleet for a rate, or a given one with shares for as much as it can take.

    rate: requests/s, `None` for the trace's own. backends: counts by pool name; `None`: plan them.
    requests: of one play. Raises InvalidValue if a pool is unknown or the fleet can serve nothing.
    """
    model, slo = loaded.buckets.classes[0].model, loaded.buckets.classes[0].slo
    pools = tuple(
        pool
        for pool in loaded.pools
        if pool.model == model and (not backends or pool.name in backends)
    )
    if backends and len(pools) < len(backends):
        names = [pool.name for pool in loaded.pools if pool.model == model]
        raise InvalidValue(f"the pools of {model} are {', '.join(names)}")
    servable = _servable(trace, pools, slo)
    loaded = msgspec.structs.replace(loaded, pools=pools)
    case = build_case(loaded, servable, rate=rate, process=process, requests=1)
    plan, capacity = _plan_for(case, backends) if backends else _cheapest_plan(case)
    return FixedFleet(
        plan=plan,
        pools=case.loaded.pools,
        traffic=replace(
            case.traffic,
            rate=capacity,
            requests=requests or max(REQUESTS, round(PLAY_S * capacity)),
        ),
        capacity=capacity,
        left_out=1 - len(servable) / len(trace),
    )


def _cheapest_plan(case: ComparisonCase) -> tuple[Plan, float]:
    """The program's own plan, and its fluid capacity."""
    plan = solve.provision(case.demand, case.loaded.pools)
    return plan, _fluid_capacity(plan, case.demand)


def _plan_for(case: ComparisonCase, backends: Mapping[str, int]) -> tuple[Plan, float]:
    """The shares of least peak load for a fleet, and its fluid capacity under them.

    Planned twice: the shares depend on the demand, so the second plan is for about the capacity
    that the first one shows.
    """
    demand, pools = case.demand, case.loaded.pools
    counts = tuple(backends[pool.name] for pool in pools)
    demand = demand.scaled_to(_fluid_capacity(solve.assign(demand, pools, counts), demand))
    plan = solve.assign(demand, pools, counts)
    return plan, _fluid_capacity(plan, demand)


def _fluid_capacity(plan: Plan, demand: Demand) -> float:
    """Requests/s at which the fullest pool's mean load is 1, the shares as they are."""
    if plan.unserved:
        raise InvalidValue(f"the fleet cannot serve it all: {plan.unserved[0].reason}")
    fullest = max(m / y for m, y in zip(plan.load, plan.backends, strict=True) if y)
    return demand.total_rate / fullest


def _servable(trace: Trace, pools: tuple[Pool, ...], slo: Slo) -> Trace:
    """The requests whose size some pool can serve within the SLO. Raises InvalidValue if none."""
    rates = [p.profile.capacity(trace.input_tokens, trace.output_tokens, slo).rate for p in pools]
    rows = np.flatnonzero(np.array(rates).max(axis=0) > 0)
    if not len(rows):
        raise InvalidValue("no pool can keep the promise of any request")
    return trace.take(rows)


def usable_loads(
    fleet: FixedFleet,
    policies: Sequence[str],
    *,
    seeds: int,
    across: bool = False,
    progress: Progress = lambda _: None,
) -> list[UsableLoad]:
    """Every policy's usable load on the same fresh draws, and over random dispatch's.

    across: policies but the gateway's choose among all backends, and ignore the plan's shares.
    """
    loads: dict[str, tuple[float, ...]] = {}
    for policy in dict.fromkeys((RANDOM, *policies)):
        by_seed = []
        for seed in range(FRESH_SEED, FRESH_SEED + seeds):
            progress(f"{policy}, seed {seed - FRESH_SEED + 1} of {seeds}")
            sample = fleet.traffic.draw(seed)
            attainment = _attainment_at(fleet, policy, sample, seed, across)
            by_seed.append(largest_load(attainment, fleet.slo.attainment))
        loads[policy] = tuple(by_seed)
    return [
        UsableLoad(
            policy=policy,
            load=loads[policy],
            ratio=tuple(
                own / random if random else None
                for own, random in zip(loads[policy], loads[RANDOM], strict=True)
            ),
        )
        for policy in policies
    ]


def largest_load(attainment: Callable[[float], float], target: float) -> float:
    """The largest load below `STEP·STEPS`, to a `STEP`, that attains the target; 0 if none does.

    attainment: by load, falling, so that bisection finds the edge.
    """
    low, high = 0, STEPS
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if attainment(middle * STEP) >= target else (low, middle)
    return low * STEP


def assign_pools(plan: Plan, pools: tuple[Pool, ...], sample: TrafficSample) -> IntArray:
    """(N,) the pool of each request, by the plan's shares of its bucket.

    Smooth weighted round robin, as the router: each bucket's shares are exact to one request.
    """
    slices = compile_table(plan, pools).slices
    credit = np.zeros((plan.buckets.count, len(pools)))
    grid, assigned = plan.buckets.grid, []
    for inputs, outputs, _ in sample.estimated.tolist():
        bucket = grid.cell(int(inputs), int(outputs))
        for pool, weight in slices[bucket]:
            credit[bucket, pool] += weight
        best = max((p for p, _ in slices[bucket]), key=lambda p: float(credit[bucket, p]))
        credit[bucket, best] -= 1.0
        assigned.append(best)
    return np.array(assigned, dtype=np.int64)


def _attainment_at(
    fleet: FixedFleet, policy: str, sample: TrafficSample, seed: int, across: bool
) -> Callable[[float], float]:
    """Attainment by load. The sample's own arrivals come faster or slower, so draws stay alike."""

    def at_load(load: float) -> Trace:
        return replace(sample.trace, arrival_s=sample.trace.arrival_s / load)

    def gateway(load: float) -> float:
        played = rehearse(at_load(load), fleet.plan, fleet.pools, estimated=sample.estimated)
        return played.attainment(fleet.slo, skip=SKIP)

    groups = [] if policy == CUVEE else list(_backend_groups(fleet, sample, across))

    def baseline(load: float) -> float:
        trace, met = at_load(load), np.zeros(len(sample.trace), dtype=np.bool_)
        for rows, engines in groups:
            case = SimulationCase(
                trace=trace.take(rows),
                engines=engines,
                slo=fleet.slo,
                output_tokens=sample.estimated[rows, 1],
            )
            met[rows] = simulate_policy(policy, case, seed).met(fleet.slo)
        return float(met[ceil(SKIP * len(met)) :].mean())

    return gateway if policy == CUVEE else baseline


def _backend_groups(
    fleet: FixedFleet, sample: TrafficSample, across: bool
) -> Iterator[tuple[IntArray, tuple[Profile, ...]]]:
    """Every pool's requests, by row, and its backends; across: all requests and all backends."""
    counts = zip(fleet.pools, fleet.plan.backends, strict=True)
    engines = [(pool.profile,) * count for pool, count in counts]
    if across:
        everything = tuple(engine for pool_engines in engines for engine in pool_engines)
        yield np.arange(len(sample.trace)), everything
        return
    assigned = assign_pools(fleet.plan, fleet.pools, sample)
    for pool in np.unique(assigned).tolist():
        yield np.flatnonzero(assigned == pool), engines[pool]
