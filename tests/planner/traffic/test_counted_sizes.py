"""Histograms of Prometheus, and values drawn from them."""

from math import inf

import numpy as np
import pytest

from planner.errors import InvalidValue
from planner.traffic.counted_sizes import CountedSizes

BOUNDS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, inf)


def counted(values):
    below = {bound: float((values <= bound).sum()) for bound in BOUNDS}
    return CountedSizes.of(below, float(values.sum()))


@pytest.mark.parametrize("seed", range(6))
def test_what_is_drawn_has_the_mean_and_the_buckets_of_what_was_counted(seed):
    rng = np.random.default_rng(seed)
    values = np.clip(np.rint(rng.lognormal(rng.uniform(3, 6), 0.8, 4000)), 1, 5000)
    histogram = counted(values)

    drawn = histogram.drawn(4000)

    assert drawn.mean() == pytest.approx(values.mean(), rel=0.01)
    assert np.all(np.diff(drawn) >= 0)
    again = np.array(counted(drawn).counts)
    assert np.abs(again - np.array(histogram.counts)).max() <= 0.01 * 4000
    assert np.quantile(drawn, 0.9) == pytest.approx(np.quantile(values, 0.9), rel=0.35)


def test_differences_sums_and_quantiles():
    """An engine that began anew counts from the start; a last bucket has no edge."""
    first = counted(np.array([3.0, 30.0]))
    both = counted(np.array([3.0, 30.0, 400.0, 5000.0]))

    assert both.minus(first).counts == counted(np.array([400.0, 5000.0])).counts
    assert both.minus(first).total == 5400.0
    assert first.minus(both) is first
    assert both.quantile(0.5) == 50.0
    assert both.quantile(0.99) is None
    assert both.plus(CountedSizes(bounds=(7.0, inf), counts=(2.0, 0.0), total=9.0)).number == 6
    empty = CountedSizes(bounds=(1.0, inf), counts=(0.0, 0.0), total=0.0)
    assert (empty.mean, empty.quantile(0.5)) == (None, None)
    with pytest.raises(InvalidValue):
        empty.drawn(3)


@pytest.mark.parametrize(
    ("bounds", "counts"),
    [((1.0,), (1.0,)), ((1.0, inf), (1.0,)), ((1.0, inf), (2.0, -1.0)), ((), ())],
)
def test_what_is_no_histogram_is_refused(bounds, counts):
    with pytest.raises(InvalidValue):
        CountedSizes(bounds=bounds, counts=counts, total=1.0)
