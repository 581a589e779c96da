"""Demand from finished requests."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.errors import InvalidValue
from planner.model.buckets import Buckets, SloClass
from planner.sizes import Grid
from planner.slo import Slo
from planner.traffic.size_histogram import (
    FINE,
    CellSum,
    combine_demands,
    demand_from_samples,
    demand_from_sums,
    fine_cell,
    merge_sums,
)

BUCKETS = Buckets(
    classes=(SloClass(model="m", slo=Slo(ttft_s=1, tpot_s=0.1)),),
    grid=Grid(input_edges=(1, 256, 4096), output_edges=(1, 64, 1024)),
)
sizes = st.tuples(st.integers(0, 3), st.integers(1, 9000), st.integers(0, 3000))
samples = st.lists(sizes, min_size=1, max_size=40)
Rows = list[tuple[int, int, int]]


def sums(rows: Rows) -> dict[tuple[int, int], CellSum]:
    """Sums of requests of which a third of the prompt was a prefix hit."""
    return merge_sums(
        *({(b, fine_cell(i, o)): (1.0, float(i), float(o), float(i // 3))} for b, i, o in rows)
    )


def sampled(rows: Rows):
    bucket, inputs, outputs = np.array(rows).T
    return demand_from_samples(
        BUCKETS, bucket, inputs.astype(float), outputs.astype(float), duration_s=10,
        dispersion=(1.0,), cached=inputs // 3.0,
    )  # fmt: skip


@given(samples)
def test_shares_sum_to_one_and_means_are_kept(rows: Rows):
    """Merging into fine cells loses neither requests nor tokens."""
    demand = sampled(rows)

    for bucket in range(BUCKETS.count):
        mine = [(i, o) for b, i, o in rows if b == bucket]
        here = demand.bucket == bucket
        assert demand.rate[bucket] == pytest.approx(len(mine) / 10)
        if mine:
            assert demand.share[here].sum() == pytest.approx(1)
            means = [float((demand.share * tokens)[here].sum())
                     for tokens in (demand.input_tokens, demand.output_tokens)]  # fmt: skip
            assert means == pytest.approx(np.mean(mine, axis=0).tolist())
        else:
            assert not here.any()


@given(samples)
def test_a_histogram_gives_the_same_demand_as_its_samples(rows: Rows):
    """What the gateway sums one by one is what a trace gives at once."""
    whole = sampled(rows)

    counted = demand_from_sums(BUCKETS, whole.rate, sums(rows), (1.0,))

    one, two = (
        sorted(zip(d.bucket, d.input_tokens, d.output_tokens, d.share, d.cached_share, strict=True))
        for d in (whole, counted)
    )
    assert np.array(one) == pytest.approx(np.array(two))


@given(samples)
def test_hits_are_a_share_of_the_prompts(rows: Rows):
    """The cells' hits add up to those of their requests, and are none where nothing is said."""
    demand, silent = sampled(rows), replace(sampled(rows), cached_share=np.empty(0))

    for bucket in {b for b, *_ in rows}:
        mine = demand.bucket == bucket
        hits = demand.share * demand.input_tokens * demand.cached_share
        expected = np.mean([i // 3 for b, i, _ in rows if b == bucket])
        assert hits[mine].sum() == pytest.approx(expected)
    assert not silent.cached_share.any()


@given(samples, samples)
def test_histograms_merge_by_addition(one: Rows, two: Rows):
    """Two processes' histograms make the histogram of all their requests."""
    assert merge_sums(sums(one), sums(two)) == sums([*one, *two])


@given(st.integers(1, 2**20 - 1), st.integers(1, 2**20 - 1))
def test_sizes_in_one_fine_cell_are_close(inputs: int, outputs: int):
    """A fine cell spans a quarter octave, up to rounding to whole tokens."""
    for low, high in FINE.bounds(fine_cell(inputs, outputs)):
        assert high <= max(low + 1, 2**0.25 * low + 1.5)


def test_an_empty_histogram_is_a_demand_never_seen():
    """No requests yet: rates as given, no rows."""
    demand = demand_from_sums(BUCKETS, np.zeros(4), {}, (1.0,))

    assert demand.total_rate == 0
    assert len(demand.bucket) == 0


def test_bad_samples_are_refused_by_name():
    """A bucket that does not exist and a duration of zero are errors."""
    one = np.array([1.0])
    with pytest.raises(InvalidValue, match="bucket"):
        demand_from_samples(BUCKETS, np.array([4]), one, one, duration_s=1, dispersion=(1.0,))
    with pytest.raises(InvalidValue, match="bucket"):
        demand_from_sums(BUCKETS, np.zeros(4), {(-1, 0): (1.0, 1.0, 1.0, 0.0)}, (1.0,))
    with pytest.raises(InvalidValue, match="duration_s"):
        demand_from_samples(BUCKETS, np.array([0]), one, one, duration_s=0, dispersion=(1.0,))


def test_demands_of_two_classes_add_up():
    """Rates and sizes side by side; each class keeps the dispersion of its own demand."""
    classes = BUCKETS.classes[0], SloClass(model="other", slo=BUCKETS.classes[0].slo)
    buckets = Buckets(classes=classes, grid=BUCKETS.grid)
    one, two = (
        demand_from_samples(
            buckets, np.array([bucket] * 4), np.full(4, 100.0), np.full(4, 10.0),
            duration_s=seconds, dispersion=dispersion,
        )
        for bucket, seconds, dispersion in ((1, 2.0, (3.0, 1.0)), (BUCKETS.count, 4.0, (1.0, 5.0)))
    )  # fmt: skip

    both = combine_demands((one, two))

    assert both.rate[[1, BUCKETS.count]].tolist() == [2.0, 1.0]
    assert both.total_rate == 3.0
    assert both.dispersion == (3.0, 5.0)
    assert sorted(both.bucket.tolist()) == [1, BUCKETS.count]


def test_two_demands_of_one_class_are_refused():
    """Their sizes would be counted with the wrong weights."""
    demand = sampled([(0, 100, 10)])

    with pytest.raises(InvalidValue, match="two demands have requests of m"):
        combine_demands((demand, demand))
