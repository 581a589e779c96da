"""The Plan made of what the programs found. Knows nothing of how that was found."""

import hashlib
from collections.abc import Iterable

import numpy as np

from planner.model.demand import Demand
from planner.model.plan import Matrix, Plan, Relaxation, Unserved
from planner.model.pool import Pool
from planner.program.headroom import Loads, terms, totals, why_infeasible
from planner.program.limits import Limits, bill, blocking, price
from planner.program.subproblem import DUST, Subproblem
from planner.sizes import FloatArray


def assemble(
    objective: str,
    demand: Demand,
    pools: tuple[Pool, ...],
    limits: Limits,
    needs: Loads,
    backends: FloatArray,
    shares: list[tuple[Subproblem, FloatArray, float]],
    solve_s: float,
) -> Plan:
    """Puts the parts together: served shares (B, P) become weights, what is missing gets a reason.

    shares: each part's served shares and what its program left unproven, in dollars.
    """
    served = np.zeros((demand.buckets.count, len(pools)))
    for subproblem, weights, _ in shares:
        served[np.ix_(subproblem.bucket_index, subproblem.pool_index)] = weights
    mean, variance = terms(demand, needs)
    load, tail = totals(served, mean, variance)
    usd = np.array([price(pool) for pool in pools])
    cost, switching = bill(pools, backends), limits.switching(backends)
    weights = _weights(demand, needs, backends, usd, served)
    counts = tuple(round(count) for count in backends.tolist())
    return Plan(
        plan_id=_name(counts, weights),
        objective=objective,
        buckets=demand.buckets,
        pools=tuple(pool.name for pool in pools),
        backends=counts,
        weights=_matrix(weights),
        rate=tuple(demand.rate.tolist()),
        seconds=_matrix(needs.seconds),
        slots=_matrix(needs.slots),
        load=tuple(load.tolist()),
        tail=tuple(tail.tolist()),
        usd_per_hour=cost,
        lower_bound_usd_per_hour=max(
            0.0,
            _bound_usd(demand, needs, usd, served) - sum(p.reserved * price(p) for p in pools),
        ),
        gap=sum(left for *_, left in shares) / (cost + switching) if cost + switching > 0 else 0.0,
        solve_s=solve_s,
        unserved=tuple(
            _unserved(
                demand, pools, limits if objective == "provision" else None, needs, backends, served
            )
        ),
        switching_usd_per_hour=switching,
    )


def relaxation(name: str, limits: Limits, pools: tuple[Pool, ...], found: Plan) -> Relaxation:
    """What a plan made without one limit takes beyond it."""
    counts = np.array(found.backends, dtype=float)
    more = {limit: use - most for limit, use, most in limits.uses(pools, counts)}
    for pool, count in zip(pools, found.backends, strict=True):
        if pool.max_backends is not None:
            more[f"max_backends of {pool.name}"] = float(count - pool.max_backends)
    return Relaxation(
        limit=name,
        more=max(0.0, more[name]) if name in more else None,
        usd_per_hour=found.usd_per_hour,
        unserved_rate=sum(bucket.rate for bucket in found.unserved),
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
    limits: Limits | None,
    needs: Loads,
    backends: FloatArray,
    served: FloatArray,
) -> Iterable[Unserved]:
    missing = 1 - served.sum(axis=1)
    reasons: dict[tuple[int, ...], str] = {}
    for bucket in np.flatnonzero((demand.rate > 0) & (missing > DUST)).tolist():
        able = tuple(np.flatnonzero(needs.feasible[bucket]).tolist())
        if able not in reasons and able:
            reasons[able] = _reason(pools, limits, backends, able)
        yield Unserved(
            bucket=bucket,
            rate=float(demand.rate[bucket] * missing[bucket]),
            reason=reasons[able] if able else why_infeasible(demand, pools, bucket),
        )


def _reason(
    pools: tuple[Pool, ...], limits: Limits | None, backends: FloatArray, able: tuple[int, ...]
) -> str:
    """What keeps the pools that could serve a bucket from growing; limits `None`: a given fleet."""
    if limits is None or not any(pools[p].max_backends != 0 for p in able):
        return f"pools {_names(pools, able)} have no backend"
    kept: dict[str, list[int]] = {}
    for p in able:
        for limit in blocking(limits, pools, backends, p):
            kept.setdefault(limit, []).append(p)
    full = kept.pop("max_backends", [])
    words = [f"pools {_names(pools, full)} are at max_backends"] if full else []
    words += [f"{limit} is used up" for limit in kept]
    spot = [p for p in able if pools[p].spot]
    if spot and len(full) + sum(map(len, kept.values())) < len(able):
        words.append(f"spot pools {_names(pools, spot)} are at most_share")
    return "; ".join(words) or f"pools {_names(pools, able)} cannot grow within the limits"


def _names(pools: tuple[Pool, ...], numbers: Iterable[int]) -> str:
    return ", ".join(pools[p].name for p in numbers)


def _name(backends: tuple[int, ...], weights: FloatArray) -> str:
    """Eight digits that are the same for the same counts and weights."""
    text = f"{backends} {np.round(weights, 6).tolist()}"
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _matrix(values: FloatArray) -> Matrix:
    return tuple(map(tuple, values.tolist()))
