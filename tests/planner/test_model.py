"""The values that planning is about."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner import profiles
from planner.errors import InvalidValue
from planner.model import Demand, Pool, SloClass, Space, Spot
from planner.profiles import ProfileFile
from planner.sizes import Grid
from planner.slo import Slo

SPACE = Space(
    classes=(SloClass(model="m", slo=Slo(ttft_s=1, tpot_s=0.1)),),
    grid=Grid(input_edges=(1, 256, 4096), output_edges=(1, 64, 1024)),
)
PROFILE = profiles.build(
    ProfileFile(format="cuvee-profile/1", origin="analytic", gpu="H100", model="Llama-3-8B")
)


def demand(rate: list[float], dispersion: tuple[float, ...] = (1.0,)) -> Demand:
    return Demand(
        space=SPACE,
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


@pytest.mark.parametrize(
    ("field", "value"),
    [("usd_per_hour", -1.0), ("usd_per_hour", float("nan")), ("min_backends", -1),
     ("max_backends", -1)],
)  # fmt: skip
def test_a_wrong_pool_names_itself_and_its_field(field: str, value: float):
    """The message says which pool and which field."""
    good = {"name": "p", "model": "m", "profile": PROFILE, "usd_per_hour": 1.0}

    with pytest.raises(InvalidValue, match=f"pool p: .*{field}"):
        Pool(**(good | {field: value}))


@pytest.mark.parametrize(
    ("field", "value"),
    [("preemptions_per_hour", -1.0), ("restart_s", float("nan")), ("confidence", 1.0),
     ("most_share", 1.1), ("backfill_s", -1.0), ("backfill_usd_per_hour", float("inf"))],
)  # fmt: skip
def test_a_wrong_spot_names_its_field(field: str, value: float):
    """The message says which field."""
    good = {"preemptions_per_hour": 0.1, "restart_s": 300.0}

    with pytest.raises(InvalidValue, match=f"spot: {field}"):
        Spot(**(good | {field: value}))


def test_what_is_paid_for_is_not_taken_away():
    """A pool is reserved or spot, not both, and reserves no negative number."""
    good = {"name": "p", "model": "m", "profile": PROFILE, "usd_per_hour": 1.0}

    for wrong in ({"reserved": -1}, {"reserved": 1, "spot": Spot(preemptions_per_hour=1,
                                                               restart_s=60)}):  # fmt: skip
        with pytest.raises(InvalidValue, match="pool p: reserved"):
            Pool(**(good | wrong))


def test_a_bucket_describes_itself():
    """Reports name a bucket by model and ranges."""
    assert SPACE.describe(3) == "m in 256–4096 out 64–1024"


def test_a_bucket_of_a_named_class_says_so():
    """Two promises for one model are told apart in words too."""
    batch = SloClass(model="m", slo=Slo(ttft_s=9, tpot_s=1), name="batch")
    space = Space(classes=(*SPACE.classes, batch), grid=SPACE.grid)

    assert space.describe(3 + SPACE.grid.cells) == "m batch in 256–4096 out 64–1024"
