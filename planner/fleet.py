"""The arrays of one model's program, what can be said of fleets without a solver, and the Plan.

Buckets with demand, pools of their model, the exact chance constraint `M_p + √V_p ≤ y[p]` and the
counts that meet it. Knows nothing of how shares are found.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from planner.headroom import Loads, obstacle, terms, totals
from planner.model import Demand, Matrix, Plan, Pool, Unserved
from planner.sizes import FloatArray, IntArray

EXACT = 1e-6  # backends by which a count may miss the exact constraint
DUST = 1e-6  # a smaller share is the solver's rounding, not a decision
WIDE = 4  # pools up to which the neighbourhood of a fleet is a whole box
REACH = 3
LEAST_POINT = 1e-4  # of a tangent: the slope of the root is infinite at 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Part:
    """One model's program: n buckets with demand that some pool can serve, m pools.

    buckets: (n,) and pools: (m,) number them in the demand and in the plan. mean, variance: (n, m),
    infinite and 0 where not feasible. rate: (n,). usd, least, most: (m,).
    """

    buckets: IntArray
    pools: IntArray
    mean: FloatArray
    variance: FloatArray
    rate: FloatArray
    usd: FloatArray
    least: FloatArray
    most: FloatArray

    def need(self, weights: FloatArray) -> FloatArray:
        """The exact `M + √V` of every pool, in backends."""
        load, tail = totals(weights, self.mean, self.variance)
        return load + tail

    def bound(self, served: FloatArray) -> float:
        """No fleet is cheaper: (n,) served shares, each bucket on its cheapest pool, no tail."""
        price = np.where(np.isfinite(self.mean), self.mean, 0.0) * self.usd
        price[~np.isfinite(self.mean)] = np.inf
        return float(price.min(axis=1) @ served)

    def points(self, weights: FloatArray, before: FloatArray) -> FloatArray:
        """The V of every pool in use; the tangent point before for the others."""
        used = weights.sum(axis=0) > 0
        return np.where(
            used, np.maximum((weights * self.variance).sum(axis=0), LEAST_POINT), before
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Found:
    """A fleet that holds: shares (n, m) with row sums 1 − u, counts (m,), what is unproven."""

    weights: FloatArray
    backends: FloatArray
    usd: float
    gap: float = 0.0


def parts(demand: Demand, pools: tuple[Pool, ...], loads: Loads) -> Iterator[Part]:
    """The programs of a demand, one for each model that has some and a pool that can serve it."""
    mean, variance = terms(demand, loads)
    for model in dict.fromkeys(pool.model for pool in pools):
        columns = np.array([p for p, pool in enumerate(pools) if pool.model == model])
        rows = np.flatnonzero((demand.rate > 0) & loads.feasible[:, columns].any(axis=1))
        if len(rows):
            kind = [pools[p] for p in columns]
            most = [np.inf if p.max_backends is None else p.max_backends for p in kind]
            yield Part(
                buckets=rows,
                pools=columns,
                mean=mean[np.ix_(rows, columns)],
                variance=variance[np.ix_(rows, columns)],
                rate=demand.rate[rows],
                usd=np.array([p.usd_per_hour for p in kind]),
                least=np.array([p.min_backends for p in kind], dtype=float),
                most=np.array(most, dtype=float),
            )


def alone(part: Part) -> Found | None:
    """The cheapest fleet in which one pool serves everything, if one can."""
    best = None
    for p in np.flatnonzero(np.isfinite(part.mean).all(axis=0)):
        weights = np.zeros_like(part.mean)
        weights[:, p] = 1.0
        found = exact(part, weights, 0.0, np.zeros(len(part.rate)))
        if found and (best is None or found.usd < best.usd):
            best = found
    return best


def moves(part: Part, best: Found) -> list[FloatArray]:
    """Cheaper fleets near one that holds, the smallest saving first: it is the likeliest to hold.

    Up to `WIDE` pools every step of at most `REACH` backends a pool; beyond that one backend fewer,
    or one swapped for a cheaper one.
    """
    m = len(part.usd)
    if m <= WIDE:
        steps = np.indices((2 * REACH + 1,) * m).reshape(m, -1).T - float(REACH)
    else:
        swaps = (np.eye(m)[:, None] - np.eye(m)[None]).reshape(m * m, m)
        steps = np.concatenate([-np.eye(m), swaps])
    fleets = best.backends + steps
    saving = -(steps @ part.usd)
    legal = (saving > EXACT) & np.all((fleets >= part.least) & (fleets <= part.most), axis=1)
    legal &= fleets @ part.usd >= part.bound(best.weights.sum(axis=1))
    order = np.argsort(saving[legal], kind="stable")
    return list(fleets[legal][order])


def exact(part: Part, weights: FloatArray, gap: float, unserved: FloatArray) -> Found | None:
    """Shares without dust and the least counts that hold them; None: beyond `most`."""
    weights = np.where(weights < DUST, 0.0, weights)
    total = weights.sum(axis=1)
    served = (1 - unserved)[:, None]
    weights = weights * np.divide(served, total[:, None], where=total[:, None] > 0, out=0 * served)
    counts = np.maximum(np.ceil(part.need(weights) - EXACT), part.least)
    if np.any(counts > part.most) or np.any((total == 0) & (unserved < 1)):
        return None
    return Found(weights=weights, backends=counts, usd=float(counts @ part.usd), gap=gap)


def plan(
    objective: str,
    demand: Demand,
    pools: tuple[Pool, ...],
    needs: Loads,
    backends: FloatArray,
    shares: list[tuple[Part, FloatArray, float]],
    solve_s: float,
) -> Plan:
    """Puts the parts together: served shares (B, P) become weights, what is missing gets a reason.

    shares: each part's served shares and what its program left unproven, in dollars.
    """
    served = np.zeros((demand.space.buckets, len(pools)))
    for part, weights, _ in shares:
        served[np.ix_(part.buckets, part.pools)] = weights
    mean, variance = terms(demand, needs)
    load, tail = totals(served, mean, variance)
    usd = np.array([pool.usd_per_hour for pool in pools])
    cost = float(backends @ usd)
    weights = _weights(demand, needs, backends, usd, served)
    counts = tuple(round(count) for count in backends.tolist())
    return Plan(
        plan_id=_name(counts, weights),
        objective=objective,
        space=demand.space,
        pools=tuple(pool.name for pool in pools),
        backends=counts,
        weights=_matrix(weights),
        rate=tuple(demand.rate.tolist()),
        seconds=_matrix(needs.seconds),
        slots=_matrix(needs.slots),
        load=tuple(load.tolist()),
        tail=tuple(tail.tolist()),
        usd_per_hour=cost,
        lower_bound_usd_per_hour=_bound_usd(demand, needs, usd, served),
        gap=sum(left for *_, left in shares) / cost if cost > 0 else 0.0,
        solve_s=solve_s,
        unserved=tuple(_unserved(demand, pools, needs, backends, served)),
    )


def _weights(
    demand: Demand, needs: Loads, backends: FloatArray, usd: FloatArray, served: FloatArray
) -> FloatArray:
    """Rows that sum to 1; without demand a bucket goes to the cheapest open pool that holds it."""
    total = served.sum(axis=1, keepdims=True)
    weights = np.divide(served, total, where=total > 0, out=np.zeros_like(served))
    price = np.where(backends > 0, _price(needs, usd), np.inf)
    idle = np.flatnonzero((demand.rate == 0) & np.isfinite(price).any(axis=1))
    weights[idle, np.argmin(price[idle], axis=1)] = 1.0
    return np.asarray(weights)


def _bound_usd(demand: Demand, needs: Loads, usd: FloatArray, served: FloatArray) -> float:
    price = _price(needs, usd).min(axis=1)
    rate = demand.rate * served.sum(axis=1)
    return float(np.multiply(rate, price, where=rate > 0, out=np.zeros_like(rate)).sum())


def _price(needs: Loads, usd: FloatArray) -> FloatArray:
    """What a request takes of each pool, times its price: (B, P), infinite if not feasible."""
    return usd * np.where(needs.feasible, needs.seconds, 0.0) + np.where(needs.feasible, 0, np.inf)


def _unserved(
    demand: Demand,
    pools: tuple[Pool, ...],
    needs: Loads,
    backends: FloatArray,
    served: FloatArray,
) -> Iterable[Unserved]:
    missing = 1 - served.sum(axis=1)
    for bucket in np.flatnonzero((demand.rate > 0) & (missing > DUST)).tolist():
        able = [pool.name for p, pool in enumerate(pools) if needs.feasible[bucket, p]]
        open_ = any(backends[p] > 0 and needs.feasible[bucket, p] for p in range(len(pools)))
        if not able:
            reason = obstacle(demand, pools, bucket)
        elif open_:
            reason = f"pools {', '.join(able)} are at max_backends"
        else:
            reason = f"pools {', '.join(able)} have no backend"
        yield Unserved(
            bucket=bucket, rate=float(demand.rate[bucket] * missing[bucket]), reason=reason
        )


def _name(backends: tuple[int, ...], weights: FloatArray) -> str:
    """Eight digits that are the same for the same counts and weights."""
    text = f"{backends} {np.round(weights, 6).tolist()}"
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _matrix(values: FloatArray) -> Matrix:
    return tuple(map(tuple, values.tolist()))
