"""Certifies plans with the gateway's own router, and refines them.

Owns the order of the search, and by how much plays are harder than what is believed. Knows no HTTP
and no live object.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import inf, isfinite

import numpy as np

from gateway.config.load import Loaded
from gateway.rehearsal.harness import Harness, observed_harness, replay_harness
from gateway.rehearsal.history import TraceSource, demand_together
from gateway.rehearsal.traffic import Process
from gateway.routing.estimator import Estimator
from planner.costs import single_types
from planner.model.demand import Demand
from planner.model.plan import Certificate, Plan
from planner.model.pool import Pool
from planner.program import solve
from planner.program.headroom import utilisations
from planner.program.limits import Limits, shared_usd
from planner.program.request import PlanRequest
from planner.proof.certify import SEEDS, proven
from planner.proof.length import LEAST_S, REQUESTS, PlayLength, play_length
from planner.proof.refine import MISFIT, Refined, refine

DAY_S = 900.0  # length of a simulated day: still slow compared with any request
MOST_STEPS = 8  # backends that a single type's fleet may have more than the program says

Counts = tuple[int, ...]  # (P,) backends


@dataclass(frozen=True, slots=True, kw_only=True)
class Certified:
    """The solver's own plan, the certified fleets of one GPU type, and the refined plan.

    margin: by how much plays were harder than what is believed. length: of one play. first: the
    solver's plan with its certificate. singles: GPU type, plan and certificate.
    """

    demand: Demand
    margin: float
    length: PlayLength
    first: tuple[Plan, Certificate]
    singles: tuple[tuple[str, Plan, Certificate], ...]
    refined: Refined


@dataclass(frozen=True, slots=True, kw_only=True)
class Margin:
    """By how much plays are harder than what is believed.

    demand: so much more of it, a share. engines: (P,) so much slower, a share of each pool's times.
    """

    demand: float
    engines: tuple[float, ...]

    @classmethod
    def of(cls, pools: tuple[Pool, ...], margin: float | None) -> "Margin":
        """The same for demand and all engines; `None`: the measured error of each profile, and of
        demand the largest of them."""
        errors = tuple(pool.profile.error if margin is None else margin for pool in pools)
        return cls(demand=max(errors, default=0.0), engines=errors)

    def slower(self, pools: tuple[Pool, ...]) -> tuple[Pool, ...]:
        """The pools as they are played."""
        return tuple(
            replace(pool, profile=pool.profile.slowed(1 + error)) if error else pool
            for pool, error in zip(pools, self.engines, strict=True)
        )

    def more(self, demand: Demand) -> Demand:
        """The demand as it is played."""
        rate = demand.total_rate
        return demand.scaled_to(rate * (1 + self.demand)) if rate and self.demand else demand


def certified(
    loaded: Loaded,
    sources: Sequence[TraceSource],
    *,
    rate: float | None = None,
    process: Process = "gamma",
    requests: int = REQUESTS,
    swing: float = 0.0,
    seeds: int = SEEDS,
    margin: float | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Certified:
    """Plan for traces that arrive together, certify and refine.

    rate: of all traces together, requests/s; their shares stay. requests: that one play counts at
    least; it lasts as `planner.proof.length` says. swing: of a daily curve, whose peak is planned
    for. margin: see `Margin.of`. progress: called with a line about each step.

    With Poisson arrivals the plan is for dispersion 1, otherwise for the dispersion of each trace.
    """
    estimator = Estimator()
    demand = demand_together(sources, loaded, estimator=estimator)
    demand = demand if rate is None else demand.scaled_to(rate)
    if process == "poisson":
        demand = replace(demand, dispersion=(1.0,) * len(demand.buckets.classes))
    harder = Margin.of(loaded.pools, margin)
    length = play_length(
        demand, requests=requests, least_s=DAY_S if process == "daily" else LEAST_S
    )
    harness = replay_harness(
        sources, harder.more(demand), loaded.pools, length, process=process,
        estimator=estimator, swing=swing, engines=harder.slower(loaded.pools),
    )  # fmt: skip
    if process == "daily":
        demand = demand.scaled_to(demand.total_rate * (1 + swing))
    search = _Search(loaded.pools, loaded.limits, demand, harder, harness, seeds)
    first = solve.provision(demand, loaded.pools, loaded.limits)
    return search.run(first, length, progress)


class _Search:
    """Looks for the cheapest fleet that holds when it is played harder than what is believed."""

    def __init__(
        self,
        pools: tuple[Pool, ...],
        limits: Limits,
        demand: Demand,
        harder: Margin,
        harness: Harness,
        seeds: int,
        spent: Callable[[], bool] = lambda: False,
    ) -> None:
        """spent: whether to stop with what is known by now."""
        self._spent = spent
        self._pools, self._demand, self._harness, self._seeds = pools, demand, harness, seeds
        self._limits, self._harder = limits, harder
        self._legal = _within(pools, limits)
        # What the fleet should be for what is played; shares are those of what is believed.
        self._harder_problem = harder.more(demand), harder.slower(pools)

    def run(
        self, first: Plan, length: PlayLength, progress: Callable[[str], None] = lambda _: None
    ) -> Certified:
        """first: the program's plan."""
        certificate = self.certificate(first)
        progress(f"plan {first.plan_id}: ${first.usd_per_hour:.2f}/h, {certificate.attainment:.2%}")
        singles = []
        for gpu, plan, single in self._singles():
            progress(f"{gpu} only: ${plan.usd_per_hour:.2f}/h, {single.attainment:.2%}")
            singles.append((gpu, plan, single))
        starts = [first, *self._harder_plan(first), *(plan for _, plan, _ in singles)]
        refined = refine(
            starts,
            plan_for=self._plan_for,
            usd=[pool.usd_per_hour for pool in self._pools],
            models=[pool.model for pool in self._pools],
            legal=self._legal,
            rehearse=self._harness.play,
            prove=self._harness.prove,
            seeds=self._seeds,
            progress=progress,
            spent=self._spent,
            harder=(1 + self._harder.demand) * (1 + min(self._harder.engines)),
            sunk_usd=shared_usd(self._pools),
        )
        return Certified(
            demand=self._demand,
            margin=self._harder.demand,
            length=length,
            first=(first, certificate),
            singles=tuple(singles),
            refined=replace(refined, certificate=self.judged(refined.plan, refined.certificate)),
        )

    def _plan_for(self, counts: Counts) -> Plan:
        return solve.assign(self._demand, self._pools, counts)

    def certificate(self, plan: Plan) -> Certificate:
        certificate = proven(plan, self._harness.play, self._harness.prove, self._seeds)
        return self.judged(plan, certificate)

    def judged(self, plan: Plan, certificate: Certificate) -> Certificate:
        """The certificate with what it was made for."""
        demand, _ = self._harder_problem
        (peaks,) = utilisations(demand, self._pools, (plan,))
        return replace(
            certificate, margin=self._harder.demand, peak=max((1.0, *filter(isfinite, peaks)))
        )

    def _harder_plan(self, first: Plan) -> Iterator[Plan]:
        """The fleet of the program for what is played, if that is another one."""
        if not any(self._harder.engines):
            return
        demand, pools = self._harder_problem
        counts = solve.provision(demand, pools, self._limits).backends
        if counts != first.backends:
            yield self._plan_for(counts)

    def _singles(self) -> Iterator[tuple[str, Plan, Certificate]]:
        """For GPU types that can serve the demand, the likely cheapest first: a smallest certified
        fleet. Those that cannot be the cheapest are left out.

        From the program's fleet backends are added one at a time until it holds, then removed while
        it does, from the dearest pool first.
        """
        dearest = sorted(range(len(self._pools)), key=lambda p: -self._pools[p].usd_per_hour)
        demand, pools = self._harder_problem
        best_usd = inf
        singles = single_types.single_types(demand, pools).items()
        for gpu, single in sorted(singles, key=lambda item: item[1].usd_per_hour):
            # Its fluid bound leaves no room for chance: no such fleet was ever seen to hold.
            if single.lower_bound_usd_per_hour > best_usd:
                continue
            own = dict(zip(single.pools, single.backends, strict=True))
            counts = tuple(_clipped(own.get(pool.name, 0), pool) for pool in self._pools)
            if self._spent():
                return
            found = self._grown(
                counts, [p for p, pool in enumerate(self._pools) if pool.gpu == gpu]
            )
            if found is None:
                continue
            for p in dearest:
                while found[0].backends[p] > 0:
                    less = self._holding(_step(found[0].backends, p, -1))
                    if less is None:
                        break
                    found = less
            best_usd = min(best_usd, found[0].usd_per_hour)
            yield gpu, *found

    def _grown(self, counts: Counts, own: list[int]) -> tuple[Plan, Certificate] | None:
        """A fleet that holds, with these counts or some more backends in its largest pool.

        own: the pools of its GPU type."""
        largest = max(own, key=counts.__getitem__)
        for _ in range(MOST_STEPS):
            if any(counts) and not self._legal(counts):
                return None
            found = self._holding(counts)
            if found is not None:
                return found
            counts = _step(counts, largest, 1)
        return None

    def _holding(self, counts: Counts) -> tuple[Plan, Certificate] | None:
        """The plan of least peak load for a fleet with its certificate, `None` if it fails."""
        if not any(counts) or not self._legal(counts):
            return None
        plan = self._plan_for(counts)
        if plan.unserved_share > MISFIT:
            return None
        certificate = self.certificate(plan)
        return (plan, certificate) if certificate.holds else None


def sealed(
    request: PlanRequest, plan: Plan, cpu_s: float = inf, *, margin: float | None = None
) -> tuple[Plan, Plan | None]:
    """A plan for observed demand with its certificate, and the cheapest certified plan.

    All classes are played at once, because they share backends. The second plan is `None` where
    counts are given, nothing was observed, or no fleet within reach holds. cpu_s: after so much CPU
    time the search ends with what it knows; the certificate of the plan is made anyway. margin: see
    `Margin.of`.
    """
    demand, pools, began_s = request.demand, request.pools, time.process_time()
    harder, length = Margin.of(pools, margin), play_length(demand)
    harness = observed_harness(harder.more(demand), pools, length, engines=harder.slower(pools))
    if harness is None:
        return replace(plan, certificate=None), None
    search = _Search(
        pools, request.limits, demand, harder, harness, SEEDS,
        spent=lambda: time.process_time() - began_s > cpu_s,
    )  # fmt: skip
    if request.objective == "assign":
        return replace(plan, certificate=search.certificate(plan)), None
    found = search.run(plan, length)
    singles = tuple(
        single_types.summary(gpu, single, certified=True) for gpu, single, _ in found.singles
    )
    singles = singles or plan.singles
    plan = replace(plan, certificate=found.first[1], singles=singles)
    if not found.refined.certificate.holds:
        return plan, None
    refined = replace(
        found.refined.plan,
        certificate=found.refined.certificate,
        safe_usd_per_hour=plan.usd_per_hour,
        singles=singles,
    )
    return plan, refined


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


def _clipped(count: int, pool: Pool) -> int:
    return count if pool.max_backends is None else min(count, pool.max_backends)


def _step(counts: Counts, p: int, step: int) -> Counts:
    return tuple(n + step * (k == p) for k, n in enumerate(counts))
