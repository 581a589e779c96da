"""Plans certified by the gateway's own router, and refined.

Owns the rehearsal stand and the order of the search. Knows no HTTP and no live object.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from math import ceil

import numpy as np

from gateway.config import Loaded
from gateway.history import demand_of
from gateway.rehearsal import rehearse
from gateway.routing.lengths import Lengths
from gateway.traffic import Observed, Process, Replayed, Traffic
from planner import economics, solve
from planner.certify import SEEDS, Rehearse, Score, certify
from planner.model import Certificate, Demand, Plan, Pool
from planner.refine import Refined, refine
from planner.sizes import FloatArray
from planner.workload import Trace

REQUESTS = 3000  # of one rehearsal at least, its first tenth not counted
STRETCH_S = 300.0  # of traffic at least: a fleet slightly too small takes minutes to fill up
SKIP = 0.1
LIVE_SEEDS = 4  # of the certificate that a plan of the running gateway gets
LIVE_REQUESTS = 10_000  # at most, of one of its rehearsals: a second or two of one core


class Stand:
    """Rehearses plans on one kind of traffic; every plan meets the same draws, each once."""

    def __init__(self, traffic: Traffic, pools: tuple[Pool, ...], model: str) -> None:
        self._traffic = traffic
        self._pools = pools
        self._model = model
        self._drawn: dict[int, tuple[Trace, FloatArray]] = {}
        self._scores: dict[tuple[str, int], Score] = {}

    def play(self, plan: Plan, seed: int) -> Score:
        """One rehearsal of a plan, without its first tenth: the fleet fills up."""
        known = plan.plan_id, seed
        if known not in self._scores:
            self._scores[known] = self._play(plan, seed)
        return self._scores[known]

    def _play(self, plan: Plan, seed: int) -> Score:
        if seed not in self._drawn:
            self._drawn[seed] = self._traffic.draw(seed)
        trace, believed = self._drawn[seed]
        slo = next(c.slo for c in plan.space.classes if c.model == self._model)
        played = rehearse(trace, plan, self._pools, model=self._model, believed=believed)
        met = played.result.met(slo)[ceil(SKIP * len(trace)) :]
        return Score(met=int(met.sum()), requests=len(met))


@dataclass(frozen=True, slots=True, kw_only=True)
class Certified:
    """The program's own plan, the single types, and what refinement made of them."""

    demand: Demand
    first: tuple[Plan, Certificate]
    singles: tuple[tuple[str, Plan, Certificate], ...]
    refined: Refined


def certified(
    loaded: Loaded,
    trace: Trace,
    *,
    rate: float | None = None,
    process: Process = "gamma",
    requests: int | None = None,
    seeds: int = SEEDS,
    told: Callable[[str], None] = lambda _: None,
) -> Certified:
    """Plans for a trace, certifies, and refines. told: hears what is being done.

    requests: of one rehearsal, by default as many as come in five minutes, 3,000 at least.

    The demand is that of the trace for the first model configured; a Poisson test plans for
    Poisson arrivals, every other for the trace's own dispersion.
    """
    model = next(iter(loaded.config.models))
    lengths = Lengths()
    demand = demand_of(trace, loaded, lengths=lengths, model=model)
    demand = demand if rate is None else demand.scaled_to(rate)
    if process == "poisson":
        demand = replace(demand, dispersion=(1.0,) * len(demand.space.classes))
    traffic = Replayed(
        trace=trace,
        rate=demand.total_rate,
        process=process,
        dispersion=demand.dispersion[0],
        requests=requests or max(REQUESTS, round(STRETCH_S * demand.total_rate)),
        lengths=lengths,
        model=model,
    )
    stand = Stand(traffic, loaded.pools, model)
    target = loaded.space.classes[0].slo.attainment
    first = solve.provision(demand, loaded.pools, loaded.limits)
    seal = _seal(first, stand.play, target, seeds)
    told(f"plan {first.plan_id}: ${first.usd_per_hour:.2f}/h, {seal.attainment:.2%}")
    singles = tuple(_singles(demand, loaded.pools, stand.play, target, seeds))
    for gpu, plan, held in singles:
        told(f"{gpu} only: ${plan.usd_per_hour:.2f}/h, {held.attainment:.2%}")
    refined = refine(
        [first, *(plan for _, plan, _ in singles)],
        shares=lambda counts: solve.assign(demand, loaded.pools, counts),
        usd=[pool.usd_per_hour for pool in loaded.pools],
        least=[pool.min_backends for pool in loaded.pools],
        most=[pool.max_backends for pool in loaded.pools],
        rehearse=stand.play,
        target=target,
        seeds=seeds,
    )
    return Certified(demand=demand, first=(first, seal), singles=singles, refined=refined)


def sealed(plan: Plan, demand: Demand, pools: tuple[Pool, ...]) -> Plan:
    """A plan with the certificate of the class that keeps its promise worst, on observed demand.

    Called where a plan is about to be put in force: short, and without a search.
    """
    worst: Certificate | None = None
    cells = demand.space.grid.cells
    for number, kind in enumerate(demand.space.classes):
        rate = float(demand.rate[number * cells : (number + 1) * cells].sum())
        if rate == 0 or not np.any(demand.bucket // cells == number):
            continue
        requests = min(LIVE_REQUESTS, max(REQUESTS, round(STRETCH_S * rate)))
        stand = Stand(Observed(demand, kind.model, requests), pools, kind.model)
        target = kind.slo.attainment
        seal = certify(plan, stand.play, target=target, seeds=range(LIVE_SEEDS))
        if worst is None or seal.attainment - seal.target < worst.attainment - worst.target:
            worst = seal
    return replace(plan, certificate=worst)


def _seal(plan: Plan, rehearse: Rehearse, target: float, seeds: int) -> Certificate:
    return certify(plan, rehearse, target=target, seeds=range(seeds, 2 * seeds))


def _singles(
    demand: Demand, pools: tuple[Pool, ...], rehearse: Rehearse, target: float, seeds: int
) -> Iterator[tuple[str, Plan, Certificate]]:
    """Every type that can serve all of the demand: its smallest certified fleet within bounds."""
    for gpu, single in economics.single_types(demand, pools).items():
        if single.unserved:
            continue
        own = dict(zip(single.pools, single.backends, strict=True))
        found = None
        counts = tuple(own.get(pool.name, 0) for pool in pools)
        while any(counts):
            plan = solve.assign(demand, pools, counts)
            seal = _seal(plan, rehearse, target, seeds)
            if not seal.holds or plan.unserved:
                break
            found = plan, seal
            counts = tuple(max(0, count - 1) for count in counts)
        if found is not None:
            yield gpu, *found
