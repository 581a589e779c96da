"""Plans, explanations, alternatives and portfolios as JSON, for `--json`.

Must not know how any of them is computed, nor tables for people.
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from planner.costs.explain import Explanation
from planner.costs.portfolio import Portfolio
from planner.costs.whatif import Alternative
from planner.model.plan import Plan
from planner.model.plan_json import plan_figures


def plan_json(
    plan: Plan,
    explanation: Explanation | None = None,
    alternatives: Sequence[Alternative] | None = None,
) -> dict[str, Any]:
    """A plan as plain values, with the keys `explanation` and `what_if` if these are given.

    What is not served stands first, since the bill is for the rest.
    """
    body = {"unserved_share": plan.unserved_share} | plan_figures(plan)
    if explanation is not None:
        body["explanation"] = explanation_json(explanation)
    if alternatives is not None:
        body["what_if"] = [alternative_json(other) for other in alternatives]
    return body


def explanation_json(explanation: Explanation) -> dict[str, Any]:
    """An explanation as plain values.

    Lists by bucket are in the order of the plan's buckets; `null`: no pool holds the bucket's SLO.
    """
    gap = explanation.gap
    return {
        "lower_bound_usd_per_hour": gap.bound,
        "gap_usd_per_hour": {
            "tail": gap.tail,
            "integrality": gap.integrality,
            "limits": gap.limits,
            "switching": gap.switching,
            "reserved": gap.reserved,
        },
        "usd_per_hour_by_bucket": list(explanation.bucket),
        "usd_per_hour_by_key": dict(explanation.key),
        "idle_usd_per_hour": explanation.idle,
        "next_usd_per_1000_requests": list(explanation.next_usd),
        "next_is_reliable": explanation.reliable,
    }


def alternative_json(alternative: Alternative) -> dict[str, Any]:
    """A change and the cheapest plan under it, as plain values."""
    plan = alternative.plan
    return {
        "change": alternative.change,
        "plan_id": plan.plan_id,
        "usd_per_hour": plan.usd_per_hour,
        "lower_bound_usd_per_hour": plan.lower_bound_usd_per_hour,
        "backends": dict(zip(plan.pools, plan.backends, strict=True)),
        "unserved_share": plan.unserved_share,
    }


def portfolio_json(portfolio: Portfolio) -> dict[str, Any]:
    """A portfolio and its savings as plain values."""
    lines = [asdict(line) for line in portfolio.lines]
    return {
        "hours": portfolio.hours,
        "peak_requests_per_s": portfolio.peak_rate,
        "usd": portfolio.usd,
        "committed_usd": sum(line.committed_usd for line in portfolio.lines),
        "on_demand_usd": sum(line.on_demand_usd for line in portfolio.lines),
        "spot_usd": sum(line.spot_usd for line in portfolio.lines),
        "gpus": {line.pop("gpu"): line for line in lines},
        "all_on_demand_usd": portfolio.on_demand_usd,
        "saving": portfolio.saving,
        "single_type": portfolio.single,
        "single_type_usd": portfolio.single_usd,
        "single_type_saving": portfolio.single_saving,
        "single_type_on_demand_usd": portfolio.single_on_demand_usd,
        "unserved_share": portfolio.unserved_share,
    }
