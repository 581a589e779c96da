"""Plans certified by the gateway's own router, and refined.

Owns the rehearsal stand and the order of the search. Knows no HTTP and no live object.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil

import numpy as np

from gateway.config.load import Loaded
from gateway.rehearsal.history import TraceSource, demand_together
from gateway.rehearsal.play import rehearse
from gateway.rehearsal.traffic import Process, Traffic, TrafficSample, observed, replayed
from gateway.routing.lengths import OutputLengths
from planner.costs import single_types
from planner.model.demand import Demand
from planner.model.plan import Certificate, Plan
from planner.model.pool import Pool
from planner.program import solve
from planner.program.limits import Limits
from planner.proof.certify import SEEDS, Rehearse, Score, certify
from planner.proof.refine import Refined, refine

REQUESTS = 3000  # of one rehearsal at least, its first tenth not counted
STRETCH_S = 300.0  # of traffic at least: a fleet slightly too small takes minutes to fill up
SKIP = 0.1
DAY_S = 900.0  # a day in a quarter of an hour: still slow beside any request
LIVE_SEEDS = 4  # of the certificate that a plan of the running gateway gets
LIVE_REQUESTS = 10_000  # at most, of one of its rehearsals: a second or two of one core

Counts = tuple[int, ...]  # (P,) backends


class Harness:
    """Rehearses plans on one kind of traffic; every plan meets the same draws, each once."""

    def __init__(self, traffic: Traffic, pools: tuple[Pool, ...]) -> None:
        self._traffic = traffic
        self._pools = pools
        self._drawn: dict[int, TrafficSample] = {}
        self._scores: dict[tuple[str, int], tuple[Score, ...]] = {}

    def play(self, plan: Plan, seed: int) -> tuple[Score, ...]:
        """One rehearsal of a plan, without its first tenth: the fleet fills up.

        Every class that has requests is judged by its own SLO.
        """
        known = plan.plan_id, seed
        if known not in self._scores:
            self._scores[known] = self._play(plan, seed)
        return self._scores[known]

    def _play(self, plan: Plan, seed: int) -> tuple[Score, ...]:
        if seed not in self._drawn:
            self._drawn[seed] = self._traffic.draw(seed)
        drawn = self._drawn[seed]
        played = rehearse(
            drawn.trace, plan, self._pools, slo_class=drawn.slo_class, believed=drawn.believed
        )
        first = ceil(SKIP * len(drawn.trace))
        whose, met = drawn.slo_class[first:], played.met(plan.buckets)[first:]
        return tuple(
            Score(
                slo_class=plan.buckets.classes[number],
                met=int(met[whose == number].sum()),
                requests=int((whose == number).sum()),
            )
            for number in np.unique(drawn.slo_class).tolist()
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Certified:
    """The program's own plan, the single types, and what refinement made of them."""

    demand: Demand
    first: tuple[Plan, Certificate]
    singles: tuple[tuple[str, Plan, Certificate], ...]
    refined: Refined


def certified(
    loaded: Loaded,
    sources: Sequence[TraceSource],
    *,
    rate: float | None = None,
    process: Process = "gamma",
    requests: int | None = None,
    swing: float = 0.0,
    seeds: int = SEEDS,
    told: Callable[[str], None] = lambda _: None,
) -> Certified:
    """Plans for traces that come together, certifies, and refines. told: hears what is being done.

    rate: of all together; their shares in it stay. requests: of one rehearsal, by default as many
    as come in five minutes (a quarter of an hour for a day), 3,000 at least. swing: of a daily
    curve; its peak is planned for.

    A Poisson test plans for Poisson arrivals, every other for the dispersion of each trace.
    """
    lengths = OutputLengths()
    demand = demand_together(sources, loaded, lengths=lengths)
    demand = demand if rate is None else demand.scaled_to(rate)
    if process == "poisson":
        demand = replace(demand, dispersion=(1.0,) * len(demand.buckets.classes))
    stretch_s = DAY_S if process == "daily" else STRETCH_S
    traffic = replayed(
        sources,
        demand,
        process=process,
        requests=requests or max(REQUESTS, round(stretch_s * demand.total_rate)),
        lengths=lengths,
        swing=swing,
    )
    if process == "daily":
        demand = demand.scaled_to(demand.total_rate * (1 + swing))
    return _certified(loaded, demand, Harness(traffic, loaded.pools).play, seeds, told)


def _certified(
    loaded: Loaded, demand: Demand, play: Rehearse, seeds: int, told: Callable[[str], None]
) -> Certified:
    pools, legal = loaded.pools, _within(loaded.pools, loaded.limits)
    first = solve.provision(demand, pools, loaded.limits)
    certificate = _seal(first, play, seeds)
    told(f"plan {first.plan_id}: ${first.usd_per_hour:.2f}/h, {certificate.attainment:.2%}")
    singles = tuple(_singles(demand, pools, play, legal, seeds))
    for gpu, plan, held in singles:
        told(f"{gpu} only: ${plan.usd_per_hour:.2f}/h, {held.attainment:.2%}")
    refined = refine(
        [first, *(plan for _, plan, _ in singles)],
        plan_for=lambda counts: solve.assign(demand, pools, counts),
        usd=[pool.usd_per_hour for pool in pools],
        models=[pool.model for pool in pools],
        legal=legal,
        rehearse=play,
        seeds=seeds,
    )
    return Certified(demand=demand, first=(first, certificate), singles=singles, refined=refined)


def with_certificate(plan: Plan, demand: Demand, pools: tuple[Pool, ...]) -> Plan:
    """A plan with the certificate of the class that keeps its promise worst, on observed demand.

    All classes are played at once: they share backends. Called where a plan is about to be put in
    force: short, and without a search.
    """
    requests = min(LIVE_REQUESTS, max(REQUESTS, round(STRETCH_S * demand.total_rate)))
    traffic = observed(demand, requests)
    if traffic is None:
        return replace(plan, certificate=None)
    certificate = certify(plan, Harness(traffic, pools).play, seeds=range(LIVE_SEEDS))
    return replace(plan, certificate=certificate)


def _seal(plan: Plan, rehearse: Rehearse, seeds: int) -> Certificate:
    return certify(plan, rehearse, seeds=range(seeds, 2 * seeds))


def _within(pools: tuple[Pool, ...], limits: Limits) -> Callable[[Counts], bool]:
    """Whether a fleet keeps the bounds of every pool and the limits of all."""

    def legal(counts: Counts) -> bool:
        bounded = all(
            pool.min_backends <= n and (pool.max_backends is None or n <= pool.max_backends)
            for pool, n in zip(pools, counts, strict=True)
        )
        uses = limits.uses(pools, np.array(counts, dtype=float))
        return bounded and all(use <= most + 1e-9 for _, use, most in uses)

    return legal


def _singles(
    demand: Demand,
    pools: tuple[Pool, ...],
    rehearse: Rehearse,
    legal: Callable[[Counts], bool],
    seeds: int,
) -> Iterator[tuple[str, Plan, Certificate]]:
    """Every type that can serve all of the demand: a smallest certified fleet within bounds.

    Backends are taken away one at a time while what is left holds, of the dearest pools first.
    """
    dearest = sorted(range(len(pools)), key=lambda p: -pools[p].usd_per_hour)
    for gpu, single in single_types.single_types(demand, pools).items():
        own = dict(zip(single.pools, single.backends, strict=True))
        counts = tuple(_clipped(own.get(pool.name, 0), pool) for pool in pools)
        if single.unserved or not legal(counts):
            continue
        found = _held(demand, pools, rehearse, counts, seeds)
        for p in dearest:
            while found is not None and counts[p] > 0:
                fewer = tuple(n - (k == p) for k, n in enumerate(counts))
                less = _held(demand, pools, rehearse, fewer, seeds) if legal(fewer) else None
                if less is None:
                    break
                counts, found = fewer, less
        if found is not None:
            yield gpu, *found


def _clipped(count: int, pool: Pool) -> int:
    return count if pool.max_backends is None else min(count, pool.max_backends)


def _held(
    demand: Demand, pools: tuple[Pool, ...], rehearse: Rehearse, counts: Counts, seeds: int
) -> tuple[Plan, Certificate] | None:
    """The plan of least peak load for a fleet, if it is certified."""
    if not any(counts):
        return None
    plan = solve.assign(demand, pools, counts)
    if plan.unserved:
        return None
    certificate = _seal(plan, rehearse, seeds)
    return (plan, certificate) if certificate.holds else None
