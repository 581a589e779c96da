"""The share of each model's requests that pools get by a plan. Pure."""

import math
from collections.abc import Iterator, Mapping

from planner.model.plan import Plan


def request_shares(plan: Plan) -> dict[str, float]:
    """The plan's own: by pool; of the pools of one model they sum to 1. Without demand all sizes
    count alike. Pools that the plan uses for nothing are left out.

    A router that splits by these shares does not look at sizes: each pool then gets the mean mix of
    requests, not the sizes that the plan has for it.
    """
    found: dict[str, float] = {}
    for buckets, pools in _models(plan):
        rates = _mix(plan, buckets)
        sums = {
            pool: sum(rate * plan.weights[bucket][place] for bucket, rate in rates.items())
            for pool, place in pools.items()
        }
        found |= _normed(sums)
    return found


def capacity_shares(plan: Plan) -> dict[str, float]:
    """For routers that do not look at sizes: as many requests of the mean mix as each pool's
    planned backends can serve, so that all are equally loaded. As `request_shares` otherwise, and
    for models of which no pool can serve all sizes within the promise."""
    found = request_shares(plan)
    for buckets, pools in _models(plan):
        rates = _mix(plan, buckets)
        able = {}
        for pool, place in pools.items():
            seconds = sum(rate * plan.seconds[bucket][place] for bucket, rate in rates.items())
            able[pool] = plan.backends[place] / seconds if 0 < seconds < math.inf else 0.0
        found |= _normed(able)
    return found


def _models(plan: Plan) -> Iterator[tuple[list[int], Mapping[str, int]]]:
    """For each model its buckets that are served, and the pools that serve it with their places in
    the plan: a pool serves one model."""
    places = {pool: place for place, pool in enumerate(plan.pools)}
    buckets: dict[str, dict[int, None]] = {}
    pools: dict[str, dict[str, int]] = {}
    for bucket, pool, _ in plan.shares():
        model = plan.buckets.class_of(bucket).model
        buckets.setdefault(model, {})[bucket] = None
        pools.setdefault(model, {})[pool] = places[pool]
    for model, known in buckets.items():
        yield list(known), pools[model]


def _mix(plan: Plan, buckets: list[int]) -> dict[int, float]:
    """Requests/s of these buckets, without those that have none; without any, one of each."""
    rates = {bucket: plan.rate[bucket] for bucket in buckets if plan.rate[bucket] > 0}
    return rates or dict.fromkeys(buckets, 1.0)


def _normed(sums: Mapping[str, float]) -> dict[str, float]:
    total = sum(sums.values())
    return {pool: value / total for pool, value in sums.items()} if total > 0 else {}
