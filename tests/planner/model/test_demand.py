"""The values that planning is about."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.errors import InvalidValue
from planner.model.buckets import Buckets, SloClass
from planner.model.demand import Demand
from planner.sizes import Grid
from planner.slo import Slo

BUCKETS = Buckets(
    classes=(SloClass(model="m", slo=Slo(ttft_s=1, tpot_s=0.1)),),
    grid=Grid(input_edges=(1, 256, 4096), output_edges=(1, 64, 1024)),
)


def demand(rate: list[float], dispersion: tuple[float, ...] = (1.0,)) -> Demand:
    return Demand(
        buckets=BUCKETS,
        rate=np.array(rate),
        bucket=np.zeros(0, dtype=np.int64),
        input_tokens=np.zeros(0),
        output_tokens=np.zeros(0),
        share=np.zeros(0),
        dispersion=dispersion,
    )


@given(
    st.lists(st.floats(0, 100), min_size=4, max_size=4).filter(lambda r: sum(r) > 1e-3),
    st.floats(0.01, 1e4),
)
def test_scaling_keeps_the_mix(rate: list[float], target: float):
    """Another total rate, the same proportions."""
    before = demand(rate)

    after = before.scaled_to(target)

    assert after.total_rate == pytest.approx(target)
    assert after.rate * before.total_rate == pytest.approx(before.rate * target)


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan"), float("inf")])
def test_a_rate_to_scale_to_is_positive_and_finite(rate: float):
    """The message names the rate."""
    with pytest.raises(InvalidValue, match="rate"):
        demand([1.0, 0, 0, 0]).scaled_to(rate)


def test_no_demand_cannot_be_scaled():
    """Zero times anything is zero."""
    with pytest.raises(InvalidValue, match="no demand"):
        demand([0.0] * 4).scaled_to(1)


@pytest.mark.parametrize("rate", [[1.0], [1.0, 0, 0, -1], [1.0, 0, 0, float("nan")]])
def test_rates_fit_the_buckets(rate: list[float]):
    """One finite rate per bucket."""
    with pytest.raises(InvalidValue, match="rate"):
        demand(rate)


@pytest.mark.parametrize("dispersion", [(), (0.0,), (1.0, 1.0)])
def test_every_class_has_a_dispersion(dispersion: tuple[float, ...]):
    """One positive index of dispersion per SLO class."""
    with pytest.raises((InvalidValue, ValueError)):
        demand([1.0] * 4, dispersion)


@pytest.mark.parametrize("share", [[-0.1], [1.1], [float("nan")], [0.5, 0.5]])
def test_hits_are_a_share_of_each_cell(share: list[float]):
    """One from 0 to 1 for every fine cell; the message names the field."""
    cell = replace(
        demand([1.0, 0, 0, 0]),
        bucket=np.zeros(1, dtype=np.int64),
        input_tokens=np.ones(1),
        output_tokens=np.ones(1),
        share=np.ones(1),
        cached_share=np.full(1, 0.6),
    )
    with pytest.raises(InvalidValue, match="cached_share"):
        replace(cell, cached_share=np.array(share))

    assert cell.scaled_to(7).cached_share.tolist() == [0.6]
    assert demand([1.0, 0, 0, 0]).cached_share.shape == (0,)
