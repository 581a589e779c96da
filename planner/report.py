"""Plans, what explains them, and portfolios as JSON. Knows the planner's values only."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from planner.explain import Explanation
from planner.model import Plan
from planner.portfolio import Portfolio
from planner.whatif import Alternative


def plan_json(
    plan: Plan,
    explanation: Explanation | None = None,
    alternatives: Sequence[Alternative] | None = None,
) -> dict[str, Any]:
    """A plan as plain values.

    `buckets` has the grid's edges and, in the order of the rows of `weights`, each bucket's model,
    SLO class and ranges; `weights` is bucket × pool in the order of `pools`. `explanation` and
    `what_if` are there only if given.
    """
    grid, space = plan.space.grid, plan.space
    body = {
        "plan_id": plan.plan_id,
        "objective": plan.objective,
        "usd_per_hour": plan.usd_per_hour,
        "lower_bound_usd_per_hour": plan.lower_bound_usd_per_hour,
        "gap": plan.gap,
        "solve_s": plan.solve_s,
        "pools": list(plan.pools),
        "backends": dict(zip(plan.pools, plan.backends, strict=True)),
        "load": dict(zip(plan.pools, plan.load, strict=True)),
        "tail": dict(zip(plan.pools, plan.tail, strict=True)),
        "requests_per_s": sum(plan.rate),
        "buckets": {
            "input_edges": list(grid.input_edges),
            "output_edges": list(grid.output_edges),
            "cells": [
                {
                    "model": space.class_of(b).model,
                    "slo_class": space.class_of(b).name,
                    "input": list(i),
                    "output": list(o),
                }
                for b in range(space.buckets)
                for i, o in [grid.bounds(b % grid.cells)]
            ],
        },
        "rate": list(plan.rate),
        "weights": [list(row) for row in plan.weights],
        "switching_usd_per_hour": plan.switching_usd_per_hour,
        "certificate": None
        if plan.certificate is None
        else asdict(plan.certificate) | {"holds": plan.certificate.holds},
        "relaxation": None if plan.relaxation is None else asdict(plan.relaxation),
        "unserved": [
            {"bucket": u.bucket, "what": space.describe(u.bucket), "rate": u.rate, "why": u.reason}
            for u in plan.unserved
        ],
        "single_types": {
            single.gpu: {
                "feasible": single.unserved_share == 0,
                "usd_per_hour": single.usd_per_hour,
                "backends": dict(single.backends),
                "unserved_share": single.unserved_share,
                "why": single.why,
            }
            for single in plan.singles
        },
    }
    if explanation is not None:
        body["explanation"] = explanation_json(explanation)
    if alternatives is not None:
        body["what_if"] = [alternative_json(other) for other in alternatives]
    return body


def explanation_json(explanation: Explanation) -> dict[str, Any]:
    """Lists by bucket are in the order of the plan's buckets; `null`: no pool holds its SLO."""
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
    """A change, and what the cheapest plan under it is."""
    plan = alternative.plan
    return {
        "change": alternative.change,
        "plan_id": plan.plan_id,
        "usd_per_hour": plan.usd_per_hour,
        "lower_bound_usd_per_hour": plan.lower_bound_usd_per_hour,
        "backends": dict(zip(plan.pools, plan.backends, strict=True)),
        "unserved_share": alternative.unserved_share,
    }


def portfolio_json(portfolio: Portfolio) -> dict[str, Any]:
    """A portfolio as plain values, its savings with it."""
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
