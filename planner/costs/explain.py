"""Why a plan costs what it does: its gap in parts, its bill by cause, the price of more demand.

Also every single GPU type beside the plan; other promises, prices and GPUs are in `whatif`. Must
not know the gateway, nor how explanations are shown.
"""

from dataclasses import dataclass, field, replace

import numpy as np

from planner.costs import single_types
from planner.model.demand import Demand
from planner.model.plan import Plan
from planner.model.pool import Pool
from planner.program.headroom import bucket_loads, load_terms
from planner.program.limits import UNLIMITED, Limits, backend_price
from planner.program.relaxed import fractional_fleet
from planner.program.solve import provision
from planner.sizes import FloatArray, IntArray

# Backends from which on the marginal price predicts the cost of the next plan. In a smaller fleet
# fluid prices are wrong: the next request costs nothing, or a whole backend.
RELIABLE = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class CostGap:
    """The cost of a plan above its fluid bound, in $/h, by cause. bound + total is the bill.

    Each ingredient of the problem is added in turn, and the problem is solved again. tail: the room
    kept free for bursts. integrality: whole backends, with spare ones for spot and what the search
    left unproven. limits: the bounds on counts and on the whole. switching: what runs already and
    is kept. reserved: what of all this is paid for already, 0 or below. Parts are negative where a
    given fleet is too small for its demand, and so costs less than it should.
    """

    bound: float
    tail: float
    integrality: float
    limits: float
    switching: float
    reserved: float = 0.0

    @property
    def total(self) -> float:
        """$/h of all parts together."""
        return self.tail + self.integrality + self.limits + self.switching + self.reserved


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SentRequests:
    """N requests with their senders: bucket, actual input and output tokens, key, and the prefix
    hits of the input (empty: none); (N,) each."""

    bucket: IntArray
    input_tokens: FloatArray
    output_tokens: FloatArray
    key: tuple[str, ...]
    cached_tokens: FloatArray = field(default_factory=lambda: np.empty(0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """A plan's gap, its bill, and the price of more demand.

    bucket: (B,) $/h by bucket. key: $/h by sender, largest first. idle: $/h of backends that no
    demand needs. Bucket and idle sum to the bill, and so do key and idle.
    next_usd: (B,) dollars per 1,000 further requests of each bucket, `None` where no pool holds its
    SLO: the derivative of the program without integers and without bounds on counts. reliable:
    whether the fleet has `RELIABLE` backends, so that this derivative is a forecast.
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
    """The explanation of a plan for its demand.

    sent: requests of the demand; without them there is no bill by key. limits: those that the plan
    was made under.
    """
    bill = attribution(plan, demand, pools)
    marginal = fractional_fleet(demand, pools).marginal
    return Explanation(
        gap=cost_gap(plan, demand, pools, limits=limits),
        bucket=tuple(bill.sum(axis=1).tolist()),
        key=bill_by_key(bill, demand, pools, sent) if sent else (),
        idle=plan.usd_per_hour - float(bill.sum()),
        next_usd=tuple(
            usd / 3.6 if np.isfinite(usd) else None  # $/h per request/s; 3,600 requests an hour
            for usd in marginal.tolist()
        ),
        reliable=sum(plan.backends) >= RELIABLE,
    )


def cost_gap(
    plan: Plan, demand: Demand, pools: tuple[Pool, ...], *, limits: Limits = UNLIMITED
) -> CostGap:
    """The cost of a plan above its fluid bound in parts; unserved demand counts in neither.

    limits: those that the plan was made under.
    """
    served = served_demand(plan, demand)
    bound, cost = plan.lower_bound_usd_per_hour, _unreserved_bill(plan, pools)
    # From the full problem down, an ingredient fewer each time. A step that comes out dearer than
    # the one before, because both were searched, is taken as equal: no part is negative by chance.
    settled = cost  # with all limits, without the running fleet
    if plan.objective != "provision" or limits.running is not None:
        still = provision(served, pools, replace(limits, running=None))
        settled = min(cost, _unreserved_bill(still, pools))
    free = tuple(replace(p, min_backends=0, max_backends=None, reserved=0) for p in pools)
    whole = provision(served, free)
    integral = min(settled, whole.usd_per_hour)
    # With both plans' shares as starts the fractional fleet is dearer than neither of them.
    starts = tuple(np.array(p.weights).reshape(-1, len(pools)) for p in (whole, plan))
    fractional = min(integral, fractional_fleet(served, free, starts=starts).usd_per_hour)
    return CostGap(
        bound=bound,
        tail=fractional - bound,
        integrality=integral - fractional,
        limits=settled - integral,
        switching=cost - settled,
        reserved=plan.usd_per_hour - cost,
    )


def attribution(plan: Plan, demand: Demand, pools: tuple[Pool, ...]) -> FloatArray:
    """(B, P) $/h: the cost of each pool by its buckets' shares of its `M + √V`.

    A bucket's part of the root is its part of V, so the parts sum to the whole. The cost of a pool
    that serves nothing is left out.
    """
    served = served_demand(plan, demand)
    mean, variance = load_terms(served, bucket_loads(served, pools))
    weights = np.array(plan.weights).reshape(mean.shape)
    load = np.multiply(weights, mean, where=weights > 0, out=np.zeros_like(mean))
    tail = weights * variance
    root = np.sqrt(tail.sum(axis=0))
    need = load + np.divide(tail, root, where=root > 0, out=np.zeros_like(tail))
    paid = [max(0, n - pool.reserved) for n, pool in zip(plan.backends, pools, strict=True)]
    usd = np.array(paid) * np.array([backend_price(pool) for pool in pools])
    total = need.sum(axis=0)
    return np.asarray(np.divide(need, total, where=total > 0, out=np.zeros_like(need)) * usd)


def bill_by_key(
    bill: FloatArray, demand: Demand, pools: tuple[Pool, ...], sent: SentRequests
) -> tuple[tuple[str, float], ...]:
    """$/h by key, the dearest first: each cost of (B, P) by the keys' backend-seconds in it.

    The cost of a bucket that no sent request is in goes to the key "".
    """
    names = sorted({"", *sent.key})  # "" comes first
    place = {name: number for number, name in enumerate(names)}
    sender = np.array([place[name] for name in sent.key], dtype=np.int64)
    usd = np.zeros(len(names))
    for p, pool in enumerate(pools):
        seconds = _seconds(demand, pool, sent)
        total = np.bincount(sent.bucket, seconds, minlength=len(bill))
        whole = total[sent.bucket]
        share = np.divide(seconds, whole, where=seconds > 0, out=np.zeros_like(seconds))
        usd += np.bincount(sender, share * bill[sent.bucket, p], minlength=len(names))
        usd[0] += bill[total == 0, p].sum()
    dearest = sorted(zip(names, usd.tolist(), strict=True), key=lambda pair: -pair[1])
    return tuple((name, cost) for name, cost in dearest if cost > 0)


def served_demand(plan: Plan, demand: Demand) -> Demand:
    """The demand without what the plan leaves unserved."""
    rate = demand.rate.copy()
    for unserved in (bucket for bucket in plan.unserved if not bucket.served):
        rate[unserved.bucket] = max(0.0, rate[unserved.bucket] - unserved.rate)
    return replace(demand, rate=rate)


def with_single_types(plan: Plan, demand: Demand, pools: tuple[Pool, ...]) -> Plan:
    """The plan together with the same demand and promise on every single GPU type."""
    singles = single_types.single_types(demand, pools)
    return replace(
        plan, singles=tuple(single_types.summary(gpu, single) for gpu, single in singles.items())
    )


def _unreserved_bill(plan: Plan, pools: tuple[Pool, ...]) -> float:
    """$/h of a plan if no backend of it were reserved."""
    reserved = (
        backend_price(pool) * min(count, pool.reserved)
        for count, pool in zip(plan.backends, pools, strict=True)
    )
    return plan.usd_per_hour + sum(reserved)


def _seconds(demand: Demand, pool: Pool, sent: SentRequests) -> FloatArray:
    """(N,) backend-seconds of each request on a pool; 0 where the pool cannot serve it."""
    seconds = np.zeros(len(sent.bucket))
    for c, slo_class in enumerate(demand.buckets.classes):
        rows = sent.bucket // demand.buckets.grid.cells == c
        if slo_class.model == pool.model and rows.any():
            sizes = (sent.input_tokens[rows], sent.output_tokens[rows])
            cached = sent.cached_tokens[rows] if sent.cached_tokens.size else 0.0
            rate = pool.profile.capacity(*sizes, slo_class.slo, cached).rate
            seconds[rows] = np.divide(1.0, rate, where=rate > 0, out=np.zeros_like(rate))
    return seconds
