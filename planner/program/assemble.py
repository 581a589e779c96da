"""The plan made of what the programs found, and the reasons for what is unserved.

Must not know how shares and counts were found.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from planner.model.demand import Demand
from planner.model.plan import Matrix, Plan, Relaxation, Unserved
from planner.program.headroom import Loads, load_and_tail, load_terms, why_infeasible
from planner.program.limits import (
    Limits,
    backend_price,
    blocking_limits,
    fleet_bill,
    shared_usd,
)
from planner.program.problem import Problem
from planner.program.subproblem import DUST, Subproblem
from planner.sizes import FloatArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Answer:
    """What was found for one subproblem.

    weights: (n, m) served shares. unproven_usd: $/h of its cost that are not proven to be needed.
    """

    subproblem: Subproblem
    weights: FloatArray
    unproven_usd: float = 0.0


def assemble_plan(
    objective: str,
    problem: Problem,
    backends: FloatArray,
    answers: list[Answer],
    solve_s: float,
    *,
    running: Loads | None = None,
) -> Plan:
    """The plan of (P,) backends and the answers to all subproblems.

    running: the loads if only pools with a backend count, where they are given.

    Served shares become weights; what is missing gets a reason.
    """
    demand, pools = problem.demand, problem.pools
    loads = problem.loads if running is None else _either(problem.loads, running)
    served = np.zeros((demand.buckets.count, len(pools)))
    for answer in answers:
        place = np.ix_(answer.subproblem.bucket_index, answer.subproblem.pool_index)
        served[place] = answer.weights
    load, tail = load_and_tail(served, *load_terms(demand, loads))
    bill, switching = fleet_bill(pools, backends), problem.limits.switching(backends)
    # Subproblems are independent, so what is unproven of each adds up.
    cost, unproven = bill + switching, sum(answer.unproven_usd for answer in answers)
    weights = _weights(problem, backends, served)
    counts = tuple(round(count) for count in backends.tolist())
    # A given fleet keeps no limits, so none can be the reason for what it does not serve.
    limits = problem.limits if objective == "provision" else None
    return Plan(
        plan_id=_plan_id(counts, weights),
        objective=objective,
        buckets=demand.buckets,
        pools=tuple(pool.name for pool in pools),
        backends=counts,
        weights=_matrix(weights),
        rate=tuple(demand.rate.tolist()),
        seconds=_matrix(loads.seconds),
        slots=_matrix(loads.slots),
        load=tuple(load.tolist()),
        tail=tuple(tail.tolist()),
        usd_per_hour=bill,
        lower_bound_usd_per_hour=_fluid_bound(problem, served),
        gap=unproven / cost if cost > 0 else 0.0,
        solve_s=solve_s,
        unserved=(
            *_unserved(problem, limits, backends, served),
            *_unpromised(problem, running or problem.loads, backends, served),
        ),
        switching_usd_per_hour=switching,
        cached_share=tuple(_cached_shares(demand, weights).tolist()),
    )


def _either(loads: Loads, running: Loads) -> Loads:
    """The loads that are finite in one of two: a given fleet may serve a bucket without a promise
    that only a pool without backends could promise."""
    return replace(
        loads,
        seconds=np.minimum(loads.seconds, running.seconds),
        variance=np.minimum(loads.variance, running.variance),
        slots=np.minimum(loads.slots, running.slots),
    )


def relaxation(name: str, problem: Problem, plan: Plan) -> Relaxation:
    """What a plan that was made without one limit takes beyond it.

    name: of the limit. problem: with the limit. plan: made without it.
    """
    counts = np.array(plan.backends, dtype=float)
    more = {limit: use - most for limit, use, most in problem.limits.uses(problem.pools, counts)}
    for pool, count in zip(problem.pools, plan.backends, strict=True):
        if pool.max_backends is not None:
            more[f"max_backends of {pool.name}"] = float(count - pool.max_backends)
    return Relaxation(
        limit=name,
        more=max(0.0, more[name]) if name in more else None,
        usd_per_hour=plan.usd_per_hour,
        unserved_rate=sum(bucket.rate for bucket in plan.unserved if not bucket.served),
    )


def _weights(problem: Problem, backends: FloatArray, served: FloatArray) -> FloatArray:
    """(B, P) weights from served shares: every row sums to 1, or to 0 where nothing is served.

    A bucket without demand goes to the cheapest open pool that holds it, because a request of it
    may come all the same.
    """
    total = served.sum(axis=1, keepdims=True)
    weights = np.divide(served, total, where=total > 0, out=np.zeros_like(served))
    price = np.where(backends > 0, _request_prices(problem), np.inf)
    idle = np.flatnonzero((problem.demand.rate == 0) & np.isfinite(price).any(axis=1))
    weights[idle, np.argmin(price[idle], axis=1)] = 1.0
    return np.asarray(weights)


def _cached_shares(demand: Demand, weights: FloatArray) -> FloatArray:
    """(P,) the share of prefix hits in the prompt tokens that each pool gets; 0 without any."""
    prompts = demand.rate[demand.bucket] * demand.share * demand.input_tokens
    sums = [
        np.bincount(demand.bucket, tokens, minlength=demand.buckets.count) @ weights
        for tokens in (prompts * demand.cached_share, prompts)
    ]
    return np.divide(sums[0], sums[1], where=sums[1] > 0, out=np.zeros(weights.shape[1]))


def _fluid_bound(problem: Problem, served: FloatArray) -> float:
    """$/h that no fleet for the served shares undercuts: no tail, no integers, no limits."""
    price = _request_prices(problem).min(axis=1)
    rate = problem.demand.rate * served.sum(axis=1)
    usd = float(np.multiply(rate, price, where=rate > 0, out=np.zeros_like(rate)).sum())
    # Reserved backends cost nothing, and the cheapest pools may be the reserved ones.
    paid = sum(pool.reserved * backend_price(pool) for pool in problem.pools)
    return shared_usd(problem.pools) + max(0.0, usd - paid)


def _request_prices(problem: Problem) -> FloatArray:
    """(B, P) $/h of one request/s in each pool, without a tail; infinite if not feasible."""
    usd = np.array([backend_price(pool) for pool in problem.pools])
    loads = problem.loads
    return usd * np.where(loads.feasible, loads.seconds, 0.0) + np.where(loads.feasible, 0, np.inf)


def _unserved(
    problem: Problem, limits: Limits | None, backends: FloatArray, served: FloatArray
) -> Iterator[Unserved]:
    """The buckets of which some demand is left, with the reason."""
    demand, feasible = problem.demand, problem.loads.feasible
    missing = 1 - served.sum(axis=1)
    # Buckets that the same pools could serve have the same reason.
    reasons: dict[tuple[int, ...], str] = {}
    for bucket in np.flatnonzero((demand.rate > 0) & (missing > DUST)).tolist():
        able = tuple(np.flatnonzero(feasible[bucket]).tolist())
        if able not in reasons and able:
            reasons[able] = _reason(problem, limits, backends, able)
        yield Unserved(
            bucket=bucket,
            rate=float(demand.rate[bucket] * missing[bucket]),
            reason=reasons[able] if able else why_infeasible(demand, problem.pools, bucket),
        )


def _unpromised(
    problem: Problem, running: Loads, backends: FloatArray, served: FloatArray
) -> Iterator[Unserved]:
    """The buckets that are served without a promise, with the reason."""
    demand, pools = problem.demand, problem.pools
    for bucket in np.flatnonzero((demand.rate > 0) & ~running.promised).tolist():
        share = float(served[bucket] @ running.misfit[bucket])
        if share <= DUST:
            continue
        if problem.loads.promised[bucket]:
            able = tuple(np.flatnonzero(problem.loads.feasible[bucket]).tolist())
            reason = _reason(problem, None, backends, able)
        else:
            reason = why_infeasible(demand, pools, bucket)
        rate = float(demand.rate[bucket] * share)
        yield Unserved(bucket=bucket, rate=rate, reason=reason, served=True)


def _reason(
    problem: Problem, limits: Limits | None, backends: FloatArray, able: tuple[int, ...]
) -> str:
    """What keeps the pools that could serve a bucket from growing; limits `None`: a given fleet."""
    pools = problem.pools
    if limits is None or not any(pools[p].max_backends != 0 for p in able):
        return f"pools {_names(problem, able)} have no backend"
    kept: dict[str, list[int]] = {}
    for p in able:
        for limit in blocking_limits(limits, pools, backends, p):
            kept.setdefault(limit, []).append(p)
    full = kept.pop("max_backends", [])
    words = [f"pools {_names(problem, full)} are at max_backends"] if full else []
    words += [f"{limit} is used up" for limit in kept]
    spot = [p for p in able if pools[p].spot]
    # Fewer blocks than pools: some pool could grow, so it must be the share of spot that binds.
    if spot and len(full) + sum(map(len, kept.values())) < len(able):
        words.append(f"spot pools {_names(problem, spot)} are at most_share")
    return "; ".join(words) or f"pools {_names(problem, able)} cannot grow within the limits"


def _names(problem: Problem, pools: Iterable[int]) -> str:
    return ", ".join(problem.pools[p].name for p in pools)


def _plan_id(backends: tuple[int, ...], weights: FloatArray) -> str:
    """Eight hexadecimal digits that are the same for the same counts and weights.

    Weights are rounded, so that the last bits of a solve do not make another plan of it.
    """
    text = f"{backends} {np.round(weights, 6).tolist()}"
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _matrix(values: FloatArray) -> Matrix:
    return tuple(map(tuple, values.tolist()))
