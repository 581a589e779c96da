"""Compares the plan in force with a candidate on the present demand. Pure; takes milliseconds."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from planner.model.plan import Plan
from planner.program.headroom import utilisations
from planner.program.request import PlanRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """How much better a candidate is.

    peak, candidate_peak: the highest utilisation `(M + κ√V)/y` of any pool under the plan in force
    and under the candidate. allowed: up to which the plan in force holds: 1, or more if it was
    played with more. saving: the share of the peak (objective
    `assign`) or of the cost (`provision`) that the candidate saves.
    """

    peak: float
    candidate_peak: float
    saving: float
    allowed: float = 1.0

    @property
    def holds(self) -> bool:
        """Whether the plan in force holds the demand."""
        return self.peak <= self.allowed

    def beyond(self, error: float) -> bool:
        """Whether the plan in force does not hold, though the demand may be overstated by this
        share. A safe plan has headroom for less than that, and is not given the doubt."""
        return self.peak > self.allowed * (1 + (error if self.allowed > 1 else 0.0))


def compare(request: PlanRequest, plan: Plan, candidate: Plan) -> Comparison:
    """Compare two plans on the demand of a request. plan: the one in force."""
    there = [_on_what_there_is(request, one) for one in (plan, candidate)]
    of_plan, of_candidate = utilisations(request.demand, request.pools, there)
    peak, candidate_peak = max(of_plan), max(of_candidate)
    if _rate_without_pool(request, plan) > _rate_without_pool(request, candidate):
        peak = float("inf")
    if request.objective == "assign":
        saving = 1 - candidate_peak / peak if 0 < peak < float("inf") else 0.0
    else:
        usd = plan.usd_per_hour
        saving = 1 - candidate.usd_per_hour / usd if usd > 0 else 0.0
    certificate = plan.certificate
    allowed = certificate.peak if certificate is not None and certificate.holds else 1.0
    return Comparison(
        peak=peak, candidate_peak=candidate_peak, saving=saving, allowed=max(1.0, allowed)
    )


def _on_what_there_is(request: PlanRequest, plan: Plan) -> Plan:
    """A plan with no more backends of a pool than can be had; some may have gone down since."""
    bounds: Sequence[int | None] = [pool.max_backends for pool in request.pools]
    most = request.running if request.objective == "assign" else bounds
    both = zip(plan.backends, most, strict=len(plan.pools) == len(request.pools))
    return replace(plan, backends=tuple(n if m is None else min(n, m) for n, m in both))


def _rate_without_pool(request: PlanRequest, plan: Plan) -> float:
    """Requests/s in buckets that the plan gives to no pool, which no utilisation shows."""
    rows = zip(request.demand.rate.tolist(), plan.weights, strict=True)
    return float(sum(rate for rate, row in rows if not any(row)))
