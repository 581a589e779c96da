"""The same demand through Mélange, AIBrix, single GPU types and Cuvée.

Each plans with its own program and is played with its own router, on the same engines and the same
traffic. Owns what is put beside what; formulations are in `planner/program/baselines`, routers in
`compare/policies`. Knows nothing of commands and tables.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from math import sqrt
from statistics import stdev

import msgspec
import numpy as np

from gateway.config.load import Loaded
from gateway.rehearsal.certify import certified
from gateway.rehearsal.harness import Harness, replay_harness
from gateway.rehearsal.history import TraceSource, demand_of
from gateway.rehearsal.traffic import Process, ReplayedTraffic
from gateway.routing.estimator import Estimator
from loadtest.compare.policies import SimulationCase, simulate_policy
from planner.costs import single_types
from planner.errors import PlannerError
from planner.model.demand import Demand
from planner.model.plan import Plan
from planner.program import baselines, solve
from planner.program.baselines import Allocation, Instance
from planner.proof.certify import T_95
from planner.proof.length import play_length
from planner.traffic.trace import Trace

CBC_LIMIT_S = 60.0  # for CBC on slices; the original has no limit, and now and then no end
# Seeds from here on are used for these tables alone: refinement chooses with the simulator that
# also grades, so it must not have seen the traffic that it is graded on.
FRESH_SEED = 10_000
MELANGE, AIBRIX, UNREFINED, REFINED = "Mélange", "AIBrix", "Cuvée, unrefined", "Cuvée"
HYBRID = "Mélange's fleet, Cuvée's router"

Progress = Callable[[str], None]
Play = Callable[[int], float]  # attainment by seed


@dataclass(frozen=True, slots=True, kw_only=True)
class PlayedAttainment:
    """Attainment over seeds: the mean, its 95 % interval (Student's t), the worst seed."""

    mean: float
    low: float
    high: float
    worst: float
    seeds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedFleet:
    """One way to serve the demand.

    backends: (pool, count). usd_per_hour: `None` if it cannot serve all of the demand; `note` has
    the reason. attainment: `None` if it was not played.
    """

    name: str
    backends: tuple[tuple[str, int], ...] = ()
    usd_per_hour: float | None = None
    attainment: PlayedAttainment | None = None
    note: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ComparisonCase:
    """One demand under one SLO, and the traffic that every fleet is played on.

    Counts are unbounded: the question is what to rent, and the baselines know no stock.
    """

    loaded: Loaded
    trace: Trace
    demand: Demand
    traffic: ReplayedTraffic

    @property
    def model(self) -> str:
        return self.demand.buckets.classes[0].model

    @property
    def sources(self) -> tuple[TraceSource, ...]:
        """The trace, as what is replayed."""
        return (TraceSource(trace=self.trace, model=self.model),)

    def harness(self) -> Harness:
        """Plays of this traffic, as long as those of certificates."""
        traffic = self.traffic
        return replay_harness(
            self.sources, self.demand, self.loaded.pools,
            play_length(self.demand, requests=traffic.requests),
            process=traffic.process, estimator=traffic.estimator,
        )  # fmt: skip

    @property
    def melange_instance(self) -> Instance:
        """What Mélange and AIBrix plan from: the trace's true sizes in Mélange's own ranges."""
        cells = baselines.GRID.cell_of(self.trace.input_tokens, self.trace.output_tokens)
        counts = np.bincount(cells, minlength=baselines.GRID.cells)
        rate = counts.astype(float) * (self.demand.total_rate / len(self.trace))
        return baselines.instance_of_pools(
            self.loaded.pools, self.demand.buckets.classes[0].slo, rate
        )


def build_case(
    loaded: Loaded,
    trace: Trace,
    *,
    rate: float | None,
    process: Process,
    requests: int,
    tpot_s: float | None = None,
) -> ComparisonCase:
    """The case of a trace for the first configured model.

    rate: requests/s, `None` for the trace's own. requests: of one play. tpot_s: a TPOT target in
    place of the configured one.
    """
    slo_class = loaded.buckets.classes[0]
    slo = replace(slo_class.slo, tpot_s=tpot_s or slo_class.slo.tpot_s)
    unbounded = tuple(
        replace(pool, min_backends=0, max_backends=None)
        for pool in loaded.pools
        if pool.model == slo_class.model
    )
    buckets = replace(loaded.buckets, classes=(replace(slo_class, slo=slo),))
    loaded = msgspec.structs.replace(loaded, pools=unbounded, buckets=buckets)
    estimator = Estimator()
    demand = demand_of(trace, loaded, estimator=estimator, model=slo_class.model)
    demand = demand if rate is None else demand.scaled_to(rate)
    if process == "poisson":
        # The plan is for the traffic that is played: counts of a Poisson process have dispersion 1.
        demand = replace(demand, dispersion=(1.0,))
    traffic = ReplayedTraffic(
        trace=trace,
        rate=demand.total_rate,
        process=process,
        dispersion=demand.dispersion[0],
        requests=requests,
        estimator=estimator,
        model=slo_class.model,
    )
    return ComparisonCase(loaded=loaded, trace=trace, demand=demand, traffic=traffic)


def planned_costs(case: ComparisonCase) -> list[ComparedFleet]:
    """What each plan costs, nothing played: Mélange, AIBrix, the mix, every single type."""
    mix = solve.provision(case.demand, case.loaded.pools)
    fleets = [fleet for fleet, _ in _baselines(case)] + [_fleet_of(UNREFINED, mix)]
    for gpu, plan in single_types.single_types(case.demand, case.loaded.pools).items():
        note = plan.unserved[0].reason if plan.unserved else None
        fleets.append(replace(_fleet_of(f"{gpu} only", plan), note=note))
    return [replace(fleet, usd_per_hour=None) if fleet.note else fleet for fleet in fleets]


def compare_fleets(
    case: ComparisonCase, *, seeds: int, progress: Progress = lambda _: None
) -> list[ComparedFleet]:
    """Plan in every way, then play every fleet on the same fresh traffic with its own router."""
    compared = []
    for fleet, play in _entries(case, seeds, progress):
        progress(f"playing {fleet.name}")
        attainment = played_attainment(play, seeds) if play else None
        compared.append(replace(fleet, attainment=attainment))
    return compared


def _entries(
    case: ComparisonCase, seeds: int, progress: Progress
) -> list[tuple[ComparedFleet, Play | None]]:
    """Every fleet, and how to play it; `None` for one that cannot serve the demand."""
    harness = case.harness()

    def gateway_play(plan: Plan) -> Play:
        return lambda seed: harness.play(plan, seed)[0].share

    entries: list[tuple[ComparedFleet, Play | None]] = []
    for fleet, allocation in _baselines(case):
        policy = "melange" if fleet.name == MELANGE else "aibrix-slo"
        play = partial(_play_baseline, case, harness, allocation, policy) if allocation else None
        entries.append((fleet, play))
        if fleet.name == MELANGE and allocation:
            plan = solve.assign(case.demand, case.loaded.pools, allocation.counts)
            entries.append((_fleet_of(HYBRID, plan), gateway_play(plan)))
    traffic = case.traffic
    # The others' planners know no margin: all fleets are for engines and demand as believed.
    result = certified(
        case.loaded, case.sources, rate=traffic.rate, process=traffic.process,
        requests=traffic.requests, seeds=seeds, margin=0.0, progress=progress,
    )  # fmt: skip
    singles = ((f"{gpu} only", plan) for gpu, plan, _ in result.singles)
    plans = [*singles, (UNREFINED, result.first[0]), (REFINED, result.refined.plan)]
    return entries + [(_fleet_of(name, plan), gateway_play(plan)) for name, plan in plans]


def played_attainment(play: Play, seeds: int) -> PlayedAttainment:
    """Play two or more fresh seeds. The interval is over seeds, not over requests.

    Requests of one play queue behind each other and are not independent.
    """
    shares = [play(FRESH_SEED + seed) for seed in range(seeds)]
    mean = sum(shares) / seeds
    t = T_95[min(seeds - 2, len(T_95) - 1)]  # seeds - 1 degrees of freedom; T_95 begins with one
    half = t * stdev(shares) / sqrt(seeds)
    low, high = max(0.0, mean - half), min(1.0, mean + half)
    return PlayedAttainment(mean=mean, low=low, high=high, worst=min(shares), seeds=seeds)


def _baselines(case: ComparisonCase) -> Iterator[tuple[ComparedFleet, Allocation | None]]:
    """Mélange's and AIBrix's fleets; one that cannot be planned has a note and no allocation."""
    melange = partial(baselines.melange, time_limit_s=CBC_LIMIT_S)
    for name, allocate in ((MELANGE, melange), (AIBRIX, baselines.aibrix)):
        try:
            allocation = allocate(case.melange_instance)
        except PlannerError as error:
            yield ComparedFleet(name=name, note=str(error)), None
            continue
        backends = tuple(zip(allocation.gpus, allocation.counts, strict=True))
        usd = allocation.usd_per_hour
        yield ComparedFleet(name=name, backends=backends, usd_per_hour=usd), allocation


def _play_baseline(
    case: ComparisonCase, harness: Harness, allocation: Allocation, policy: str, seed: int
) -> float:
    """Attainment of one play of a fleet under a baseline's own router."""
    slo = case.demand.buckets.classes[0].slo
    given = harness.sample(seed)
    trace = given.sample.trace
    engines = tuple(
        pool.profile
        for pool, count in zip(case.loaded.pools, allocation.counts, strict=True)
        for _ in range(count)
    )
    simulation = SimulationCase(trace=trace, engines=engines, slo=slo)
    met = simulate_policy(policy, simulation, seed).met(slo)
    counted = (trace.arrival_s >= given.begin_s) & (trace.arrival_s < given.end_s)
    return float(met[counted].mean())


def _fleet_of(name: str, plan: Plan) -> ComparedFleet:
    backends = tuple(zip(plan.pools, plan.backends, strict=True))
    return ComparedFleet(name=name, backends=backends, usd_per_hour=plan.usd_per_hour)
