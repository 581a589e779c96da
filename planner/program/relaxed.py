"""The program without its integers: what a demand costs if backends came in fractions.

`min Σ_p usd[p]·(M_p + √V_p)` over the shares. The objective is concave, so every bucket belongs to
one pool. Tangents lead from each of several starts to a fleet that no tangent makes cheaper; moving
single buckets ends the search. That is a local minimum: near the least, not proven.
Knows nothing of counts or of bounds on them.
"""

from dataclasses import dataclass

import numpy as np

from planner.model.demand import Demand
from planner.model.pool import Pool
from planner.program.headroom import Loads, loads, spread, terms, totals
from planner.sizes import FloatArray

ROUNDS = 50  # of tangents, and sweeps over the buckets
STARTS = 12  # pools that are each tried as the one that everything goes to
PENNY = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FractionalFleet:
    """Shares (B, P), what they cost in $/h, and the price of more of each bucket.

    marginal: (B,) dollars per hour that one more request/s of the bucket costs, `usd·(E[1/X] +
    κ²z E[1/(X n*)] / (2√V))` on its cheapest pool in use; infinite where no pool holds its SLO.
    """

    weights: FloatArray
    usd_per_hour: float
    marginal: FloatArray


def fluid(demand: Demand, pools: tuple[Pool, ...]) -> float:
    """The bound below every fleet, $/h: each bucket on its cheapest pool, no tail, no integers."""
    needs = loads(demand, pools)
    price = _prices(pools, needs, np.zeros_like(needs.seconds)).min(axis=1)
    held = np.isfinite(price)
    return float(demand.rate[held] @ price[held])


def relax(
    demand: Demand, pools: tuple[Pool, ...], *, starts: tuple[FloatArray, ...] = ()
) -> FractionalFleet:
    """The cheapest fractional fleet found; never dearer than any (B, P) shares it starts from.

    Buckets that no pool can hold cost nothing here.
    """
    needs = loads(demand, pools)
    mean, variance = terms(demand, needs)
    usd = np.array([pool.usd_per_hour for pool in pools])
    fair = _prices(pools, needs, np.zeros_like(mean))
    first = [_cheapest(fair), *(_cheapest(_favoured(fair, p)) for p in range(len(pools))[:STARTS])]
    found = [_settled(start, mean, variance, usd) for start in (*first, *starts)]
    weights = _moved(min(found, key=lambda w: _cost(w, mean, variance, usd)), mean, variance, usd)
    root = np.sqrt((weights * variance).sum(axis=0))
    tail = spread(demand)[:, None] * np.where(needs.feasible, needs.variance, 0.0)
    slope = np.divide(tail, 2 * root, where=root > 0, out=np.zeros_like(tail))
    # The root is infinitely steep at 0: what serves nothing is no place for one request more.
    closed = (weights[demand.rate > 0].sum(axis=0) == 0) & (root.sum() > 0)
    price = np.where(closed, np.inf, _prices(pools, needs, slope))
    stranded = ~np.isfinite(price).any(axis=1)
    price[stranded] = fair[stranded]
    return FractionalFleet(
        weights=weights,
        usd_per_hour=_cost(weights, mean, variance, usd),
        marginal=price.min(axis=1, initial=np.inf),
    )


def _prices(pools: tuple[Pool, ...], needs: Loads, slope: FloatArray) -> FloatArray:
    """(B, P) $/h of one request/s, with a (B, P) slope of the tail; infinite if not feasible."""
    usd = np.array([pool.usd_per_hour for pool in pools])
    price = usd * (np.where(needs.feasible, needs.seconds, 0.0) + slope)
    return np.where(needs.feasible, price, np.inf)


def _cheapest(price: FloatArray) -> FloatArray:
    """(B, P) shares: all of a bucket to its cheapest pool, nothing where there is none."""
    weights = np.zeros_like(price)
    rows = np.flatnonzero(np.isfinite(price).any(axis=1))
    weights[rows, np.argmin(price[rows], axis=1)] = 1.0
    return weights


def _favoured(price: FloatArray, pool: int) -> FloatArray:
    """Prices with which everything that a pool can hold goes there."""
    price = price.copy()
    price[:, pool] = np.where(np.isfinite(price[:, pool]), -1.0, np.inf)
    return price


def _cost(weights: FloatArray, mean: FloatArray, variance: FloatArray, usd: FloatArray) -> float:
    load, tail = totals(weights, mean, variance)
    return float((load + tail) @ usd)


def _settled(
    weights: FloatArray, mean: FloatArray, variance: FloatArray, usd: FloatArray
) -> FloatArray:
    """Follows the tangents down: each lies above the cost and touches it, so it never rises."""
    cost = _cost(weights, mean, variance, usd)
    for _ in range(ROUNDS):
        root = np.sqrt((weights * variance).sum(axis=0))
        slope = np.divide(variance, 2 * root, where=root > 0, out=np.zeros_like(variance))
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
    """Moves single buckets to another pool as long as that is cheaper."""
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
