"""The cheapest fleet for a demand, as a request to the solver. Pure.

Pools that are scaled may have any number within their bounds; the others have what runs, which is
paid for in any case.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from gateway.actuation.shortages import Shortages
from planner.errors import InvalidValue
from planner.model.demand import Demand
from planner.model.plan import Plan
from planner.model.pool import Pool
from planner.program.limits import Limits
from planner.program.request import PlanRequest

Bounds = Mapping[str, tuple[int, int]]  # fewest and most backends, by pool that is scaled


def needs(
    demand: Demand,
    pools: Sequence[Pool],
    *,
    bounds: Bounds,
    coming: Mapping[str, int],
    limits: Limits,
    shortages: Shortages,
    start_usd: float,
    now_s: float,
) -> PlanRequest:
    """What is asked. coming: backends by pool, there or ordered. start_usd: what the start of a
    backend costs at least, so that of fleets of one cost the present one stays."""
    counts = tuple(coming[pool.name] for pool in pools)
    bought = tuple(
        replace(pool, min_backends=bounds[pool.name][0], max_backends=bounds[pool.name][1])
        if pool.name in bounds
        else _paid(pool, coming[pool.name])
        for pool in pools
    )
    limits = replace(
        limits,
        stock=shortages.stocks(limits.stock, bought, coming, now_s),
        running=counts,
        start_usd=max(limits.start_usd, start_usd),
    )
    try:
        limits.check(bought)
    except InvalidValue:  # there is less than the fewest that are wished: as many as can be had
        bought = tuple(replace(pool, min_backends=0) for pool in bought)
    return PlanRequest(
        objective="provision", demand=demand, pools=bought, running=counts, limits=limits
    )


def holds(plan: Plan, pools: Sequence[Pool]) -> tuple[bool, ...]:
    """(P,) whether a plan of given counts promises all requests of the pool's model. pools: that it
    was made for."""
    cells = plan.buckets.grid.cells
    over = {
        pool.model
        for pool, load, tail, count in zip(pools, plan.load, plan.tail, plan.backends, strict=True)
        if load + tail > count + 1e-6
    }
    over |= {plan.buckets.classes[u.bucket // cells].model for u in plan.unserved if not u.served}
    return tuple(pool.model not in over for pool in pools)


def _paid(pool: Pool, count: int) -> Pool:
    """A pool as it runs, which costs nothing more."""
    if pool.shared is not None:
        return replace(pool, min_backends=0, max_backends=count)
    reserved = 0 if pool.spot else count
    price = 0.0 if pool.spot else pool.usd_per_hour
    return replace(pool, min_backends=0, max_backends=count, reserved=reserved, usd_per_hour=price)


def shortfalls(plan: Plan) -> Iterator[str]:
    """What a plan cannot promise, one line for each reason."""
    rates: dict[str, float] = {}
    for part in plan.unserved:
        if not part.served:
            rates[part.reason] = rates.get(part.reason, 0.0) + part.rate
    for reason, rate in rates.items():
        yield f"{rate:.3g} requests/s cannot be promised anything: {reason}"
