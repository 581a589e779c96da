"""The cost of a demand over rates and over TPOT targets: on every single GPU type and on the mix.

Bounds on counts are lifted and no backend is reserved: a curve shows what a GPU type is good for,
not how many GPUs there are. Must not know how plans are found or how curves are drawn.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from planner.costs.single_types import single_types
from planner.costs.whatif import with_target
from planner.model.demand import Demand
from planner.model.plan import Plan
from planner.model.pool import Pool
from planner.program.solve import provision

MIX = "mix"


@dataclass(frozen=True, slots=True, kw_only=True)
class CostCurve:
    """One curve: the cost in $/h at each x; `None` where not everything can be served.

    name: a GPU type, or `MIX`. x: rates in requests/s, or TPOT targets in seconds.
    """

    name: str
    x: tuple[float, ...]
    usd_per_hour: tuple[float | None, ...]


def over_rate(
    demand: Demand, pools: tuple[Pool, ...], rates: tuple[float, ...]
) -> tuple[CostCurve, ...]:
    """The cost at each rate (requests/s), of the mix and of every single type."""
    return _curves(rates, (demand.scaled_to(rate) for rate in rates), pools)


def over_tpot(
    demand: Demand, pools: tuple[Pool, ...], targets: tuple[float, ...]
) -> tuple[CostCurve, ...]:
    """The cost at each TPOT target (seconds), of the mix and of every single type."""
    return _curves(targets, (with_target(demand, "tpot_s", target) for target in targets), pools)


def _curves(
    x: tuple[float, ...], demands: Iterable[Demand], pools: tuple[Pool, ...]
) -> tuple[CostCurve, ...]:
    free = tuple(replace(pool, min_backends=0, max_backends=None, reserved=0) for pool in pools)
    costs: dict[str, list[float | None]] = {}
    for demand in demands:
        for name, plan in {MIX: provision(demand, free), **single_types(demand, free)}.items():
            costs.setdefault(name, []).append(_usd(plan))
    return tuple(CostCurve(name=n, x=x, usd_per_hour=tuple(usd)) for n, usd in costs.items())


def _usd(plan: Plan) -> float | None:
    # A fleet that leaves some demand unserved is cheaper than it should be.
    return None if plan.unserved else plan.usd_per_hour
