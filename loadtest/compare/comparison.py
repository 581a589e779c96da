"""The same demand through Mélange, AIBrix, single GPU types and Cuvée.

Each plans with its own program and is played with its own router, on the same engines and the same
traffic. Owns what is put beside what; formulations are in `planner/program/baselines`, routers
in `compare/policies`. Knows nothing of commands and tables.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from math import sqrt
from statistics import stdev

import msgspec
import numpy as np

from gateway.config.load import Loaded
from gateway.rehearsal.certify import SKIP, Harness, certified
from gateway.rehearsal.history import TraceSource, demand_of
from gateway.rehearsal.traffic import Process, ReplayedTraffic
from gateway.routing.lengths import OutputLengths
from loadtest.compare.policies import SimulationCase, simulated
from planner.costs import single_types
from planner.errors import PlannerError
from planner.model.demand import Demand
from planner.model.plan import Plan
from planner.program import baselines, solve
from planner.program.baselines import Allocation, Instance
from planner.proof.certify import T_95
from planner.traffic.trace import Trace

LIMIT_S = 60.0  # for CBC on slices; the original has no limit, and now and then no end
FRESH = 10_000  # seeds from here on are used for nothing but these tables
MELANGE, AIBRIX, PLAIN, REFINED = "Mélange", "AIBrix", "Cuvée, unrefined", "Cuvée"
HYBRID = "Mélange's fleet, Cuvée's router"

Say = Callable[[str], None]
Play = Callable[[int], float]


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
    """One way to serve the demand. usd_per_hour, attainment: `None` if it cannot, or not played."""

    name: str
    backends: tuple[tuple[str, int], ...] = ()
    usd_per_hour: float | None = None
    attainment: PlayedAttainment | None = None
    note: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Case:
    """One demand under one promise, and the traffic that every fleet is played on.

    Counts are unbounded: the question is what to rent, and the rivals know no stock.
    """

    loaded: Loaded
    trace: Trace
    demand: Demand
    traffic: ReplayedTraffic

    @property
    def model(self) -> str:
        return self.demand.buckets.classes[0].model

    @property
    def instance(self) -> Instance:
        """What Mélange would plan from: the trace's true sizes in its own ranges."""
        cells = baselines.GRID.cell_of(self.trace.input_tokens, self.trace.output_tokens)
        counts = np.bincount(cells, minlength=baselines.GRID.cells)
        rate = counts.astype(float) * (self.demand.total_rate / len(self.trace))
        return baselines.instance_of_pools(
            self.loaded.pools, self.demand.buckets.classes[0].slo, rate
        )


def case(
    loaded: Loaded,
    trace: Trace,
    *,
    rate: float | None,
    process: Process,
    requests: int,
    tpot_s: float | None = None,
) -> Case:
    """The bout of a trace for the first model configured; tpot_s: instead of the configured one."""
    kind = loaded.buckets.classes[0]
    promise = replace(kind.slo, tpot_s=tpot_s or kind.slo.tpot_s)
    free = tuple(
        replace(pool, min_backends=0, max_backends=None)
        for pool in loaded.pools
        if pool.model == kind.model
    )
    buckets = replace(loaded.buckets, classes=(replace(kind, slo=promise),))
    loaded = msgspec.structs.replace(loaded, pools=free, buckets=buckets)
    lengths = OutputLengths()
    demand = demand_of(trace, loaded, lengths=lengths, model=kind.model)
    demand = demand if rate is None else demand.scaled_to(rate)
    if process == "poisson":
        demand = replace(demand, dispersion=(1.0,))
    traffic = ReplayedTraffic(
        trace=trace,
        rate=demand.total_rate,
        process=process,
        dispersion=demand.dispersion[0],
        requests=requests,
        lengths=lengths,
        model=kind.model,
    )
    return Case(loaded=loaded, trace=trace, demand=demand, traffic=traffic)


def costs(asked: Case) -> list[ComparedFleet]:
    """What each plan costs, nothing played: the mix, every single type, Mélange, AIBrix."""
    mix = solve.provision(asked.demand, asked.loaded.pools)
    entries = [entry for entry, _ in _baselines(asked)] + [_of_plan(PLAIN, mix)]
    for gpu, plan in single_types.single_types(asked.demand, asked.loaded.pools).items():
        note = plan.unserved[0].reason if plan.unserved else None
        entries.append(replace(_of_plan(f"{gpu} only", plan), note=note))
    return [replace(e, usd_per_hour=None) if e.note else e for e in entries]


def compare_all(asked: Case, *, seeds: int, told: Say = lambda _: None) -> list[ComparedFleet]:
    """Plans in every way, then plays every fleet on the same fresh traffic with its own router."""
    harness = Harness(asked.traffic, asked.loaded.pools)

    def ours(plan: Plan) -> Play:
        return lambda seed: harness.play(plan, seed)[0].share

    entrants: list[tuple[ComparedFleet, Play | None]] = []
    for entry, allocation in _baselines(asked):
        name = "melange" if entry.name == MELANGE else "aibrix-slo"
        entrants.append(
            (entry, partial(_play_baseline, asked, allocation, name) if allocation else None)
        )
        if entry.name == MELANGE and allocation:
            kept = solve.assign(asked.demand, asked.loaded.pools, allocation.counts)
            entrants.append((_of_plan(HYBRID, kept), ours(kept)))
    traffic = asked.traffic
    sources = (TraceSource(trace=asked.trace, model=asked.model),)
    found = certified(
        asked.loaded, sources, rate=traffic.rate, process=traffic.process,
        requests=traffic.requests, seeds=seeds, told=told,
    )  # fmt: skip
    singles = ((f"{gpu} only", plan) for gpu, plan, _ in found.singles)
    plans = [*singles, (PLAIN, found.first[0]), (REFINED, found.refined.plan)]
    entrants += [(_of_plan(name, plan), ours(plan)) for name, plan in plans]
    entries = []
    for entry, play in entrants:
        told(f"playing {entry.name}")
        attainment = measured(play, seeds) if play else None
        entries.append(replace(entry, attainment=attainment))
    return entries


def measured(play: Play, seeds: int) -> PlayedAttainment:
    """Plays the fresh seeds, two or more."""
    shares = [play(FRESH + seed) for seed in range(seeds)]
    mean = sum(shares) / seeds
    t = T_95[min(seeds - 2, len(T_95) - 1)]
    half = t * stdev(shares) / sqrt(seeds)
    low, high = max(0.0, mean - half), min(1.0, mean + half)
    return PlayedAttainment(mean=mean, low=low, high=high, worst=min(shares), seeds=seeds)


def _baselines(asked: Case) -> Iterator[tuple[ComparedFleet, Allocation | None]]:
    melange = partial(baselines.melange, time_limit_s=LIMIT_S)
    for name, plan in ((MELANGE, melange), (AIBRIX, baselines.aibrix)):
        try:
            found = plan(asked.instance)
        except PlannerError as error:
            yield ComparedFleet(name=name, note=str(error)), None
            continue
        backends = tuple(zip(found.gpus, found.counts, strict=True))
        yield ComparedFleet(name=name, backends=backends, usd_per_hour=found.usd_per_hour), found


def _play_baseline(asked: Case, fleet: Allocation, name: str, seed: int) -> float:
    """One play of a fleet under a rival's router; Mélange's looks up its own profile corners."""
    slo = asked.demand.buckets.classes[0].slo
    trace = asked.traffic.draw(seed).trace
    engines = tuple(
        pool.profile
        for pool, count in zip(asked.loaded.pools, fleet.counts, strict=True)
        for _ in range(count)
    )
    case = SimulationCase(trace=trace, engines=engines, slo=slo)
    return simulated(name, case, seed).attainment(slo, skip=SKIP)


def _of_plan(name: str, plan: Plan) -> ComparedFleet:
    backends = tuple(zip(plan.pools, plan.backends, strict=True))
    return ComparedFleet(name=name, backends=backends, usd_per_hour=plan.usd_per_hour)
