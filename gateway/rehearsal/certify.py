"""Certifies plans with the gateway's own router, and refines them.

Owns the harness of rehearsals and the order of the search. Knows no HTTP and no live object.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil

import numpy as np

from gateway.config.load import Loaded
from gateway.rehearsal.history import TraceSource, demand_together
from gateway.rehearsal.play import rehearse
from gateway.rehearsal.traffic import Process, Traffic, TrafficSample, observed, replayed
from gateway.routing.estimator import Estimator
from planner.costs import single_types
from planner.model.demand import Demand
from planner.model.plan import Certificate, Plan
from planner.model.pool import Pool
from planner.program import solve
from planner.program.limits import Limits
from planner.proof.certify import SEEDS, Rehearse, Score, certify
from planner.proof.refine import Refined, refine

REQUESTS = 3000  # least number of requests of one rehearsal
STRETCH_S = 300.0  # least length of one rehearsal: a fleet slightly too small takes minutes to fill
SKIP = 0.1  # share of the requests that is not counted, because the fleet starts empty
DAY_S = 900.0  # length of a simulated day: still slow compared with any request
LIVE_SEEDS = 4  # rehearsals for the certificate of a plan of the running gateway
LIVE_REQUESTS = 10_000  # most requests of such a rehearsal: one or two seconds of one core

Counts = tuple[int, ...]  # (P,) backends


class Harness:
    """Rehearses plans on one traffic. Every plan meets the same samples; scores are kept."""

    def __init__(self, traffic: Traffic, pools: tuple[Pool, ...]) -> None:
        self._traffic = traffic
        self._pools = pools
        self._samples: dict[int, TrafficSample] = {}
        self._scores: dict[tuple[str, int], tuple[Score, ...]] = {}

    def play(self, plan: Plan, seed: int) -> tuple[Score, ...]:
        """The scores of one rehearsal, one for each SLO class that has requests, by its own SLO."""
        key = plan.plan_id, seed
        if key not in self._scores:
            self._scores[key] = self._play(plan, seed)
        return self._scores[key]

    def _play(self, plan: Plan, seed: int) -> tuple[Score, ...]:
        if seed not in self._samples:
            self._samples[seed] = self._traffic.draw(seed)
        sample = self._samples[seed]
        played = rehearse(
            sample.trace, plan, self._pools, slo_class=sample.slo_class, estimated=sample.estimated
        )
        first = ceil(SKIP * len(sample.trace))
        slo_class, met = sample.slo_class[first:], played.met(plan.buckets)[first:]
        return tuple(
            Score(
                slo_class=plan.buckets.classes[number],
                met=int(met[slo_class == number].sum()),
                requests=int((slo_class == number).sum()),
            )
            for number in np.unique(sample.slo_class).tolist()
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Certified:
    """The solver's own plan, the certified fleets of one GPU type, and the refined plan.

    first: the solver's plan with its certificate. singles: GPU type, plan and certificate.
    """

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
    progress: Callable[[str], None] = lambda _: None,
) -> Certified:
    """Plan for traces that arrive together, certify and refine.

    rate: of all traces together, requests/s; their shares stay. requests: of one rehearsal; by
    default those of five minutes (of a quarter of an hour for a day), at least 3,000. swing: of a
    daily curve, whose peak is planned for. progress: called with a line about each step.

    With Poisson arrivals the plan is for dispersion 1, otherwise for the dispersion of each trace.
    """
    estimator = Estimator()
    demand = demand_together(sources, loaded, estimator=estimator)
    demand = demand if rate is None else demand.scaled_to(rate)
    if process == "poisson":
        demand = replace(demand, dispersion=(1.0,) * len(demand.buckets.classes))
    stretch_s = DAY_S if process == "daily" else STRETCH_S
    traffic = replayed(
        sources,
        demand,
        process=process,
        requests=requests or max(REQUESTS, round(stretch_s * demand.total_rate)),
        estimator=estimator,
        swing=swing,
    )
    if process == "daily":
        demand = demand.scaled_to(demand.total_rate * (1 + swing))
    return _certified(loaded, demand, Harness(traffic, loaded.pools).play, seeds, progress)


def _certified(
    loaded: Loaded, demand: Demand, play: Rehearse, seeds: int, progress: Callable[[str], None]
) -> Certified:
    pools, legal = loaded.pools, _within(loaded.pools, loaded.limits)
    first = solve.provision(demand, pools, loaded.limits)
    certificate = _certify(first, play, seeds)
    progress(f"plan {first.plan_id}: ${first.usd_per_hour:.2f}/h, {certificate.attainment:.2%}")
    singles = tuple(_singles(demand, pools, play, legal, seeds))
    for gpu, plan, single in singles:
        progress(f"{gpu} only: ${plan.usd_per_hour:.2f}/h, {single.attainment:.2%}")
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
    """The plan with its certificate on observed demand, which is that of its worst SLO class.

    All classes are played at once, because they share backends. It is called before a plan is put
    in force, so it is short, and does not search for a better plan.
    """
    requests = min(LIVE_REQUESTS, max(REQUESTS, round(STRETCH_S * demand.total_rate)))
    traffic = observed(demand, requests)
    if traffic is None:
        return replace(plan, certificate=None)
    certificate = certify(plan, Harness(traffic, pools).play, seeds=range(LIVE_SEEDS))
    return replace(plan, certificate=certificate)


def _certify(plan: Plan, rehearse: Rehearse, seeds: int) -> Certificate:
    return certify(plan, rehearse, seeds=range(seeds, 2 * seeds))


def _within(pools: tuple[Pool, ...], limits: Limits) -> Callable[[Counts], bool]:
    """A function that says whether a fleet keeps the bounds of each pool and all limits."""

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
    """For every GPU type that can serve all of the demand: a smallest certified fleet.

    Backends are removed one at a time, from the dearest pool first, while the rest is certified.
    """
    dearest = sorted(range(len(pools)), key=lambda p: -pools[p].usd_per_hour)
    for gpu, single in single_types.single_types(demand, pools).items():
        own = dict(zip(single.pools, single.backends, strict=True))
        counts = tuple(_clipped(own.get(pool.name, 0), pool) for pool in pools)
        if single.unserved or not legal(counts):
            continue
        best = _certified_plan(demand, pools, rehearse, counts, seeds)
        for p in dearest:
            while best is not None and counts[p] > 0:
                fewer = tuple(n - (k == p) for k, n in enumerate(counts))
                less = (
                    _certified_plan(demand, pools, rehearse, fewer, seeds) if legal(fewer) else None
                )
                if less is None:
                    break
                counts, best = fewer, less
        if best is not None:
            yield gpu, *best


def _clipped(count: int, pool: Pool) -> int:
    return count if pool.max_backends is None else min(count, pool.max_backends)


def _certified_plan(
    demand: Demand, pools: tuple[Pool, ...], rehearse: Rehearse, counts: Counts, seeds: int
) -> tuple[Plan, Certificate] | None:
    """The plan of least peak load for a fleet, with its certificate if that holds, else `None`."""
    if not any(counts):
        return None
    plan = solve.assign(demand, pools, counts)
    if plan.unserved:
        return None
    certificate = _certify(plan, rehearse, seeds)
    return (plan, certificate) if certificate.holds else None
