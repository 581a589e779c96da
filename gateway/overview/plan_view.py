"""A plan as the page shows it: what it costs and why, and where requests of each size go. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from planner.model.plan import Plan
from planner.model.plan_json import plan_figures
from planner.model.pool import Pool
from planner.sizes import FloatArray
from planner.slo import Slo

LEFT_OUT = ("weights", "rate", "buckets")  # of `plan_figures`: the map of sizes has them, denser
SHARE_DIGITS = 4


def plan_view(plan: Plan, pools: Sequence[Pool], reason: str) -> dict[str, Any]:
    """Why a plan is, what is proven of it, and what each part of the demand costs."""
    figures = {key: value for key, value in plan_figures(plan).items() if key not in LEFT_OUT}
    prices = {pool.name: pool.usd_per_hour for pool in pools}
    cost = bucket_cost(plan, pools)
    shown = np.argsort(-cost)
    buckets = plan.buckets
    return figures | {
        "reason": reason,
        "gpus": {pool.name: gpu_of(pool) for pool in pools},
        "prices": prices,
        "costs": [
            {
                "bucket": int(b),
                "what": buckets.describe(int(b)),
                "rate": round(plan.rate[int(b)], 5),
                "usd_per_hour": round(float(cost[b]), 5),
                "pools": {
                    pool: round(weight, SHARE_DIGITS)
                    for pool, weight in zip(plan.pools, plan.weights[int(b)], strict=True)
                    if weight > 0
                },
            }
            for b in shown
            if plan.rate[int(b)] > 0
        ],
    }


def bucket_cost(plan: Plan, pools: Sequence[Pool]) -> FloatArray:
    """(B,) what each bucket costs, $/h: of each pool's bill the part of its backends' time that the
    bucket takes. Spare backends are shared alike, so that all buckets come to the plan's bill."""
    bill = np.array([
        pool.usd_per_hour * max(0, count - pool.reserved)
        for pool, count in zip(pools, plan.backends, strict=True)
    ])  # fmt: skip
    weights, seconds = np.asarray(plan.weights), np.asarray(plan.seconds)
    taken = np.where(weights > 0, weights * np.where(np.isfinite(seconds), seconds, 0.0), 0.0)
    taken = taken * np.asarray(plan.rate)[:, None]
    whole = taken.sum(axis=0)
    cost = (taken / np.where(whole > 0, whole, 1.0)) @ bill
    total = float(cost.sum())
    return np.asarray(cost * (plan.usd_per_hour / total) if total > 0 else cost)


def sizes_view(
    plan: Plan,
    pools: Sequence[Pool],
    arrived: FloatArray,
    went: Mapping[tuple[int, str], int],
    *,
    seconds: float,
) -> dict[str, Any]:
    """The map of sizes: planned shares of each bucket, and what really came.

    arrived: (B,) requests/s of the last seconds. went: of a sample of them, how many went where, by
    bucket and pool. Rows of `cells` are: bucket, planned requests/s, real requests/s, pairs of pool
    and planned share, pairs of pool and real share, and how many requests the latter are of.
    Buckets without any are left out.
    """
    grid = plan.buckets.grid
    unserved = {one.bucket: one.reason for one in plan.unserved}
    cells = []
    for bucket, rate in enumerate(plan.rate):
        real = float(arrived[bucket]) if bucket < len(arrived) else 0.0
        shares = [
            [number, round(weight, SHARE_DIGITS)]
            for number, weight in enumerate(plan.weights[bucket])
            if weight > 0
        ]
        counts = [(number, went.get((bucket, pool), 0)) for number, pool in enumerate(plan.pools)]
        sample = sum(count for _, count in counts)
        found = [[number, round(count / sample, SHARE_DIGITS)] for number, count in counts if count]
        if rate > 0 or real > 0 or shares:
            cells.append([bucket, round(rate, 5), round(real, 5), shares, found, sample])
    return {
        "plan_id": plan.plan_id,
        "input_edges": list(grid.input_edges),
        "output_edges": list(grid.output_edges),
        "classes": [
            {"model": one.model, "name": one.name, **promise(one.slo)}
            for one in plan.buckets.classes
        ],
        "pools": [{"name": pool.name, "gpu": gpu_of(pool), "model": pool.model} for pool in pools],
        "cells": cells,
        "unserved": {str(bucket): why for bucket, why in unserved.items()},
        "seconds": round(seconds, 1),
    }


def promise(slo: Slo) -> dict[str, float]:
    """A promise in JSON."""
    return {"ttft_s": slo.ttft_s, "tpot_s": slo.tpot_s, "attainment": slo.attainment}


def planned_shares(plan: Plan, pools: Sequence[Pool]) -> dict[str, float]:
    """Of each model's planned requests, the share that each pool is to serve, by pool."""
    rate = np.asarray(plan.rate)
    sent = np.asarray(plan.weights).T @ rate
    by_model: dict[str, float] = {}
    for pool, amount in zip(pools, sent, strict=True):
        by_model[pool.model] = by_model.get(pool.model, 0.0) + float(amount)
    return {
        pool.name: round(float(amount) / by_model[pool.model], SHARE_DIGITS)
        for pool, amount in zip(pools, sent, strict=True)
        if by_model[pool.model] > 0
    }


def gpu_of(pool: Pool) -> str:
    """The GPUs of one backend: `H100`, or `2×H100`."""
    return pool.gpu if pool.gpus == 1 else f"{pool.gpus}×{pool.gpu}"
