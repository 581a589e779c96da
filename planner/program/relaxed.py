"""The program without its integers: what a demand costs if backends came in fractions.

`min Σ_p usd[p]·(M_p + √V_p)` over the shares. The objective is concave, so at its minimum every
bucket belongs to one pool, and the minimum may be local. Tangents lead from each of several starts
to a fleet that no tangent makes cheaper; then single buckets are moved. The result is near the
least cost, which is not proven. Must not know counts or bounds on them.
"""

from dataclasses import dataclass

import numpy as np

from planner.model.demand import Demand
from planner.model.pool import Pool
from planner.program.headroom import Loads, bucket_loads, load_and_tail, load_terms, tail_factor
from planner.program.limits import shared_usd
from planner.sizes import FloatArray

ROUNDS = 50  # of tangents, and of sweeps over the buckets; both end sooner, when nothing improves
STARTS = 12  # pools that are each tried as the one that serves everything it can
PENNY = 1e-9  # $/h; a smaller gain is rounding, and could be gained back and forth for ever


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FractionalFleet:
    """(B, P) shares, their cost in $/h, and the price of more demand in each bucket.

    marginal: (B,) $/h that one more request/s of the bucket costs, `usd·(E[1/X] + κ²z E[1/(X n*)] /
    (2√V))` on its cheapest pool in use: the derivative of the objective. Infinite where no pool
    holds the SLO.
    """

    weights: FloatArray
    usd_per_hour: float
    marginal: FloatArray


def fractional_fleet(
    demand: Demand, pools: tuple[Pool, ...], *, starts: tuple[FloatArray, ...] = ()
) -> FractionalFleet:
    """The cheapest fractional fleet found; never dearer than any (B, P) shares among the starts.

    The other starts: every bucket on its cheapest pool, and as much as possible on each one pool.
    Buckets that no pool can hold cost nothing here.
    """
    loads = bucket_loads(demand, pools)
    mean, variance = load_terms(demand, loads)
    usd = np.array([pool.usd_per_hour for pool in pools])
    fair = _prices(pools, loads, np.zeros_like(mean))
    first = [_cheapest(fair), *(_cheapest(_favoured(fair, p)) for p in range(len(pools))[:STARTS])]
    settled = [_settled(start, mean, variance, usd) for start in (*first, *starts)]
    weights = _moved(min(settled, key=lambda w: _cost(w, mean, variance, usd)), mean, variance, usd)
    price = _marginal_prices(demand, pools, loads, weights, variance)
    # A bucket that no pool in use can hold: the price of a pool that would have to be opened.
    stranded = ~np.isfinite(price).any(axis=1)
    price[stranded] = fair[stranded]
    return FractionalFleet(
        weights=weights,
        usd_per_hour=shared_usd(pools) + _cost(weights, mean, variance, usd),
        marginal=price.min(axis=1, initial=np.inf),
    )


def _marginal_prices(
    demand: Demand,
    pools: tuple[Pool, ...],
    loads: Loads,
    weights: FloatArray,
    variance: FloatArray,
) -> FloatArray:
    """(B, P) $/h of one more request/s in each pool; infinite in pools that serve nothing."""
    root = np.sqrt((weights * variance).sum(axis=0))
    tail = tail_factor(demand)[:, None] * np.where(loads.feasible, loads.variance, 0.0)
    slope = np.divide(tail, 2 * root, where=root > 0, out=np.zeros_like(tail))
    # The root is infinitely steep at 0, so a pool that serves nothing has no price of one more.
    closed = (weights[demand.rate > 0].sum(axis=0) == 0) & (root.sum() > 0)
    return np.where(closed, np.inf, _prices(pools, loads, slope))


def _prices(pools: tuple[Pool, ...], loads: Loads, slope: FloatArray) -> FloatArray:
    """(B, P) $/h of one request/s, with a (B, P) slope of the tail; infinite if not feasible."""
    usd = np.array([pool.usd_per_hour for pool in pools])
    price = usd * (np.where(loads.feasible, loads.seconds, 0.0) + slope)
    return np.where(loads.feasible, price, np.inf)


def _cheapest(price: FloatArray) -> FloatArray:
    """(B, P) shares: all of a bucket to its cheapest pool, nothing where there is none."""
    weights = np.zeros_like(price)
    rows = np.flatnonzero(np.isfinite(price).any(axis=1))
    weights[rows, np.argmin(price[rows], axis=1)] = 1.0
    return weights


def _favoured(price: FloatArray, pool: int) -> FloatArray:
    """Prices with which all buckets that a pool can hold go there."""
    price = price.copy()
    price[:, pool] = np.where(np.isfinite(price[:, pool]), -1.0, np.inf)
    return price


def _cost(weights: FloatArray, mean: FloatArray, variance: FloatArray, usd: FloatArray) -> float:
    """The objective, in $/h."""
    load, tail = load_and_tail(weights, mean, variance)
    return float((load + tail) @ usd)


def _settled(
    weights: FloatArray, mean: FloatArray, variance: FloatArray, usd: FloatArray
) -> FloatArray:
    """Follow the tangents down. Each lies above the cost and touches it: the cost never rises."""
    cost = _cost(weights, mean, variance, usd)
    for _ in range(ROUNDS):
        root = np.sqrt((weights * variance).sum(axis=0))
        slope = np.divide(variance, 2 * root, where=root > 0, out=np.zeros_like(variance))
        # At V = 0 there is no tangent: a pool that serves nothing stays closed on this path, which
        # is why each pool is also a start.
        shut = ((variance > 0) & (root == 0)) | ~np.isfinite(mean)
        price = usd * (np.where(shut, 0.0, mean) + slope)
        after = _cheapest(np.where(shut, np.inf, price))
        after_usd = _cost(after, mean, variance, usd)
        if after_usd >= cost - PENNY or np.any(after.sum(axis=1) < weights.sum(axis=1) - PENNY):
            break
        weights, cost = after, after_usd
    return weights


def _moved(
    weights: FloatArray, mean: FloatArray, variance: FloatArray, usd: FloatArray
) -> FloatArray:
    """Move single buckets to another pool as long as that is cheaper.

    Exact, not by tangents, so a move may also open a pool.
    """
    weights = weights.copy()
    rows = np.flatnonzero((weights.sum(axis=1) > 0) & (variance.sum(axis=1) > 0))
    for _ in range(ROUNDS):
        before = _cost(weights, mean, variance, usd)
        for b in rows:
            rest = np.maximum((weights * variance).sum(axis=0) - weights[b] * variance[b], 0.0)
            held = np.isfinite(mean[b])
            load = np.where(held, mean[b], 0.0)
            extra = usd * (load + np.sqrt(rest + variance[b]) - np.sqrt(rest))
            now = usd @ (weights[b] * load + np.sqrt(rest + weights[b] * variance[b]))
            now -= usd @ np.sqrt(rest)
            best = int(np.argmin(np.where(held, extra, np.inf)))
            if extra[best] < now - PENNY:
                weights[b] = 0.0
                weights[b, best] = 1.0
        if _cost(weights, mean, variance, usd) >= before - PENNY:
            break
    return weights
