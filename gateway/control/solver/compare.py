"""A plan in force beside a candidate, on the demand of now. Pure; milliseconds of NumPy."""

from dataclasses import dataclass
from typing import Literal

from planner.model.demand import Demand
from planner.model.plan import Plan
from planner.model.pool import Pool
from planner.program.headroom import utilisations

Objective = Literal["provision", "assign"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What one look found: the peak of `(M + κ√V)/y` over the pools now, and with the candidate."""

    peak: float
    best: float
    saving: float

    @property
    def holds(self) -> bool:
        return self.peak <= 1.0


def compare(
    objective: Objective, demand: Demand, pools: tuple[Pool, ...], plan: Plan, candidate: Plan
) -> Comparison:
    """What the candidate would be worth in place of the plan."""
    now, then = utilisations(demand, pools, (plan, candidate))
    peak, best = max(now), max(then)
    if _homeless(demand, plan) > _homeless(demand, candidate):
        peak = float("inf")
    if objective == "assign":
        saving = 1 - best / peak if 0 < peak < float("inf") else 0.0
    else:
        usd = plan.usd_per_hour
        saving = 1 - candidate.usd_per_hour / usd if usd > 0 else 0.0
    return Comparison(peak=peak, best=best, saving=saving)


def _homeless(demand: Demand, plan: Plan) -> float:
    """Requests/s in buckets that the plan gives to no pool: no utilisation shows them."""
    rows = zip(demand.rate.tolist(), plan.weights, strict=True)
    return float(sum(rate for rate, row in rows if not any(row)))
