"""How much of a pool a demand takes: mean load, its variance, and the tail to keep free.

A request of bucket b holds `1/n*` of a backend for `n*/X` seconds. In a pool that serves the share
f of the bucket the load has mean `λ f E[1/X]` and variance `z λ f E[1/(X n*)]`, z being the index
of dispersion of counts; κ = Φ⁻¹(attainment) deviations are kept free. This is square-root staffing
in units of backends, and it errs on the safe side: over the prototype's 18 curves of usable
utilisation the rule was 0.075 below the simulation on average.

Expectations run over the actual sizes of the bucket (harmonic means). At the bucket's upper corner
the load would be 2.0 to 2.4 times too large on real chat traffic, at its mean size a third too
small. Variance is summed over the buckets of a pool before the root is taken: a tail per bucket
would lose the pooling. Must not know costs, counts or how weights are found.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from planner.engine.capacity import hits
from planner.engine.profiles import Profile
from planner.errors import InvalidValue
from planner.model.buckets import Buckets, SloClass
from planner.model.demand import Demand
from planner.model.plan import Plan
from planner.model.pool import Pool
from planner.program.prefill import Prefill
from planner.sizes import FloatArray, IntArray
from planner.slo import Slo

# Of the requests that a class may let miss its SLO (1 − attainment), the share that may be too
# large for the pools that they are sent to. The rest is for chance.
TOLERANCE = 0.5
# A bucket of which more than this is too large for a pool is not what the pool is for, however
# seldom its requests are.
MISFIT = 0.5
WINDOW_S = 10.0  # the window of the counts whose dispersion a demand has
# The part of n* that decodes while a prompt is prefilled. With prefill alone, plans at a TTFT of
# 0.6 s attained 92 to 97 % in rehearsals, not 99 %.
BESIDE = 0.5
RELAXED_S = 1e9  # a target that no request misses

BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Loads:
    """What one request of a bucket takes of a pool. All (B, P); infinite where not feasible.

    seconds: `E[1/X]`, backend-seconds. variance: `E[1/(X n*)]`, backend²-seconds. slots: `E[1/n*]`,
    the share of a backend that it takes while in flight. feasible: whether the pool may serve the
    bucket. prefill, squares: `E[S]` and `E[S²]`, where S is the seconds for which a prompt keeps
    others waiting. own_s: seconds until its own first token on an idle backend. misfit: the share
    of the bucket's requests whose SLO the pool cannot hold.
    promised: (B,) whether some pool holds the SLO of the bucket. One that none does is served
    without a promise, as what it takes, by the pools that hold the most of it.
    """

    seconds: FloatArray
    variance: FloatArray
    slots: FloatArray
    feasible: BoolArray
    prefill: FloatArray
    squares: FloatArray
    own_s: FloatArray
    misfit: FloatArray
    promised: BoolArray


def bucket_loads(demand: Demand, pools: tuple[Pool, ...]) -> Loads:
    """The loads of every bucket on every pool.

    A bucket that has never been seen is taken at the centre of its grid cell.
    """
    return loads_of(demand, load_table(demand, pools))


def load_table(demand: Demand, pools: tuple[Pool, ...]) -> FloatArray:
    """(7, B, P) what requests take of each pool, whatever it may serve; for `loads_of`."""
    samples = _samples(demand)
    columns = [_column(demand.buckets, pool, *samples) for pool in pools]
    table = np.array(columns).reshape(len(pools), 7, demand.buckets.count)
    return np.asarray(table.transpose(1, 2, 0))


def loads_of(demand: Demand, table: FloatArray, ready: BoolArray | None = None) -> Loads:
    """The loads of a table. ready: (P,) pools that have a backend; the others are not feasible.
    Default: all."""
    fits = np.isfinite(table[0]) & (True if ready is None else ready)
    feasible, promised = _feasible(demand, table[6], fits)
    seconds, variance, slots, prefill, squares, own_s = np.where(feasible, table[:6], np.inf)
    return Loads(
        seconds=seconds,
        variance=variance,
        slots=slots,
        feasible=feasible,
        prefill=prefill,
        squares=squares,
        own_s=own_s,
        misfit=table[6],
        promised=promised,
    )


def _feasible(demand: Demand, misfit: FloatArray, fits: BoolArray) -> tuple[BoolArray, BoolArray]:
    """(B, P) which pool may serve which bucket, and (B,) which buckets some pool promises.

    misfit: (B, P) share of requests whose SLO the pool cannot hold. fits: (B, P) whether the pool
    can serve any of it. A class lets 1 − attainment of its requests miss their SLO: a pool takes
    its buckets from the best fitting on, until the misfits among them are `TOLERANCE` of those.
    """
    cells = demand.buckets.grid.cells
    feasible = np.zeros(fits.shape, dtype=bool)
    for c, slo_class in enumerate(demand.buckets.classes):
        rows = slice(c * cells, (c + 1) * cells)
        rate, share = demand.rate[rows], misfit[rows]
        budget = TOLERANCE * (1 - slo_class.slo.attainment) * rate.sum() + 1e-12
        order = np.argsort(share, axis=0, kind="stable")
        lost = np.cumsum(np.take_along_axis(rate[:, None] * share, order, axis=0), axis=0)
        taken = np.empty_like(fits[rows])
        np.put_along_axis(taken, order, lost <= budget, axis=0)
        feasible[rows] = taken & (share <= MISFIT) & fits[rows]
    promised = np.asarray(feasible.any(axis=1))
    # What none promises goes where most of it fits, whatever the promise.
    least = np.where(fits, misfit, np.inf).min(axis=1, initial=np.inf)
    rest = fits & (misfit <= least[:, None]) & ~promised[:, None]
    return feasible | rest, promised


def load_terms(demand: Demand, loads: Loads) -> tuple[FloatArray, FloatArray]:
    """Mean load and tail variance of a pool that serves all of a bucket: two (B, P).

    The variance contains the κ² z of the bucket's class, so that one root per pool covers classes
    with different promises. The mean is infinite where not feasible; without demand both are 0.
    """
    rate = demand.rate[:, None]
    tail_rate = rate * tail_factor(demand)[:, None]
    mean = np.multiply(rate, loads.seconds, where=rate > 0, out=np.zeros_like(loads.seconds))
    variance = np.where(np.isfinite(loads.variance), loads.variance, 0.0) * tail_rate
    return mean, variance


def tail_factor(demand: Demand) -> FloatArray:
    """(B,) κ² z of each bucket's class, the factor of the variance of one request/s."""
    kappa = [NormalDist().inv_cdf(c.slo.attainment) for c in demand.buckets.classes]
    return np.repeat(np.square(kappa) * demand.dispersion, demand.buckets.grid.cells)


def prefill_work(demand: Demand, loads: Loads) -> Prefill:
    """What the prompts of all buckets need of the prefill of all pools; 0 where not feasible.

    A prompt without a promise takes its time, and may itself wait for ever.
    """
    classes, cells = demand.buckets.classes, demand.buckets.grid.cells
    ttft_s = np.repeat([slo_class.slo.ttft_s for slo_class in classes], cells)[:, None]
    return Prefill(
        rate=demand.rate,
        seconds=np.where(loads.feasible, loads.prefill, 0.0),
        squares=np.where(loads.feasible, loads.squares, 0.0),
        slack_s=np.where(
            loads.promised[:, None],
            np.where(loads.feasible, ttft_s - np.minimum(loads.own_s, ttft_s), 0.0),
            RELAXED_S,
        ),
        burst=np.repeat(
            [_short_burst(c, z) for c, z in zip(classes, demand.dispersion, strict=True)], cells
        ),
        misses=np.repeat([1 - slo_class.slo.attainment for slo_class in classes], cells),
    )


def _short_burst(slo_class: SloClass, dispersion: float) -> float:
    """The dispersion within the time that a prompt may wait, from that over `WINDOW_S`.

    Counts over short windows vary less: Azure 2023 conversation has 1.4 at 1 s and 3.9 at 10 s,
    code 13 and 72. A straight line from 1 at 0 s is near enough to both.
    """
    return 1 + (dispersion - 1) * min(1.0, slo_class.slo.ttft_s / WINDOW_S)


def load_and_tail(
    weights: FloatArray, mean: FloatArray, variance: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Mean load and tail `κ√V` of every pool under (B, P) weights: two (P,), in backends."""
    # Infinite means stand where the weight is 0, and 0 · ∞ is no number.
    load = np.multiply(weights, mean, where=weights > 0, out=np.zeros_like(mean)).sum(axis=0)
    return load, np.sqrt((weights * variance).sum(axis=0))


def utilisations(
    demand: Demand, pools: tuple[Pool, ...], plans: Iterable[Plan]
) -> tuple[tuple[float, ...], ...]:
    """For each plan `(M + κ√V)/y` of every pool if this demand met it: above 1 it does not hold.

    Where prefill needs more backends than there are, it is what prefill needs over what there is.
    Infinite where demand lands in a pool that cannot hold its SLO or has no backend. Several plans
    at once, because the loads of the demand are most of the work. Raises InvalidValue for a plan of
    other pools or buckets.
    """
    table = load_table(demand, pools)
    return tuple(_utilisation(demand, pools, plan, table) for plan in plans)


def _utilisation(
    demand: Demand,
    pools: tuple[Pool, ...],
    plan: Plan,
    table: FloatArray,
) -> tuple[float, ...]:
    if tuple(pool.name for pool in pools) != plan.pools or demand.buckets != plan.buckets:
        raise InvalidValue("utilisation: the plan is for other pools or buckets")
    # A given fleet does what it can; a plan that chose its fleet should have chosen another.
    ready = np.array(plan.backends) > 0 if plan.objective == "assign" else None
    loads = loads_of(demand, table, ready)
    mean, variance = load_terms(demand, loads)
    prompts = prefill_work(demand, loads)
    weights = np.array(plan.weights).reshape(mean.shape)
    load, tail = load_and_tail(weights, mean, variance)
    counts = np.array(plan.backends, dtype=float)
    more = _raised_by_prefill(prompts, weights, counts)
    # An overloaded pool has no stationary wait; its load says enough.
    need = np.maximum(load + tail, np.where(load < counts, more, 0.0))
    return tuple(
        need / count if count else (float("inf") if need > 0 else 0.0)
        for need, count in zip(need.tolist(), plan.backends, strict=True)
    )


def _raised_by_prefill(prompts: Prefill, weights: FloatArray, counts: FloatArray) -> FloatArray:
    """(P,) the counts that prefill needs where these are too few; 0 elsewhere."""
    raised = prompts.raised(weights * (prompts.rate > 0)[:, None], counts)
    return np.where(raised > counts, raised, 0.0)


def why_infeasible(demand: Demand, pools: tuple[Pool, ...], bucket: int) -> str:
    """The reason why no pool can serve a bucket: its model, its promise or its size.

    Each target is relaxed in turn; the first whose relaxation makes a pool feasible is the reason.
    """
    slo_class = demand.buckets.class_of(bucket)
    slo = slo_class.slo
    if all(pool.model != slo_class.model for pool in pools):
        return f"no pool serves {slo_class.model}"
    if _holds(demand, pools, bucket, replace(slo, ttft_s=RELAXED_S)):
        return f"no pool holds TTFT {slo.ttft_s:g} s at this size"
    if _holds(demand, pools, bucket, replace(slo, tpot_s=RELAXED_S)):
        return f"no pool holds TPOT {slo.tpot_s:g} s at this size"
    if _holds(demand, pools, bucket, replace(slo, ttft_s=RELAXED_S, tpot_s=RELAXED_S)):
        return f"no pool holds TTFT {slo.ttft_s:g} s and TPOT {slo.tpot_s:g} s at this size"
    return "no pool has room for a context of this size"


def _holds(demand: Demand, pools: tuple[Pool, ...], bucket: int, slo: Slo) -> bool:
    """Whether some pool holds another SLO in a bucket."""
    classes = tuple(replace(slo_class, slo=slo) for slo_class in demand.buckets.classes)
    relaxed = replace(demand, buckets=replace(demand.buckets, classes=classes))
    return bool(bucket_loads(relaxed, pools).promised[bucket])


def _samples(demand: Demand) -> tuple[IntArray, FloatArray, FloatArray, FloatArray, FloatArray]:
    """Bucket, input, output, prefix hits and share of every sample, and of one for each unseen
    bucket, which has no hits.

    Unseen buckets need loads too: a request of one may come before the next plan.
    """
    buckets = demand.buckets
    unseen = np.flatnonzero(np.bincount(demand.bucket, minlength=buckets.count) == 0)
    centres = [buckets.grid.centre(int(bucket) % buckets.grid.cells) for bucket in unseen]
    sizes = np.array(centres, dtype=float).reshape(-1, 2)
    return (
        np.concatenate([demand.bucket, unseen]),
        np.concatenate([demand.input_tokens, sizes[:, 0]]),
        np.concatenate([demand.output_tokens, sizes[:, 1]]),
        np.concatenate([demand.input_tokens * demand.cached_share, np.zeros(len(unseen))]),
        np.concatenate([demand.share, np.ones(len(unseen))]),
    )


def _column(
    buckets: Buckets,
    pool: Pool,
    bucket: IntArray,
    inputs: FloatArray,
    outputs: FloatArray,
    cached: FloatArray,
    share: FloatArray,
) -> FloatArray:
    """(7, B) the loads of one pool: seconds, variance, slots, prefill, its squares, own_s, misfit.

    Averages are over the requests that fit; own_s over those whose SLO the pool holds. All but the
    misfit are infinite where nothing fits.
    """
    n_star, rate = np.zeros_like(share), np.zeros_like(share)
    promised = np.zeros(len(share), dtype=bool)
    for c, slo_class in enumerate(buckets.classes):
        rows = bucket // buckets.grid.cells == c
        if slo_class.model == pool.model and rows.any():
            sizes = inputs[rows], outputs[rows]
            taken = pool.profile.takes(*sizes, slo_class.slo, cached[rows])
            n_star[rows], rate[rows], promised[rows] = taken.n_star, taken.rate, taken.promised
    misfit = 1 - np.bincount(bucket, share * promised, minlength=buckets.count)
    held = rate > 0
    promised = promised[held]
    bucket, share, n_star, rate = bucket[held], share[held], n_star[held], rate[held]
    stall_s, own_s = _stalls(pool.profile, inputs[held], outputs[held], cached[held], n_star)
    kept = np.bincount(bucket, share, minlength=buckets.count)
    sums = [
        np.bincount(bucket, share * value, minlength=buckets.count)
        for value in (
            1 / rate,
            1 / (rate * n_star),
            1 / n_star,
            stall_s,
            stall_s**2,
        )
    ]
    within = np.bincount(bucket, share * promised, minlength=buckets.count)
    own = np.bincount(bucket, share * promised * own_s, minlength=buckets.count)
    fits = kept > 1e-9  # shares sum to 1 up to rounding
    means = np.where(fits, np.array(sums) / np.where(fits, kept, 1.0), np.inf)
    own = np.where(within > 0, own / np.where(within > 0, within, 1.0), 0.0)
    own = np.where(fits, own, np.inf)
    return np.vstack([means, own, np.maximum(np.round(misfit, 12), 0.0)])


def _stalls(
    profile: Profile,
    inputs: FloatArray,
    outputs: FloatArray,
    cached: FloatArray,
    n_star: FloatArray,
) -> tuple[FloatArray, FloatArray]:
    """Seconds for which each prompt keeps others waiting, and until its own first token alone.

    A prompt is prefilled in chunks, one per iteration, but for its prefix hits. In each of these
    iterations other sequences decode too: `BESIDE` of those that an SLO-full backend has.
    """
    times, context = profile.times, inputs + outputs / 2
    hit = hits(inputs, cached)
    chunks = np.ceil((inputs - hit) / profile.max_num_batched_tokens)
    alone_s = times.prefill_s(inputs, hit)
    beside_s = times.decode_s(BESIDE * n_star, context) - times.decode_s(0.0 * n_star, context)
    return np.asarray(alone_s + chunks * beside_s), np.asarray(alone_s)
