"""The arrays of one program and the exact constraints on its answer.

Buckets with demand, the pools of their models, the exact chance constraint `M_p + √V_p ≤ y[p]` and
the counts that meet it within the limits. Knows nothing of how shares are found.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from planner.model.demand import Demand
from planner.model.pool import Pool
from planner.program.headroom import BoolArray, Loads, prefill, terms, totals
from planner.program.limits import Limits, price, spares
from planner.program.prefill import Prefill
from planner.sizes import FloatArray, IntArray

EXACT = 1e-6  # backends by which a count may miss the exact constraint
DUST = 1e-6  # a smaller share is the solver's rounding, not a decision
ALIKE = 1 + 1e-4  # loads that differ by less differ by the bisection of n* only
LEAST_POINT = 1e-4  # of a tangent: the slope of the root is infinite at 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SpotRegion:
    """Spot pools of one model in one zone: they may serve `most` requests/s of these buckets."""

    rows: IntArray
    columns: IntArray
    most: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Subproblem:
    """One program: n buckets with demand that some pool can serve, m pools of one or more models.

    bucket_index: (n,) and pool_index: (m,) number them in the demand and in the plan; kinds: (n,)
    the model of each bucket. mean, variance: (n, m), infinite and 0 where not feasible. rate: (n,).
    usd, least, most, reserved, running, away, confidence: (m,); away is 0 but for spot. start_usd,
    stop_usd: $/h per backend that differs from running. spare: backends more in every open pool.
    caps: (k, m) GPUs per backend of k stocks, stock: (k,). budget: $/h. regions: where spot is
    bounded. prefill: what the prompts ask of each pool beside its load.
    """

    bucket_index: IntArray
    pool_index: IntArray
    kinds: IntArray
    mean: FloatArray
    variance: FloatArray
    rate: FloatArray
    usd: FloatArray
    least: FloatArray
    most: FloatArray
    reserved: FloatArray
    running: FloatArray
    away: FloatArray
    confidence: FloatArray
    start_usd: float
    stop_usd: float
    spare: float
    caps: FloatArray
    stock: FloatArray
    budget: float
    regions: tuple[SpotRegion, ...]
    prefill: Prefill

    def need(self, weights: FloatArray) -> FloatArray:
        """The exact `M + √V` of every pool, in backends."""
        load, tail = totals(weights, self.mean, self.variance)
        return load + tail

    def counts(self, weights: FloatArray) -> FloatArray:
        """The least backends that hold the shares: enough ready spot ones, and the spare ones."""
        counts = self.prefill.raised(weights, np.ceil(self.need(weights) - EXACT))
        for p in np.flatnonzero(self.away):
            counts[p] = spares(round(counts[p]), float(self.away[p]), float(self.confidence[p]))
        if self.spare:
            counts = np.where(weights.any(axis=0), np.maximum(counts, 1) + self.spare, counts)
        return np.asarray(np.maximum(counts, self.least))

    def kept(self, backends: FloatArray) -> FloatArray:
        """These counts, and what runs beyond them where stopping it costs more than it saves."""
        if not self.stop_usd:
            return backends
        keep = np.where(self.usd < self.stop_usd, np.inf, self.reserved)
        keep = np.minimum(np.minimum(keep, self.running), self.most)
        for p in np.flatnonzero(keep > backends):
            raised = np.where(np.arange(len(keep)) == p, keep, backends)
            backends = raised if self.legal(raised) else backends
        return backends

    def room(self, backends: FloatArray) -> FloatArray:
        """The most `M + √V` that these counts hold: (m,)."""
        room = np.maximum(backends - self.spare, 0.0)
        for p in np.flatnonzero(self.away):
            away, confidence = float(self.away[p]), float(self.confidence[p])
            while room[p] and spares(round(room[p]), away, confidence) > backends[p] - self.spare:
                room[p] -= 1
        return room

    def margin(self, ready: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Slope and constant, per open pool, from ready backends to backends: exact at (m,) ready.

        In between it is the expected number that is away, and what confidence adds on top.
        """
        slope, constant = 1 / (1 - self.away), np.full(len(self.usd), self.spare)
        for p in np.flatnonzero(self.away):
            k = max(1, int(np.ceil(ready[p] - EXACT)))
            spot = spares(k, float(self.away[p]), float(self.confidence[p]))
            constant[p] += max(0.0, spot - slope[p] * k)
        return slope, constant

    def bill(self, backends: FloatArray) -> FloatArray:
        """$/h of (…, m) counts, reserved ones left out."""
        return np.asarray(np.maximum(backends - self.reserved, 0.0) @ self.usd)

    def costs(self, backends: FloatArray, pools: slice | int = slice(None)) -> FloatArray:
        """$/h of each pool at (…, m) counts, or of one at (k,): its bill and switching."""
        step = backends - self.running[pools]
        moved = self.start_usd * np.maximum(step, 0.0) + self.stop_usd * np.maximum(-step, 0.0)
        return np.maximum(backends - self.reserved[pools], 0.0) * self.usd[pools] + moved

    def cost(self, backends: FloatArray) -> FloatArray:
        """`costs` of all pools together: (…)."""
        return np.asarray(self.costs(backends).sum(axis=-1))

    def legal(self, backends: FloatArray) -> BoolArray:
        """Whether (…, m) counts are within all bounds, stocks and the budget."""
        inside = np.all((backends >= self.least) & (backends <= self.most), axis=-1)
        inside &= np.all(backends @ self.caps.T <= self.stock + EXACT, axis=-1)
        return np.asarray(inside & (self.bill(backends) <= self.budget + EXACT))

    def bound(self, served: FloatArray) -> float:
        """No fleet is cheaper: (n,) served shares, each bucket on its cheapest pool, no tail."""
        price = np.where(np.isfinite(self.mean), self.mean, 0.0) * self.usd
        price[~np.isfinite(self.mean)] = np.inf
        return float(price.min(axis=1) @ served) - float(self.reserved @ self.usd)

    def points(self, weights: FloatArray, before: FloatArray) -> FloatArray:
        """The V of every pool in use; the tangent point before for the others."""
        used = weights.sum(axis=0) > 0
        return np.where(
            used, np.maximum((weights * self.variance).sum(axis=0), LEAST_POINT), before
        )

    def overstated(self, weights: FloatArray, points: FloatArray) -> float:
        """$/h by which the tangents at (m,) points exceed the tails of these shares."""
        root, variance = np.sqrt(points), (weights * self.variance).sum(axis=0)
        over = root / 2 + variance / (2 * root) - np.sqrt(variance)
        return float(np.where(variance > 0, over, 0.0) @ self.usd)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Incumbent:
    """A fleet that holds: shares (n, m) with row sums 1 − u, counts (m,), what is unproven.

    usd: the cost that is minimised, $/h; gap: relative to it.
    """

    weights: FloatArray
    backends: FloatArray
    usd: float
    gap: float = 0.0


def plain(mean: FloatArray, rate: FloatArray, usd: FloatArray) -> Subproblem:
    """A program of (n, m) loads without tails or limits: all buckets of one model."""
    (n, m), none = mean.shape, np.zeros(mean.shape[1])
    return Subproblem(
        bucket_index=np.arange(n),
        pool_index=np.arange(m),
        kinds=np.zeros(n, dtype=np.int64),
        mean=mean,
        variance=np.zeros_like(mean),
        rate=rate,
        usd=usd,
        least=none,
        most=none + np.inf,
        reserved=none,
        running=none,
        away=none,
        confidence=none,
        start_usd=0.0,
        stop_usd=0.0,
        spare=0.0,
        caps=np.zeros((0, m)),
        stock=np.zeros(0),
        budget=np.inf,
        regions=(),
        prefill=Prefill.none(n, m),
    )


def subproblems(
    demand: Demand, pools: tuple[Pool, ...], loads: Loads, limits: Limits | None
) -> Iterator[Subproblem]:
    """The programs of a demand, one for each group of models that a limit couples.

    Only models that have demand and a pool that can serve some of it. limits: `None` for a given
    fleet, which has all its pools; else those that others dominate are left out.
    """
    given, limits = limits is None, limits or Limits()
    mean, variance = terms(demand, loads)
    prompts = prefill(demand, loads)
    asked = (demand.rate > 0)[:, None] & loads.feasible
    for models in _coupled(pools, limits):
        columns = np.array([p for p, pool in enumerate(pools) if pool.model in models])
        rows = np.flatnonzero(asked[:, columns].any(axis=1))
        if len(rows):
            if not given:
                columns = columns[_useful(rows, columns, mean, variance, pools, limits)]
            yield _subproblem(demand, pools, limits, prompts, rows, columns, mean, variance)


def _coupled(pools: tuple[Pool, ...], limits: Limits) -> list[set[str]]:
    """Models in groups that share a stock or the budget."""
    groups = [{model} for model in dict.fromkeys(pool.model for pool in pools)]
    ties = [{p.model for p in pools if stock.gpus(p)} for stock in limits.stock]
    if limits.budget_usd_per_hour is not None:
        ties.append({pool.model for pool in pools})
    for tie in ties:
        joined = [group for group in groups if group & tie]
        if joined:
            groups = [group for group in groups if not group & tie]
            groups.append(set().union(*joined))
    return groups


def _useful(
    rows: IntArray,
    columns: IntArray,
    mean: FloatArray,
    variance: FloatArray,
    pools: tuple[Pool, ...],
    limits: Limits,
) -> list[int]:
    """Places of the pools that no other dominates: as good for every bucket, no dearer, not bounded
    itself, and no more of any stock.

    Only plain pools are compared; of equal ones the first is kept.
    """
    kind = [pools[p] for p in columns]
    plain = [not (p.min_backends or p.reserved or p.spot or limits.running) for p in kind]
    gpus = np.array([[stock.gpus(p) for p in pools] for stock in limits.stock]).reshape(
        -1, len(pools)
    )
    kept = list(range(len(columns)))
    for q, dear in enumerate(columns):
        for good in [columns[p] for p in kept if plain[p] and plain[q] and p != q]:
            if (
                pools[good].max_backends is None
                and pools[good].model == pools[dear].model
                and pools[good].usd_per_hour <= pools[dear].usd_per_hour
                and np.all(gpus[:, good] <= gpus[:, dear])
                and np.all(mean[rows, good] <= ALIKE * mean[rows, dear])
                and np.all(np.where(np.isfinite(mean[rows, dear]),
                                    variance[rows, good] <= ALIKE * variance[rows, dear], True))
            ):  # fmt: skip
                kept.remove(q)
                break
    return kept


def _subproblem(
    demand: Demand,
    pools: tuple[Pool, ...],
    limits: Limits,
    prompts: Prefill,
    rows: IntArray,
    columns: IntArray,
    mean: FloatArray,
    variance: FloatArray,
) -> Subproblem:
    kind = [pools[p] for p in columns]
    stock = [s for s in limits.stock if any(s.gpus(pool) for pool in kind)]
    running = limits.running or tuple(0 for _ in pools)
    moved = 0.0 if limits.running is None else 1 / limits.horizon_h

    def each(values: Iterable[float]) -> FloatArray:
        return np.array(list(values), dtype=float)

    return Subproblem(
        bucket_index=rows,
        pool_index=columns,
        kinds=_models(demand)[rows],
        mean=mean[np.ix_(rows, columns)],
        variance=variance[np.ix_(rows, columns)],
        rate=demand.rate[rows],
        usd=each(price(p) for p in kind),
        least=each(p.min_backends for p in kind),
        most=np.maximum(each(p.min_backends for p in kind), each(_most(p, limits) for p in kind)),
        reserved=each(p.reserved for p in kind),
        running=each(running[p] for p in columns),
        away=each(p.spot.away_share if p.spot else 0.0 for p in kind),
        confidence=each(p.spot.confidence if p.spot else 0.0 for p in kind),
        start_usd=limits.start_usd * moved,
        stop_usd=limits.stop_usd * moved,
        spare=float(limits.survive),
        caps=each(s.gpus(p) for s in stock for p in kind).reshape(len(stock), len(kind)),
        stock=each(s.most for s in stock),
        budget=np.inf if limits.budget_usd_per_hour is None else limits.budget_usd_per_hour,
        regions=tuple(_regions(demand, kind, rows)),
        prefill=prompts.subproblem(rows, columns),
    )


def _most(pool: Pool, limits: Limits) -> float:
    """What a pool could have if it had every limit to itself."""
    most = [np.inf if pool.max_backends is None else float(pool.max_backends)]
    most += [float(s.most // s.gpus(pool)) for s in limits.stock if s.gpus(pool)]
    if limits.budget_usd_per_hour is not None and price(pool) > 0:
        most.append(pool.reserved + limits.budget_usd_per_hour // price(pool))
    return min(most)


def _regions(demand: Demand, pools: list[Pool], rows: IntArray) -> Iterator[SpotRegion]:
    names = [kind.model for kind in demand.buckets.classes]
    zones: dict[tuple[str, str], list[int]] = {}
    for p, pool in enumerate(pools):
        if pool.spot and pool.model in names:
            zones.setdefault((pool.model, pool.zone or f"pool {pool.name}"), []).append(p)
    models = _models(demand)
    for (model, _), columns in zones.items():
        share = min(spot.most_share for p in columns if (spot := pools[p].spot))
        mine = models == names.index(model)
        yield SpotRegion(
            rows=np.flatnonzero(mine[rows]),
            columns=np.array(columns),
            most=share * float(demand.rate[mine].sum()),
        )


def _models(demand: Demand) -> IntArray:
    """(B,) the model of every bucket, numbered by its first SLO class."""
    names = [kind.model for kind in demand.buckets.classes]
    return np.repeat([names.index(name) for name in names], demand.buckets.grid.cells)


def incumbent(
    subproblem: Subproblem, weights: FloatArray, gap: float, unserved: FloatArray
) -> Incumbent | None:
    """Shares without dust and the least counts that hold them; None: beyond a limit."""
    weights = np.where(weights < DUST, 0.0, weights)
    total = weights.sum(axis=1)
    served = (1 - unserved)[:, None]
    weights = weights * np.divide(served, total[:, None], where=total[:, None] > 0, out=0 * served)
    counts = subproblem.kept(subproblem.counts(weights))
    if not subproblem.legal(counts) or np.any((total == 0) & (unserved < 1)):
        return None
    for region in subproblem.regions:
        rate = subproblem.rate[region.rows] @ weights[np.ix_(region.rows, region.columns)].sum(
            axis=1
        )
        if rate > region.most + DUST * subproblem.rate.sum():
            return None
    return Incumbent(weights=weights, backends=counts, usd=float(subproblem.cost(counts)), gap=gap)
