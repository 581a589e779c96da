"""One program as arrays, and the exact arithmetic on its answers.

A demand is cut into subproblems that share no limit (`decompose`). A subproblem has n buckets and m
pools; its answers are shares (n, m) and counts of backends (m,). Everything here is exact: a fleet
is accepted by the chance constraint `M_p + √V_p ≤ y[p]` itself, whatever tangents and tolerances
the solver worked with. Must not know how shares are found, nor pools and demand as values.
"""

from dataclasses import dataclass

import numpy as np

from planner.program.headroom import BoolArray, load_and_tail
from planner.program.limits import spot_backends
from planner.program.prefill import Prefill
from planner.sizes import FloatArray, IntArray

# Backends by which a count may miss the exact constraint: a load of 3.0000004 needs three backends,
# not four. The solver's own tolerance on rows (`highs.TIGHT`) is a hundredth of it.
EXACT = 1e-6
# A smaller share is the solver's rounding, not a decision. It would open a pool of whole backends
# for a millionth of a bucket.
DUST = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FleetCosts:
    """What counts of backends cost. (m,) each, but for the two scalars.

    usd: $/h of one backend. reserved: backends that are paid for already. running: the fleet now.
    start_usd, stop_usd: $/h for each backend that is started or stopped, spread over the horizon.
    """

    usd: FloatArray
    reserved: FloatArray
    running: FloatArray
    start_usd: float = 0.0
    stop_usd: float = 0.0

    def bill(self, backends: FloatArray) -> FloatArray:
        """$/h of (…, m) counts; reserved backends cost nothing more."""
        return np.asarray(np.maximum(backends - self.reserved, 0.0) @ self.usd)

    def by_pool(self, backends: FloatArray, pools: slice | int = slice(None)) -> FloatArray:
        """$/h of each pool, bill and switching: of (…, m) counts, or of one pool's (k,) counts."""
        step = backends - self.running[pools]
        moved = self.start_usd * np.maximum(step, 0.0) + self.stop_usd * np.maximum(-step, 0.0)
        return np.maximum(backends - self.reserved[pools], 0.0) * self.usd[pools] + moved

    def total(self, backends: FloatArray) -> FloatArray:
        """$/h of (…, m) counts, bill and switching of all pools."""
        return np.asarray(self.by_pool(backends).sum(axis=-1))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CountBounds:
    """Which counts may be bought.

    least, most: (m,) backends. gpus: (k, m) GPUs that a backend takes of each of k stocks; stock:
    (k,) GPUs that there are. budget_usd: the most $/h of the bill, infinite without a budget.
    """

    least: FloatArray
    most: FloatArray
    gpus: FloatArray
    stock: FloatArray
    budget_usd: float = np.inf


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Availability:
    """How many backends must run so that enough of them are ready.

    away: (m,) the share of time that a backend is away, 0 but for spot. confidence: (m,) the
    probability with which enough must be ready, for spot. spare: backends more in every open pool,
    so that as many may fail.
    """

    away: FloatArray
    confidence: FloatArray
    spare: float = 0.0

    def to_run(self, ready: FloatArray, used: BoolArray) -> FloatArray:
        """(m,) backends to run for (m,) ready ones; used: (m,) which pools serve anything."""
        counts = ready.copy()
        for p in np.flatnonzero(self.away):
            away, confidence = float(self.away[p]), float(self.confidence[p])
            counts[p] = spot_backends(round(counts[p]), away, confidence)
        if self.spare:
            # A pool in use whose load rounds to 0 backends still needs one beside its spare ones.
            counts = np.where(used, np.maximum(counts, 1) + self.spare, counts)
        return counts

    def ready(self, backends: FloatArray) -> FloatArray:
        """(m,) the largest `M + √V` that running (m,) backends hold."""
        ready = np.maximum(backends - self.spare, 0.0)
        for p in np.flatnonzero(self.away):
            away, confidence = float(self.away[p]), float(self.confidence[p])
            running = backends[p] - self.spare
            while ready[p] and spot_backends(round(ready[p]), away, confidence) > running:
                ready[p] -= 1
        return ready

    def margin(self, ready: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Slope and constant, (m,) each, of the line from ready backends to backends to run.

        The step function `to_run` is no linear row. The slope is the expected number to run for
        each ready one, `1/(1 − away)`; the constant is what confidence adds on top at (m,) ready,
        so there the line is exact. Only an open pool pays the constant.
        """
        slope, constant = 1 / (1 - self.away), np.full(len(self.away), self.spare)
        for p in np.flatnonzero(self.away):
            k = max(1, int(np.ceil(ready[p] - EXACT)))
            running = spot_backends(k, float(self.away[p]), float(self.confidence[p]))
            constant[p] += max(0.0, running - slope[p] * k)
        return slope, constant


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SpotRegion:
    """Spot pools of one model in one zone.

    rows: buckets of the model. columns: the pools. most: requests/s of those buckets that these
    pools may serve at most.
    """

    rows: IntArray
    columns: IntArray
    most: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Subproblem:
    """One program: n buckets with demand that some pool can serve, m pools of one or more models.

    bucket_index: (n,) and pool_index: (m,) the numbers of buckets and pools in the demand and in
    the plan. model_index: (n,) the model of each bucket. rate: (n,) requests/s. mean, variance:
    (n, m) mean load, and variance with κ² in it, of a pool that serves all of a bucket; infinite
    and 0 where it is not feasible. prefill: what the prompts need of each pool beside its load.
    """

    bucket_index: IntArray
    pool_index: IntArray
    model_index: IntArray
    rate: FloatArray
    mean: FloatArray
    variance: FloatArray
    prefill: Prefill
    costs: FleetCosts
    bounds: CountBounds
    availability: Availability
    regions: tuple[SpotRegion, ...] = ()

    def need(self, weights: FloatArray) -> FloatArray:
        """(m,) the exact `M + √V` of every pool under (n, m) shares, in backends."""
        load, tail = load_and_tail(weights, self.mean, self.variance)
        return load + tail

    def lost(self, weights: FloatArray) -> float:
        """Requests/s that (n, m) shares leave unserved."""
        return float(np.maximum(1 - weights.sum(axis=1), 0.0) @ self.rate)

    def counts(self, weights: FloatArray) -> FloatArray:
        """(m,) the least backends that hold (n, m) shares.

        In this order: load and tail, prefill, spot backends that are away, spare ones, the bounds.
        """
        ready = self.prefill.raised(weights, np.ceil(self.need(weights) - EXACT))
        used = np.asarray(weights.any(axis=0))
        running = self.availability.to_run(ready, used)
        return np.asarray(np.maximum(running, self.bounds.least))

    def keep_running(self, backends: FloatArray) -> FloatArray:
        """Counts, raised to what already runs where stopping it would cost more than it saves."""
        costs = self.costs
        if not costs.stop_usd:
            return backends
        # Where a backend is dearer than stopping it only reserved ones are kept: they cost nothing.
        keep = np.where(costs.usd < costs.stop_usd, np.inf, costs.reserved)
        keep = np.minimum(np.minimum(keep, costs.running), self.bounds.most)
        for p in np.flatnonzero(keep > backends):
            raised = np.where(np.arange(len(keep)) == p, keep, backends)
            backends = raised if self.legal(raised) else backends
        return backends

    def legal(self, backends: FloatArray) -> BoolArray:
        """(…) whether (…, m) counts are within all bounds, stocks and the budget."""
        bounds = self.bounds
        inside = np.all((backends >= bounds.least) & (backends <= bounds.most), axis=-1)
        inside &= np.all(backends @ bounds.gpus.T <= bounds.stock + EXACT, axis=-1)
        return np.asarray(inside & (self.costs.bill(backends) <= bounds.budget_usd + EXACT))

    def fluid_bound(self, served: FloatArray) -> float:
        """$/h that no fleet undercuts: each bucket on its cheapest pool, no tail, no integers.

        served: (n,) the share of each bucket to serve. Reserved backends are taken off in full.
        """
        price = np.where(np.isfinite(self.mean), self.mean, 0.0) * self.costs.usd
        price[~np.isfinite(self.mean)] = np.inf
        return float(price.min(axis=1) @ served) - float(self.costs.reserved @ self.costs.usd)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Incumbent:
    """A fleet that holds, the best found so far.

    weights: (n, m) shares; a row sums to 1 less the share that is given up. backends: (m,). usd:
    $/h, bill and switching. gap: the part of usd that is not proven to be needed.
    """

    weights: FloatArray
    backends: FloatArray
    usd: float
    gap: float = 0.0


def incumbent_from_shares(
    subproblem: Subproblem, weights: FloatArray, unserved: FloatArray
) -> Incumbent | None:
    """The least fleet that holds (n, m) shares; `None` if it is beyond a limit.

    Shares that are the solver's rounding are dropped, and every row is scaled to 1 less (n,)
    unserved.
    """
    weights = np.where(weights < DUST, 0.0, weights)
    total = weights.sum(axis=1)
    served = (1 - unserved)[:, None]
    weights = weights * np.divide(served, total[:, None], where=total[:, None] > 0, out=0 * served)
    counts = subproblem.keep_running(subproblem.counts(weights))
    # A bucket of which all shares were dropped must be given up as good as whole. Compared with 1
    # itself, a share of 1e-14 that the solver leaves would rule out every fleet.
    lost = (total == 0) & (1 - unserved > DUST * weights.shape[1])
    if not subproblem.legal(counts) or np.any(lost):
        return None
    for region in subproblem.regions:
        rate = subproblem.rate[region.rows] @ weights[np.ix_(region.rows, region.columns)].sum(
            axis=1
        )
        # Relative to the whole rate: a share may be off by the solver's rounding in every bucket.
        if rate > region.most + DUST * subproblem.rate.sum():
            return None
    return Incumbent(weights=weights, backends=counts, usd=float(subproblem.costs.total(counts)))


def one_pool_per_model(subproblem: Subproblem) -> Incumbent | None:
    """A cheap fleet in which one pool serves each model; `None` if some model needs several.

    It needs no solver, is the plan to beat, and makes the first list of fleets a short one.
    """
    weights, costs = np.zeros_like(subproblem.mean), subproblem.costs
    for model in np.unique(subproblem.model_index):
        rows = subproblem.model_index == model
        able = np.isfinite(subproblem.mean[rows]).all(axis=0)
        counts = subproblem.counts(np.where(able, rows[:, None], 0.0))
        usd = costs.by_pool(counts) - costs.by_pool(subproblem.bounds.least)
        order = np.flatnonzero(able)[np.argsort(usd[able])]
        legal = (fleet for p in order if (fleet := _served_by(subproblem, rows, p)))
        cheapest = next(legal, None)
        if cheapest is None:
            return None
        weights += cheapest.weights
    return incumbent_from_shares(subproblem, weights, np.zeros(len(subproblem.rate)))


def _served_by(subproblem: Subproblem, rows: BoolArray, pool: int) -> Incumbent | None:
    """The fleet in which one pool serves all of these buckets, and nothing serves the others."""
    weights = np.zeros_like(subproblem.mean)
    weights[rows, pool] = 1.0
    return incumbent_from_shares(subproblem, weights, np.where(rows, 0.0, 1.0))


def plain_subproblem(mean: FloatArray, rate: FloatArray, usd: FloatArray) -> Subproblem:
    """A subproblem of (n, m) loads without tails or limits: all buckets of one model."""
    (n, m), none = mean.shape, np.zeros(mean.shape[1])
    return Subproblem(
        bucket_index=np.arange(n),
        pool_index=np.arange(m),
        model_index=np.zeros(n, dtype=np.int64),
        rate=rate,
        mean=mean,
        variance=np.zeros_like(mean),
        prefill=Prefill.none(n, m),
        costs=FleetCosts(usd=usd, reserved=none, running=none),
        bounds=CountBounds(
            least=none, most=none + np.inf, gpus=np.zeros((0, m)), stock=np.zeros(0)
        ),
        availability=Availability(away=none, confidence=none),
    )
