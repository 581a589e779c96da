"""The subproblems of a demand: one for each group of models that a limit couples.

Models share no backend, so their programs are independent, and several small ones are solved faster
than a large one. A shared stock or a budget ties models into one program. Must not know how
a subproblem is solved.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from planner.model.demand import Demand
from planner.model.pool import Pool
from planner.program.headroom import load_terms, prefill_work
from planner.program.limits import Limits, backend_price, shared_usd
from planner.program.prefill import Prefill
from planner.program.problem import Problem
from planner.program.subproblem import (
    Availability,
    CountBounds,
    FleetCosts,
    SpotRegion,
    Subproblem,
)
from planner.sizes import FloatArray, IntArray

# Loads that differ by less are taken for equal when pools are compared. n* comes from a bisection,
# whose rounding would otherwise make one of two equal pools seem better in some bucket.
ALIKE = 1 + 1e-4


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Whole:
    """The problem before it is cut. mean, variance: (B, P), prefill: of all buckets and pools."""

    problem: Problem
    mean: FloatArray
    variance: FloatArray
    prefill: Prefill


def subproblems(problem: Problem, *, keep_all_pools: bool = False) -> Iterator[Subproblem]:
    """The subproblems of a problem, without models that have no demand or no pool for it.

    Pools that can have no backend and pools that another pool dominates are left out: each of them
    makes the program slower and no plan cheaper. keep_all_pools: for a given fleet, whose pools run
    whether they are good or not.
    """
    demand, loads = problem.demand, problem.loads
    mean, variance = load_terms(demand, loads)
    prefill = prefill_work(demand, loads)
    whole = _Whole(problem=problem, mean=mean, variance=variance, prefill=prefill)
    servable = (demand.rate > 0)[:, None] & loads.feasible
    for models in _coupled(problem.pools, problem.limits):
        columns = np.array([p for p, pool in enumerate(problem.pools) if pool.model in models])
        rows = np.flatnonzero(servable[:, columns].any(axis=1))
        if len(rows):
            if not keep_all_pools:
                columns = _open(whole, rows, columns)
                columns = columns[_useful(whole, rows, columns)]
            yield _subproblem(whole, rows, columns)


def _coupled(pools: tuple[Pool, ...], limits: Limits) -> list[set[str]]:
    """The models in groups that share a stock or the budget."""
    groups = [{model} for model in dict.fromkeys(pool.model for pool in pools)]
    ties = [{p.model for p in pools if one.taken(p)} for one in limits.scarce(pools)]
    if limits.budget_usd_per_hour is not None:
        ties.append({pool.model for pool in pools})
    for tie in ties:
        joined = [group for group in groups if group & tie]
        if joined:
            groups = [group for group in groups if not group & tie]
            groups.append(set().union(*joined))
    return groups


def _open(whole: _Whole, rows: IntArray, columns: IntArray) -> IntArray:
    """The pools in `columns` that can have a backend, and for every bucket in rows that only others
    could serve the first of those: the program then says that it is unserved."""
    pools, limits = whole.problem.pools, whole.problem.limits
    shut = np.array([max(_most(pools[p], limits), pools[p].min_backends) == 0 for p in columns])
    able = np.isfinite(whole.mean[np.ix_(rows, columns)])
    left = able[~able[:, ~shut].any(axis=1)]
    shut[left.argmax(axis=1)] = False
    return np.asarray(columns[~shut])


def _useful(whole: _Whole, rows: IntArray, columns: IntArray) -> list[int]:
    """The places in `columns` of the pools that no other pool dominates; of equals the first.

    Only plain pools are compared: without least counts, reserved or running backends, and no spot.
    For all others a backend that runs or is paid for may be worth having although it is worse.
    """
    pools, limits = whole.problem.pools, whole.problem.limits
    running = limits.running or (0,) * len(pools)
    plain = [
        not (pools[p].min_backends or pools[p].reserved or pools[p].spot or running[p])
        for p in columns
    ]
    scarce = limits.scarce(pools)
    gpus = np.array([[one.taken(p) for p in pools] for one in scarce]).reshape(-1, len(pools))
    # Compared with pools that are still kept, so that of two equal pools one stays.
    kept = list(range(len(columns)))
    for q, dear in enumerate(columns):
        for good in [columns[p] for p in kept if plain[p] and plain[q] and p != q]:
            if _dominates(whole, gpus, rows, good, dear):
                kept.remove(q)
                break
    return kept


def _dominates(whole: _Whole, gpus: IntArray, rows: IntArray, good: int, dear: int) -> bool:
    """Whether a pool replaces another one in every plan.

    It does if it is unbounded, no dearer, takes no more of any stock (gpus: (k, P) per backend),
    and is as good for every bucket in rows.
    """
    pools, mean, variance = whole.problem.pools, whole.mean, whole.variance
    held = np.isfinite(mean[rows, dear])
    return bool(
        pools[good].max_backends is None
        and pools[good].model == pools[dear].model
        and pools[good].usd_per_hour <= pools[dear].usd_per_hour
        and np.all(gpus[:, good] <= gpus[:, dear])
        and np.all(mean[rows, good] <= ALIKE * mean[rows, dear])
        and np.all(np.where(held, variance[rows, good] <= ALIKE * variance[rows, dear], True))
    )


def _subproblem(whole: _Whole, rows: IntArray, columns: IntArray) -> Subproblem:
    demand, limits = whole.problem.demand, whole.problem.limits
    pools = [whole.problem.pools[p] for p in columns]
    running = limits.running or tuple(0 for _ in whole.problem.pools)
    # Without a running fleet there is nothing to switch from: starting it costs nothing.
    per_hour = 0.0 if limits.running is None else 1 / limits.horizon_h
    return Subproblem(
        bucket_index=rows,
        pool_index=columns,
        model_index=_models(demand)[rows],
        rate=demand.rate[rows],
        mean=whole.mean[np.ix_(rows, columns)],
        variance=whole.variance[np.ix_(rows, columns)],
        prefill=whole.prefill.subproblem(rows, columns),
        costs=FleetCosts(
            usd=_array(backend_price(pool) for pool in pools),
            reserved=_array(pool.reserved for pool in pools),
            running=_array(running[p] for p in columns),
            start_usd=limits.start_usd * per_hour,
            stop_usd=limits.stop_usd * per_hour,
        ),
        bounds=_bounds(pools, limits, whole.problem.pools),
        availability=Availability(
            away=_array(pool.spot.away_share if pool.spot else 0.0 for pool in pools),
            confidence=_array(pool.spot.confidence if pool.spot else 0.0 for pool in pools),
            spare=float(limits.survive),
        ),
        regions=tuple(_regions(demand, pools, rows)),
    )


def _bounds(pools: list[Pool], limits: Limits, everybody: tuple[Pool, ...]) -> CountBounds:
    """everybody: all pools; what their shared GPUs cost is no longer in the budget."""
    stock = [s for s in limits.scarce(pools) if any(s.taken(pool) for pool in pools)]
    least = _array(pool.min_backends for pool in pools)
    budget = limits.budget_usd_per_hour
    return CountBounds(
        least=least,
        most=np.maximum(least, _array(_most(pool, limits) for pool in pools)),
        gpus=_array(s.taken(pool) for s in stock for pool in pools).reshape(len(stock), len(pools)),
        stock=_array(s.most for s in stock),
        budget_usd=np.inf if budget is None else max(0.0, budget - shared_usd(everybody)),
    )


def _most(pool: Pool, limits: Limits) -> float:
    """The most backends of a pool if it had every limit to itself.

    Implied by the other rows; a tight bound on each count makes the relaxation tighter.
    """
    most = [np.inf if pool.max_backends is None else float(pool.max_backends)]
    most += [float(s.most // s.taken(pool)) for s in limits.scarce([pool]) if s.taken(pool)]
    if limits.budget_usd_per_hour is not None and backend_price(pool) > 0:
        most.append(pool.reserved + limits.budget_usd_per_hour // backend_price(pool))
    return min(most)


def _regions(demand: Demand, pools: list[Pool], rows: IntArray) -> Iterator[SpotRegion]:
    """The spot pools by model and zone; a spot pool without a zone is a zone of its own."""
    names = [slo_class.model for slo_class in demand.buckets.classes]
    zones: dict[tuple[str, str], list[int]] = {}
    for p, pool in enumerate(pools):
        if pool.spot and pool.model in names:
            zones.setdefault((pool.model, pool.zone or f"pool {pool.name}"), []).append(p)
    models = _models(demand)
    for (model, _), columns in zones.items():
        # Pools of one zone are lost together, so they share one bound: the tightest.
        share = min(spot.most_share for p in columns if (spot := pools[p].spot))
        own = models == names.index(model)
        yield SpotRegion(
            rows=np.flatnonzero(own[rows]),
            columns=np.array(columns),
            most=share * float(demand.rate[own].sum()),
        )


def _models(demand: Demand) -> IntArray:
    """(B,) the model of every bucket, numbered by its first SLO class."""
    names = [slo_class.model for slo_class in demand.buckets.classes]
    return np.repeat([names.index(name) for name in names], demand.buckets.grid.cells)


def _array(values: Iterable[float]) -> FloatArray:
    return np.array(list(values), dtype=float)
