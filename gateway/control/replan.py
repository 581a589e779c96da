"""Closes the loop: solves for the observed demand, and decides when the new plan replaces the old.

A plan whose backends cannot hold the demand is replaced after two looks; a plan that holds it is
replaced only when another is clearly better at several looks in a row. If a solve fails, the plan
in force stays.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

from gateway.control.observed import ObservedDemand
from gateway.control.solver.compare import Comparison
from gateway.control.solver.process import Solver
from planner.errors import PlannerError
from planner.model.demand import Demand
from planner.model.plan import Plan
from planner.model.pool import Pool
from planner.program.limits import UNLIMITED, Limits
from planner.program.request import Objective, PlanRequest

log = logging.getLogger("cuvee.replan")

OUTPACED = "the engines run at another pace than the plan was made for"
URGENT_LOOKS = 2  # looks in a row at which the plan does not hold; a single one may be chance


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplanPolicy:
    """When a plan is replaced: keys of the section `planner`, and the limits of every plan."""

    objective: Objective
    min_requests: int
    min_saving: float
    patience: int
    limits: Limits = UNLIMITED


class Replanner:
    """Solves at intervals, and publishes a plan that should replace the one in force.

    plan: the plan in force.
    """

    def __init__(
        self,
        *,
        plan: Plan,
        pools: Callable[[], tuple[Pool, ...]],
        running: Callable[[], tuple[int, ...]],
        ready: Callable[[], tuple[int, ...]],
        policy: ReplanPolicy,
        observed: ObservedDemand,
        solver: Solver,
        publish: Callable[[Plan, str], None],
        on_look: Callable[[str], None] = lambda _: None,
        outpaced: Callable[[], bool] = lambda: False,
    ) -> None:
        """pools: returns the planner's pools, bounded by what is ready where the configuration sets
        no bound. running: returns (P,) backends of the present fleet. ready: those of them that
        serve as much as they ever do. publish: called with a new plan and the reason for it.
        on_look: called after each look with what came of it: `idle` (too few to tell), `kept`,
        `replaced` or `failed`. outpaced: whether the engines are found to be so much faster or
        slower that the figures of the plan in force are wrong, even where its shares are right."""
        self.plan = plan
        self._pools = pools
        self._running = running
        self._ready = ready
        self._policy = policy
        self._observed = observed
        self._solver = solver
        self._publish = publish
        self._on_look = on_look
        self._outpaced = outpaced
        self._short = 0  # looks in a row at which the plan did not hold
        self._better = 0  # looks in a row at which a candidate was better

    async def run(self, interval_s: float, clock: Callable[[], float]) -> None:
        """Look at this interval, for ever. A look that fails is logged and changes nothing."""
        while True:
            await asyncio.sleep(interval_s)
            try:
                await self.look(clock())
            except PlannerError as error:
                log.warning("the last good plan stays: %s", error)
                self._on_look("failed")
            except Exception:
                log.exception("a look at the demand failed; the last good plan stays")
                self._on_look("failed")

    async def look(self, now_s: float) -> Plan | None:
        """Solve for the demand until now; publish the plan and return it if it should replace the
        one in force."""
        faded: Demand | None = None
        if self._observed.requests < self._policy.min_requests:
            faded = self._faded(now_s)
            if faded is None:
                self._on_look("idle")
                return None
        request = self._request(now_s)
        if faded is not None:
            request = replace(request, demand=faded)
        candidate = await self._solver.plan(request)
        comparison = await self._solver.compare(request, self.plan, candidate)
        outpaced = self._outpaced()
        reason = self._reason(comparison) or (OUTPACED if outpaced else None)
        log.debug("look: %s, candidate %s, reason %s", comparison, candidate.plan_id, reason)
        if reason is None or (candidate.plan_id == self.plan.plan_id and not outpaced):
            self._on_look("kept")
            return None
        candidate = await self._certified(candidate, request.demand, request.pools)
        self._short = self._better = 0
        self.plan = candidate
        self._publish(candidate, reason)
        self._on_look("replaced")
        return candidate

    def _faded(self, now_s: float) -> Demand | None:
        """The demand where too little came to be trusted by itself, if that is known to be all; of
        a given fleet nothing is to be gained from it."""
        if self._policy.objective == "assign":
            return None
        return self._observed.faded(now_s, self._policy.min_requests)

    def _request(self, now_s: float) -> PlanRequest:
        """A request for a plan for the demand until now, on the present fleet."""
        return PlanRequest(
            objective=self._policy.objective,
            demand=self._observed.snapshot(now_s),
            pools=self._pools(),
            running=self._ready(),
            limits=replace(self._policy.limits, running=self._running()),
        )

    async def _certified(self, candidate: Plan, demand: Demand, pools: tuple[Pool, ...]) -> Plan:
        """The candidate with its certificate, or without one if certification fails.

        A missing or bad certificate is logged and does not stop the plan: the plan in force is
        known to be worse.
        """
        try:
            candidate = await self._solver.certify(candidate, demand, pools)
        except PlannerError as error:
            log.warning("plan %s goes uncertified: %s", candidate.plan_id, error)
            return candidate
        certificate = candidate.certificate
        if certificate is not None and not certificate.holds:
            log.warning(
                "plan %s keeps the SLO of %.2f%% of requests when rehearsed, not %.2f%%",
                candidate.plan_id, 100 * certificate.attainment, 100 * certificate.target,
            )  # fmt: skip
        return candidate

    def _reason(self, comparison: Comparison) -> str | None:
        """Count this look; return the reason to replace the plan now, or `None`."""
        policy = self._policy
        peak, candidate_peak = comparison.peak, comparison.candidate_peak
        improves = candidate_peak < peak * (1 - policy.min_saving)
        saves = comparison.saving >= policy.min_saving
        self._short = self._short + 1 if not comparison.holds and improves else 0
        self._better = self._better + 1 if comparison.holds and saves else 0
        if self._short >= URGENT_LOOKS:
            return f"the plan no longer holds: peak {peak:.2f} of what its backends keep"
        if self._better >= policy.patience:
            gain = "less loaded" if policy.objective == "assign" else "cheaper"
            return f"{comparison.saving:.0%} {gain}"
        return None
