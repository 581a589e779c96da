"""What else could be done with the same demand, put beside a plan. Knows no gateway."""

from dataclasses import replace

from planner import economics
from planner.model import Demand, Plan, Pool, Single


def explained(plan: Plan, demand: Demand, pools: tuple[Pool, ...]) -> Plan:
    """The plan with what the same demand and promise cost on every single GPU type."""
    singles = economics.single_types(demand, pools)
    return replace(plan, singles=tuple(_single(gpu, p, demand) for gpu, p in singles.items()))


def _single(gpu: str, plan: Plan, demand: Demand) -> Single:
    missing = sum(unserved.rate for unserved in plan.unserved)
    return Single(
        gpu=gpu,
        usd_per_hour=plan.usd_per_hour,
        backends=tuple(zip(plan.pools, plan.backends, strict=True)),
        unserved_share=missing / demand.total_rate if demand.total_rate else 0.0,
        why=plan.unserved[0].reason if plan.unserved else None,
    )


def best_single(plan: Plan) -> Single | None:
    """The cheapest single type that serves everything; `None` if there is none."""
    able = (single for single in plan.singles if not single.unserved_share)
    return min(able, key=lambda single: single.usd_per_hour, default=None)
