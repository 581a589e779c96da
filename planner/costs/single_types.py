"""What the same demand costs on one GPU type alone. Knows nothing of how plans are found."""

from collections.abc import Mapping
from dataclasses import replace

from planner.model.demand import Demand
from planner.model.plan import Plan
from planner.model.pool import Pool
from planner.program.solve import provision


def single_types(
    demand: Demand,
    pools: tuple[Pool, ...],
    *,
    time_limit_s: float = 5.0,
    gap: float = 1e-4,
) -> dict[str, Plan]:
    """For each GPU type the cheapest plan that uses it alone, as many of it as that takes.

    `2xA100-80G` counts as A100-80G. A type that cannot serve everything says so in `unserved`:
    its cost is then for less work than the others'.
    """
    plans = {}
    for gpu in dict.fromkeys(pool.gpu for pool in pools):
        alone = tuple(replace(pool, max_backends=None) for pool in pools if pool.gpu == gpu)
        plans[gpu] = provision(demand, alone, time_limit_s=time_limit_s, gap=gap)
    return plans


def best_single(plans: Mapping[str, Plan]) -> str | None:
    """The GPU type whose plan is cheapest among those that serve everything; None: none does."""
    able = {gpu: plan.usd_per_hour for gpu, plan in plans.items() if not plan.unserved}
    return min(able, key=lambda gpu: able[gpu], default=None)
