"""The same demand on one GPU type alone. Must not know how plans are found."""

from dataclasses import replace

from planner.model.demand import Demand
from planner.model.plan import Plan, SingleType
from planner.model.pool import Pool
from planner.program.solve import provision


def single_types(
    demand: Demand,
    pools: tuple[Pool, ...],
    *,
    time_limit_s: float = 5.0,
    gap: float = 1e-4,
) -> dict[str, Plan]:
    """For each GPU type the cheapest plan that uses it alone, with as many backends as it takes.

    `2xA100-80G` counts as A100-80G. max_backends is lifted, because the question is which type to
    rent, not how many there are. If a type cannot serve everything its plan has `unserved`, and its
    cost is for less work than that of the others.
    """
    plans = {}
    for gpu in dict.fromkeys(pool.gpu for pool in pools):
        alone = tuple(replace(pool, max_backends=None) for pool in pools if pool.gpu == gpu)
        plans[gpu] = provision(demand, alone, time_limit_s=time_limit_s, gap=gap)
    return plans


def summary(gpu: str, plan: Plan, *, certified: bool = False) -> SingleType:
    """What a plan keeps of the fleet of one GPU type. certified: the fleet was played and holds, so
    that it serves the demand whatever the program says."""
    return SingleType(
        gpu=gpu,
        usd_per_hour=plan.usd_per_hour,
        backends=tuple(zip(plan.pools, plan.backends, strict=True)),
        unserved_share=0.0 if certified else plan.unserved_share,
        why=plan.unserved[0].reason if plan.unserved and not certified else None,
        certified=certified,
    )
