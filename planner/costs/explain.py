"""Why a plan costs what it does: its gap in parts, its bill by who causes it, the next request.

What else could be done with the same demand is put beside it: every single GPU type here, changes
of promise, price and GPU in `whatif`. Knows no gateway.
"""

from dataclasses import dataclass, replace

import numpy as np

from planner.costs import single_types
from planner.model.demand import Demand
from planner.model.plan import Plan, SingleType
from planner.model.pool import Pool
from planner.program.headroom import bucket_loads, load_terms
from planner.program.limits import UNLIMITED, Limits, backend_price
from planner.program.relaxed import fractional_fleet
from planner.program.solve import provision
from planner.sizes import FloatArray, IntArray

RELIABLE = 10  # backends from which the price of the next request predicts what a plan will cost


@dataclass(frozen=True, slots=True, kw_only=True)
class CostGap:
    """What a plan costs above its fluid bound, in $/h, by what is to blame. The parts sum to it.

    Each ingredient of the problem is added in turn and the problem solved again: tail, the room
    kept free for bursts; integrality, whole backends (with spares for spot and what the search left
    unproven); limits, the bounds on counts and on the whole; switching, what runs already and is
    kept. reserved is what of it all is paid for already: not above 0. A fleet given too small for
    its demand costs less than it should: parts are then negative.
    """

    bound: float
    tail: float
    integrality: float
    limits: float
    switching: float
    reserved: float = 0.0

    @property
    def total(self) -> float:
        return self.tail + self.integrality + self.limits + self.switching + self.reserved


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SentRequests:
    """Requests and who sent them: bucket, actual input and output tokens, key; (N,) each."""

    bucket: IntArray
    input_tokens: FloatArray
    output_tokens: FloatArray
    key: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """A plan's gap, its bill, and the price of more.

    bucket: (B,) $/h by bucket, key: $/h by who sent it, largest first; each sums with idle, the
    cost of backends that no demand needs, to the bill. next_usd: (B,) dollars per 1,000 further
    requests of each bucket, `None` where no pool holds its SLO. It is the derivative of the program
    without integers and without bounds on counts; reliable: whether the fleet has `RELIABLE`
    backends or more. In a smaller one the next request costs nothing or a whole backend.
    """

    gap: CostGap
    bucket: tuple[float, ...]
    key: tuple[tuple[str, float], ...]
    idle: float
    next_usd: tuple[float | None, ...]
    reliable: bool


def explain(
    plan: Plan,
    demand: Demand,
    pools: tuple[Pool, ...],
    *,
    sent: SentRequests | None = None,
    limits: Limits = UNLIMITED,
) -> Explanation:
    """The explanation of a plan for its demand; the bill by key if requests of it are given.

    limits: those that the plan was made under.
    """
    bill = attribution(plan, demand, pools)
    marginal = fractional_fleet(demand, pools).marginal
    return Explanation(
        gap=gap(plan, demand, pools, limits=limits),
        bucket=tuple(bill.sum(axis=1).tolist()),
        key=by_key(bill, demand, pools, sent) if sent else (),
        idle=plan.usd_per_hour - float(bill.sum()),
        next_usd=tuple(
            usd / 3.6 if np.isfinite(usd) else None  # $/h per request/s; 3,600 requests an hour
            for usd in marginal.tolist()
        ),
        reliable=sum(plan.backends) >= RELIABLE,
    )


def gap(
    plan: Plan, demand: Demand, pools: tuple[Pool, ...], *, limits: Limits = UNLIMITED
) -> CostGap:
    """The parts of what a plan costs above its bound; unserved demand is in neither.

    limits: those that the plan was made under.
    """
    asked, bound, cost = served(plan, demand), plan.lower_bound_usd_per_hour, _full(plan, pools)
    settled = cost  # with all bounds, without what runs already
    if plan.objective != "provision" or limits.running is not None:
        still = provision(asked, pools, replace(limits, running=None))
        settled = min(cost, _full(still, pools))
    free = tuple(replace(p, min_backends=0, max_backends=None, reserved=0) for p in pools)
    whole = provision(asked, free)
    integral = min(settled, whole.usd_per_hour)
    starts = tuple(np.array(p.weights).reshape(-1, len(pools)) for p in (whole, plan))
    fractional = min(integral, fractional_fleet(asked, free, starts=starts).usd_per_hour)
    return CostGap(
        bound=bound,
        tail=fractional - bound,
        integrality=integral - fractional,
        limits=settled - integral,
        switching=cost - settled,
        reserved=plan.usd_per_hour - cost,
    )


def attribution(plan: Plan, demand: Demand, pools: tuple[Pool, ...]) -> FloatArray:
    """(B, P) $/h: each pool's cost by its buckets' shares of its `M + √V`.

    A bucket's part of the root is its part of V. What a pool costs that serves nobody is left out.
    """
    asked = served(plan, demand)
    mean, variance = load_terms(asked, bucket_loads(asked, pools))
    weights = np.array(plan.weights).reshape(mean.shape)
    load = np.multiply(weights, mean, where=weights > 0, out=np.zeros_like(mean))
    tail = weights * variance
    root = np.sqrt(tail.sum(axis=0))
    need = load + np.divide(tail, root, where=root > 0, out=np.zeros_like(tail))
    paid = [max(0, n - pool.reserved) for n, pool in zip(plan.backends, pools, strict=True)]
    usd = np.array(paid) * np.array([backend_price(pool) for pool in pools])
    total = need.sum(axis=0)
    return np.asarray(np.divide(need, total, where=total > 0, out=np.zeros_like(need)) * usd)


def by_key(
    bill: FloatArray, demand: Demand, pools: tuple[Pool, ...], sent: SentRequests
) -> tuple[tuple[str, float], ...]:
    """$/h by key, the dearest first: each (B, P) cost by the keys' backend-seconds in it.

    Where no request says whose a bucket is, its cost is nobody's, the key "".
    """
    names = sorted({"", *sent.key})
    place = {name: number for number, name in enumerate(names)}
    who = np.array([place[name] for name in sent.key], dtype=np.int64)
    usd = np.zeros(len(names))
    for p, pool in enumerate(pools):
        seconds = _seconds(demand, pool, sent)
        total = np.bincount(sent.bucket, seconds, minlength=len(bill))
        whole = total[sent.bucket]
        share = np.divide(seconds, whole, where=seconds > 0, out=np.zeros_like(seconds))
        usd += np.bincount(who, share * bill[sent.bucket, p], minlength=len(names))
        usd[0] += bill[total == 0, p].sum()
    found = sorted(zip(names, usd.tolist(), strict=True), key=lambda pair: -pair[1])
    return tuple((name, cost) for name, cost in found if cost > 0)


def served(plan: Plan, demand: Demand) -> Demand:
    """The demand without what the plan leaves unserved."""
    rate = demand.rate.copy()
    for unserved in plan.unserved:
        rate[unserved.bucket] = max(0.0, rate[unserved.bucket] - unserved.rate)
    return replace(demand, rate=rate)


def explained(plan: Plan, demand: Demand, pools: tuple[Pool, ...]) -> Plan:
    """The plan with what the same demand and promise cost on every single GPU type."""
    singles = single_types.single_types(demand, pools)
    return replace(plan, singles=tuple(_single(gpu, p, demand) for gpu, p in singles.items()))


def best_single(plan: Plan) -> SingleType | None:
    """The cheapest single type that serves everything; `None` if there is none."""
    able = (single for single in plan.singles if not single.unserved_share)
    return min(able, key=lambda single: single.usd_per_hour, default=None)


def _full(plan: Plan, pools: tuple[Pool, ...]) -> float:
    """$/h of a plan if nothing of it were paid for already."""
    reserved = (
        backend_price(pool) * min(count, pool.reserved)
        for count, pool in zip(plan.backends, pools, strict=True)
    )
    return plan.usd_per_hour + sum(reserved)


def _single(gpu: str, plan: Plan, demand: Demand) -> SingleType:
    missing = sum(unserved.rate for unserved in plan.unserved)
    return SingleType(
        gpu=gpu,
        usd_per_hour=plan.usd_per_hour,
        backends=tuple(zip(plan.pools, plan.backends, strict=True)),
        unserved_share=missing / demand.total_rate if demand.total_rate else 0.0,
        why=plan.unserved[0].reason if plan.unserved else None,
    )


def _seconds(demand: Demand, pool: Pool, sent: SentRequests) -> FloatArray:
    """(N,) backend-seconds of each request on a pool; 0 where it could not be served there."""
    seconds = np.zeros(len(sent.bucket))
    for index, kind in enumerate(demand.buckets.classes):
        rows = sent.bucket // demand.buckets.grid.cells == index
        if kind.model == pool.model and rows.any():
            sizes = (sent.input_tokens[rows], sent.output_tokens[rows])
            rate = pool.profile.capacity(*sizes, kind.slo).rate
            seconds[rows] = np.divide(1.0, rate, where=rate > 0, out=np.zeros_like(rate))
    return seconds
