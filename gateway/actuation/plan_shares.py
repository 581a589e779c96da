"""The share of each model's requests that a plan gives to each pool. Pure."""

from collections.abc import Mapping

from planner.model.plan import Plan


def request_shares(plan: Plan) -> dict[str, float]:
    """By pool; of the pools of one model they sum to 1. Without demand all sizes count alike; pools
    of a model that the plan gives to nobody are left out.

    A router that splits by these shares does not look at sizes: each pool then gets the mean mix of
    requests, not the sizes that the plan has for it.
    """
    by_rate = _sums(plan, plan.rate)
    by_size = _sums(plan, (1.0,) * len(plan.rate))
    shares: dict[str, float] = {}
    for model, alike in by_size.items():
        sums = by_rate[model] if sum(by_rate[model].values()) > 0 else alike
        total = sum(sums.values())
        if total > 0:
            shares |= {pool: value / total for pool, value in sums.items()}
    return shares


def _sums(plan: Plan, rate: tuple[float, ...]) -> dict[str, dict[str, float]]:
    """By model and pool: the weights of the model's buckets, times their rates. Pools of which no
    bucket of any model is served are of no model."""
    found: dict[str, dict[str, float]] = {}
    used = {pool for _, pool, _ in plan.shares()}
    models = _models(plan)
    for pool in plan.pools:
        if pool in used:
            found.setdefault(models[pool], {})[pool] = 0.0
    for bucket, pool, weight in plan.shares():
        model = plan.buckets.class_of(bucket).model
        found[model][pool] += weight * rate[bucket]
    return found


def _models(plan: Plan) -> Mapping[str, str]:
    """The model of each pool, as far as the plan uses it: a pool serves one."""
    return {pool: plan.buckets.class_of(bucket).model for bucket, pool, _ in plan.shares()}
