"""Closes the loop: solves for the observed demand, and decides when the new plan replaces the old.

A plan whose backends cannot hold the demand is replaced after two looks; a plan that holds it is
replaced only when another is clearly better at several looks in a row. If a solve fails, the plan
in force stays.

The program's plan is safe and known in a second, so it comes into force first. Beside it fleets are
played, for a minute and in a process of low priority, until the cheapest that is certified is
known; it replaces the safe plan if it is cheaper by the same measure, or if the safe plan's own
certificate does not hold. Fleets are played again when the demand has moved.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import isinf, pi, sqrt

import numpy as np

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
# Fleets are played again when so much of the demand is another than when they were played last, as
# a share of its requests. Certificates have a margin of about as much.
MOVED = 0.1
MOST_CHANCE = 0.4  # a change that is larger is none of chance, however bursty the traffic
MOST_ERROR = 0.2  # of an observed rate; what is less certain is not trusted any further


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplanPolicy:
    """When a plan is replaced: keys of the section `planner`, and the limits of every plan."""

    objective: Objective
    min_requests: int
    min_saving: float
    patience: int
    limits: Limits = UNLIMITED


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A plan for the demand of one moment, and the one that was in force then."""

    request: PlanRequest
    before: Plan
    plan: Plan
    comparison: Comparison


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
        on_look: Callable[[str, str], None] = lambda _result, _why: None,
        on_certificate: Callable[[Plan], None] = lambda _: None,
        demand: Demand | None = None,
        outpaced: Callable[[], bool] = lambda: False,
    ) -> None:
        """pools: returns the planner's pools, bounded by what is ready where the configuration sets
        no bound. running: returns (P,) backends of the present fleet. ready: those of them that
        serve as much as they ever do. publish: called with a new plan and the reason for it.
        on_look: called after each look with what came of it, `idle` (too few to tell), `kept`,
        `replaced` or `failed`, and why. on_certificate: called with the plan in force when it has
        its certificate. outpaced: whether the engines are found to be so much faster or
        slower that the figures of the plan in force are wrong, even where its shares are right.
        demand: what the plan is for, if it is to be certified."""
        self.plan = plan
        self._pools = pools
        self._running = running
        self._ready = ready
        self._policy = policy
        self._observed = observed
        self._solver = solver
        self._publish = publish
        self._on_look = on_look
        self._on_certificate = on_certificate
        self._first = demand
        # The plan and the demand for which fleets were played last.
        self._sealed: tuple[str, Demand] | None = None
        self._sealing: asyncio.Task[None] | None = None
        self._outpaced = outpaced
        self._short = 0  # looks in a row at which the plan did not hold
        self._better = 0  # looks in a row at which a candidate was better

    async def run(self, interval_s: float, clock: Callable[[], float]) -> None:
        """Look at this interval, for ever. A look that fails is logged and changes nothing."""
        try:
            if self._first is not None and self._sealed is None:
                self._seal_if_moved(self._request(self._first))
            while True:
                await asyncio.sleep(interval_s)
                await self._look_safely(clock())
        finally:
            if self._sealing is not None:
                self._sealing.cancel()

    async def _look_safely(self, now_s: float) -> None:
        try:
            await self.look(now_s)
        except PlannerError as error:
            log.warning("the last good plan stays: %s", error)
            self._on_look("failed", str(error))
        except Exception as error:
            log.exception("a look at the demand failed; the last good plan stays")
            self._on_look("failed", type(error).__name__)

    async def look(self, now_s: float) -> Plan | None:
        """Solve for the demand until now; publish the plan and return it if it should replace the
        one in force."""
        asked = await self.propose(now_s)
        if asked is None:
            self._on_look("idle", "too few requests came to tell")
            return None
        request, candidate, comparison = asked.request, asked.plan, asked.comparison
        if asked.before is not self.plan:  # another one was put in force meanwhile
            return None
        outpaced = self._outpaced()
        reason = self._reason(comparison, self._error(request.demand))
        reason = reason or (OUTPACED if outpaced else None)
        log.debug("look: %s, candidate %s, reason %s", comparison, candidate.plan_id, reason)
        if reason is OUTPACED:
            candidate = await self._repaced(request)
        elif reason is None or candidate.plan_id == self.plan.plan_id:
            self._seal_if_moved(request)
            self._on_look("kept", self._why(candidate))
            return None
        self._replace(candidate, reason)
        await self._give_up_seal()
        self._seal_if_moved(request)
        self._on_look("replaced", reason)
        return candidate

    async def propose(self, now_s: float) -> "Proposal | None":
        """The plan for the demand until now beside the one in force, of which nothing is put in
        force; `None` where too few requests came to tell. Raises PlannerError."""
        faded: Demand | None = None
        if self._observed.requests < self._policy.min_requests:
            faded = self._faded(now_s)
            if faded is None:
                return None
        request = self._request(self._observed.snapshot(now_s) if faded is None else faded)
        before = self.plan
        candidate = await self._solver.plan(request)
        comparison = await self._solver.compare(request, before, candidate)
        return Proposal(request=request, before=before, plan=candidate, comparison=comparison)

    async def take(self, proposal: "Proposal", reason: str) -> None:
        """Put a proposed plan in force now, whatever it saves, and have it certified as others."""
        self._replace(proposal.plan, reason)
        await self._give_up_seal()
        self._seal_if_moved(proposal.request)
        self._on_look("replaced", reason)

    def follow(self, plan: Plan) -> None:
        """Another gateway has put this plan in force, with its certificate if it has one."""
        self.plan, self._first, self._sealed = plan, None, None
        self._short = self._better = 0

    def _why(self, candidate: Plan) -> str:
        """Why the plan in force stays at this look."""
        if candidate.plan_id == self.plan.plan_id:
            return "it is the best one"
        if self._short:
            return "it did not hold, which may be chance the first time"
        if self._better:
            return f"another is better, which must be so at {self._policy.patience} looks in a row"
        return "it holds, and no other is clearly better"

    def _replace(self, plan: Plan, reason: str) -> None:
        self._short = self._better = 0
        self.plan = plan
        self._publish(plan, reason)

    async def _repaced(self, request: PlanRequest) -> Plan:
        """The fleet of the plan in force, with shares and figures for its engines as they are."""
        self._sealed = None  # its certificate was for engines of another pace
        given = replace(request, objective="assign", running=self.plan.backends)
        plan = await self._solver.plan(given)
        return replace(plan, objective=self.plan.objective)

    def _faded(self, now_s: float) -> Demand | None:
        """The demand where too little came to be trusted by itself, if that is known to be all; of
        a given fleet nothing is to be gained from it."""
        if self._policy.objective == "assign":
            return None
        return self._observed.faded(now_s, self._policy.min_requests)

    def _request(self, demand: Demand) -> PlanRequest:
        """A request for a plan for a demand, on the present fleet."""
        return PlanRequest(
            objective=self._policy.objective,
            demand=demand,
            pools=self._pools(),
            running=self._ready(),
            limits=replace(self._policy.limits, running=self._running()),
        )

    def _seal_if_moved(self, request: PlanRequest) -> None:
        """Play fleets beside the looks, unless that is done already or going on."""
        if self._sealing is not None and not self._sealing.done():
            return
        if self._sealed is not None:
            plan_id, demand = self._sealed
            chance = by_chance(request.demand, self._observed.requests)
            same = moved(demand, request.demand) <= MOVED + chance
            if plan_id == self.plan.plan_id and same:
                return
        self._sealed = self.plan.plan_id, request.demand
        self._sealing = asyncio.create_task(self._seal(request, self.plan))

    async def _give_up_seal(self) -> None:
        """End a search that began from a plan which is no longer in force: its result would not be
        used, and the search from the present plan would wait for it."""
        if self._sealing is not None:
            self._sealing.cancel()
            await asyncio.gather(self._sealing, return_exceptions=True)

    async def _seal(self, request: PlanRequest, plan: Plan) -> None:
        """Certify the plan in force, and replace it by the cheapest certified plan."""
        try:
            sealed, refined = await self._solver.seal(request, plan)
        except PlannerError as error:
            log.warning("plan %s stays without a certificate: %s", plan.plan_id, error)
            return
        except Exception:
            log.exception("plan %s stays without a certificate", plan.plan_id)
            return
        if self.plan.plan_id != plan.plan_id:  # the demand did not wait
            return
        self.plan, certificate = sealed, sealed.certificate
        self._on_certificate(sealed)
        short = certificate is not None and not certificate.holds
        if certificate is not None and short:
            log.warning(
                "plan %s keeps the SLO of %.2f%% of requests when played, not %.2f%%",
                sealed.plan_id, 100 * certificate.attainment, 100 * certificate.target,
            )  # fmt: skip
        if refined is None or refined.plan_id == plan.plan_id:
            return
        saving = 1 - refined.usd_per_hour / plan.usd_per_hour if plan.usd_per_hour else 0.0
        if saving >= self._policy.min_saving:
            reason = f"certified, and {saving:.0%} cheaper than the plan before"
        elif short:
            reason = "the plan did not hold when it was played; this one does"
        else:
            return
        self._replace(refined, reason)
        self._sealed = refined.plan_id, request.demand

    def _error(self, demand: Demand) -> float:
        """The standard error of the observed rate, as a share: √(z/N) for N requests whose counts
        have the index of dispersion z."""
        return min(MOST_ERROR, sqrt(max(demand.dispersion) / max(1, self._observed.requests)))

    def _reason(self, comparison: Comparison, error: float) -> str | None:
        """Count this look; return the reason to replace the plan now, or `None`.

        error: of the observed rate, a share."""
        policy = self._policy
        peak, candidate_peak = comparison.peak, comparison.candidate_peak
        improves = candidate_peak < peak * (1 - policy.min_saving)
        saves = comparison.saving >= policy.min_saving
        short = comparison.beyond(error)
        self._short = self._short + 1 if short and improves else 0
        self._better = self._better + 1 if not short and saves else 0
        if self._short >= URGENT_LOOKS:
            why = f"peak {peak:.2f} of what its backends keep"
            if isinf(peak):
                why = "it has no backend for some of the sizes that came"
            return f"the plan no longer holds: {why}"
        if self._better >= policy.patience:
            gain = "less loaded" if policy.objective == "assign" else "cheaper"
            return f"{comparison.saving:.0%} {gain}"
        return None


def by_chance(demand: Demand, requests: int) -> float:
    """How much two looks at one demand differ by chance, as `moved` has it.

    requests: in the window, N. Of each bucket of share p the two differ by √(2/π) standard errors
    √(2 z p/N) on average. At most `MOST_CHANCE`: a change of the rate looks like a burst, too.
    """
    share = demand.rate / demand.total_rate if demand.total_rate else demand.rate
    error = np.sqrt(2 * max(demand.dispersion) * share / max(1, requests)).sum()
    return min(MOST_CHANCE, float(sqrt(2 / pi) * error))


def moved(before: Demand, now: Demand) -> float:
    """How much of the demand is another than before, as a share of what it was; 1 for other
    buckets."""
    if before.buckets != now.buckets or not before.total_rate:
        return 1.0
    return float(np.abs(now.rate - before.rate).sum()) / before.total_rate
