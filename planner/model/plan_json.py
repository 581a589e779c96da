"""A plan as JSON. Must not know how plans are made: a gateway shows one and imports no solver."""

from dataclasses import asdict
from typing import Any

from planner.model.plan import Plan


def plan_figures(plan: Plan) -> dict[str, Any]:
    """A plan as plain values: lists, dictionaries, strings and numbers.

    `buckets` has the grid's edges and, in the order of the rows of `weights`, each bucket's model,
    SLO class and ranges; `weights` is bucket × pool in the order of `pools`.
    """
    grid, buckets = plan.buckets.grid, plan.buckets
    return {
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
                    "model": buckets.class_of(b).model,
                    "slo_class": buckets.class_of(b).name,
                    "input": list(i),
                    "output": list(o),
                }
                for b in range(buckets.count)
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
            {
                "bucket": u.bucket,
                "what": buckets.describe(u.bucket),
                "rate": u.rate,
                "why": u.reason,
            }
            for u in plan.unserved
        ],
        "single_types": {
            single.gpu: {
                "feasible": single.unserved_share == 0,
                "usd_per_hour": single.usd_per_hour,
                "backends": dict(single.backends),
                "unserved_share": single.unserved_share,
                "why": single.why,
                "certified": single.certified,
            }
            for single in plan.singles
        },
        "safe_usd_per_hour": plan.safe_usd_per_hour,
        "cached_share": dict(zip(plan.pools, plan.cached_share, strict=False)),
    }
