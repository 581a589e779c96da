"""From finished requests to a Demand: the histogram of actual sizes by bucket.

Sizes are counted in log-spaced fine cells that hold sums only, so histograms of several processes
merge by addition. Must not know pools, time, or where the requests came from.
"""

from collections.abc import Mapping, Sequence
from itertools import chain
from operator import itemgetter

import numpy as np

from planner.errors import InvalidValue
from planner.model.buckets import Buckets
from planner.model.demand import Demand
from planner.sizes import FloatArray, Grid, IntArray, log_edges

PER_OCTAVE = 4  # fine cells per doubling on each axis: sizes in one cell differ by a fifth at most
# From 0: an answer may have no token. To 2²⁰: beyond the context of any model that is served.
_EDGES = (0, *log_edges(1, 2**20, per_octave=PER_OCTAVE))
TINY = 1e-300  # instead of 0 where it divides 0
FINE = Grid(input_edges=_EDGES, output_edges=_EDGES)

# Requests, their input tokens, their output tokens, and the input tokens that were prefix hits.
CellSum = tuple[float, float, float, float]
NOTHING: CellSum = (0.0, 0.0, 0.0, 0.0)
CellSums = Mapping[tuple[int, int], CellSum]  # by bucket and fine cell


def fine_cell(input_tokens: int, output_tokens: int) -> int:
    """The fine cell that an actual size is counted in."""
    return FINE.cell(input_tokens, output_tokens)


def merge_sums(*histograms: CellSums) -> dict[tuple[int, int], CellSum]:
    """The sum of several histograms."""
    merged: dict[tuple[int, int], CellSum] = {}
    for histogram in histograms:
        for key, entry in histogram.items():
            merged[key] = add_cells(merged.get(key, NOTHING), entry)
    return merged


def add_cells(one: CellSum, other: CellSum, weight: float = 1.0) -> CellSum:
    """The sums of one cell and of another, whose requests count `weight` times."""
    return (
        one[0] + weight * other[0],
        one[1] + weight * other[1],
        one[2] + weight * other[2],
        one[3] + weight * other[3],
    )


def demand_from_sums(
    buckets: Buckets, rate: FloatArray, sums: CellSums, dispersion: tuple[float, ...]
) -> Demand:
    """The demand whose actual sizes a histogram holds.

    rate: (B,) requests/s; apart from the sums, because arrivals are counted before sizes are known.
    dispersion: (C,) per SLO class. Cells without requests are skipped.
    """
    # One pass over keys and values: the gateway makes a demand on its event loop at every look.
    bucket = np.fromiter(map(itemgetter(0), sums), np.int64, len(sums))
    table = np.fromiter(chain.from_iterable(sums.values()), float, 4 * len(sums)).reshape(-1, 4)
    filled = table[:, 0] > 0
    return _demand(buckets, rate, bucket[filled], table[filled], dispersion)


def demand_from_samples(
    buckets: Buckets,
    bucket: IntArray,
    inputs: FloatArray,
    outputs: FloatArray,
    *,
    duration_s: float,
    dispersion: tuple[float, ...],
    cached: FloatArray | None = None,
) -> Demand:
    """The demand of N requests of known size that arrived within `duration_s` seconds.

    bucket: (N,) the bucket by each request's estimated size. inputs, outputs: (N,) actual tokens.
    dispersion: (C,) per SLO class. cached: (N,) input tokens that were prefix hits; `None`: none.
    Raises InvalidValue for a bucket that does not exist.
    """
    if not 0 < duration_s < float("inf"):
        raise InvalidValue(f"duration_s must be positive and finite: {duration_s}")
    _check(buckets, bucket)
    key = bucket * FINE.cells + FINE.cell_of(inputs, outputs)
    keys, row = np.unique(key, return_inverse=True)
    hits = np.zeros(len(row)) if cached is None else cached
    terms = (np.ones(len(row)), inputs, outputs, hits)
    sums = np.asarray(np.stack([np.bincount(row, term) for term in terms], axis=1), dtype=float)
    rate = np.bincount(bucket, minlength=buckets.count) / duration_s
    bucket_of_cell = np.asarray(keys // FINE.cells, dtype=np.int64)
    return _demand(buckets, rate, bucket_of_cell, sums, dispersion)


def combine_demands(demands: Sequence[Demand]) -> Demand:
    """One demand of several, each of other SLO classes of the same buckets.

    The dispersion of a class is that of the demand which has its requests; of a class without
    requests it is the first demand's. Raises InvalidValue for demands of other buckets, and for two
    demands that have requests of one class: their shares would need other weights.
    """
    first = demands[0]
    cells = first.buckets.grid.cells
    dispersion, owner = list(first.dispersion), [0] * len(first.dispersion)
    for number, demand in enumerate(demands):
        if demand.buckets != first.buckets:
            raise InvalidValue("demands of different buckets cannot be combined")
        rates = demand.rate.reshape(-1, cells).sum(axis=1)
        for c in np.flatnonzero(rates).tolist():
            if owner[c]:
                raise InvalidValue(f"two demands have requests of {first.buckets.classes[c]}")
            dispersion[c], owner[c] = demand.dispersion[c], number + 1
    return Demand(
        buckets=first.buckets,
        rate=np.sum([demand.rate for demand in demands], axis=0),
        bucket=np.concatenate([demand.bucket for demand in demands]),
        input_tokens=np.concatenate([demand.input_tokens for demand in demands]),
        output_tokens=np.concatenate([demand.output_tokens for demand in demands]),
        share=np.concatenate([demand.share for demand in demands]),
        cached_share=np.concatenate([demand.cached_share for demand in demands]),
        dispersion=tuple(dispersion),
    )


def _demand(
    buckets: Buckets,
    rate: FloatArray,
    bucket: IntArray,
    sums: FloatArray,
    dispersion: tuple[float, ...],
) -> Demand:
    """The demand of F cells. sums: (F, 4) the `CellSum` of each."""
    _check(buckets, bucket)
    count, inputs, outputs, cached = sums.T
    seen = np.bincount(bucket, count, minlength=buckets.count)
    return Demand(
        buckets=buckets,
        rate=np.asarray(rate, dtype=float),
        bucket=bucket,
        input_tokens=inputs / count,
        output_tokens=outputs / count,
        share=count / seen[bucket],
        # Nothing to compute in prompts of no token; sums that fade are off by their rounding.
        cached_share=np.clip(cached / np.maximum(inputs, TINY), 0.0, 1.0),
        dispersion=dispersion,
    )


def _check(buckets: Buckets, bucket: IntArray) -> None:
    if len(bucket) and not 0 <= int(bucket.min()) <= int(bucket.max()) < buckets.count:
        raise InvalidValue(f"bucket must be from 0 to {buckets.count - 1}")
