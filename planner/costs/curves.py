"""What a demand costs over rates and over TPOT targets: on every single GPU type and on the mix.

Bounds on counts are lifted and nothing is paid for already: a curve shows what a GPU is good for,
not how many there are.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from planner.costs.single_types import single_types
from planner.costs.whatif import promised
from planner.model.demand import Demand
from planner.model.plan import Plan
from planner.model.pool import Pool
from planner.program.solve import provision

MIX = "mix"


@dataclass(frozen=True, slots=True, kw_only=True)
class CostCurve:
    """Cost over something: x, and $/h there; `None` where not everything can be served."""

    name: str
    x: tuple[float, ...]
    usd_per_hour: tuple[float | None, ...]


def over_rate(
    demand: Demand, pools: tuple[Pool, ...], rates: tuple[float, ...]
) -> tuple[CostCurve, ...]:
    """Cost at each rate, requests/s, of the mix and of every single type."""
    return _curves(rates, (demand.scaled_to(rate) for rate in rates), pools)


def over_tpot(
    demand: Demand, pools: tuple[Pool, ...], targets: tuple[float, ...]
) -> tuple[CostCurve, ...]:
    """Cost at each TPOT target, seconds, of the mix and of every single type."""
    return _curves(targets, (promised(demand, "tpot_s", target) for target in targets), pools)


def _curves(
    x: tuple[float, ...], demands: Iterable[Demand], pools: tuple[Pool, ...]
) -> tuple[CostCurve, ...]:
    free = tuple(replace(pool, min_backends=0, max_backends=None, reserved=0) for pool in pools)
    found: dict[str, list[float | None]] = {}
    for demand in demands:
        for name, plan in {MIX: provision(demand, free), **single_types(demand, free)}.items():
            found.setdefault(name, []).append(_usd(plan))
    return tuple(CostCurve(name=n, x=x, usd_per_hour=tuple(usd)) for n, usd in found.items())


def _usd(plan: Plan) -> float | None:
    return None if plan.unserved else plan.usd_per_hour
