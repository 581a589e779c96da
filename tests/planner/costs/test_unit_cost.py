"""What a token costs on a fleet at the offered load."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from planner.costs.unit_cost import unit_cost
from planner.engine import profiles
from planner.errors import InvalidValue
from planner.model.buckets import Buckets, SloClass
from planner.model.demand import Demand
from planner.model.pool import Pool
from planner.program.solve import assign
from planner.sizes import Grid
from planner.slo import Slo
from planner.traffic.size_histogram import demand_from_samples

POOL = Pool(
    name="h",
    model="m",
    profile=profiles.find_profile("llama-3-8b/H100", Path()),
    usd_per_hour=7.2,
)
BUCKETS = Buckets(
    classes=(SloClass(model="m", slo=Slo(ttft_s=2, tpot_s=0.1)),),
    grid=Grid(input_edges=(1, 8192), output_edges=(1, 2048)),
)


def make_demand(rate: float) -> Demand:
    """Requests of 300 + 100 and of 500 + 300 tokens, as many of each."""
    return demand_from_samples(
        BUCKETS,
        np.array([0, 0]),
        np.array([300.0, 500]),
        np.array([100.0, 300]),
        duration_s=1,
        dispersion=(1.0,),
    ).scaled_to(rate)


def test_the_price_is_the_bill_over_the_tokens():
    """10 requests/s of 400 + 200 tokens are 6,000 tokens/s, 21.6 million an hour for $14.40."""
    demand = make_demand(10.0)
    cost = unit_cost(assign(demand, (POOL,), (2,)), demand, (POOL,))

    assert (cost.prompt_per_s, cost.output_per_s) == pytest.approx((4000, 2000))
    assert cost.usd_per_million == pytest.approx(14.4 / 21.6)
    assert cost.usd_per_million_output == pytest.approx(14.4 / 7.2)


def test_full_use_costs_the_same_whatever_the_load():
    """Twice the load is twice the use at half the price of a token."""
    half, full = (
        unit_cost(assign(make_demand(r), (POOL,), (2,)), make_demand(r), (POOL,)) for r in (5, 10)
    )

    assert 0 < half.utilisation < full.utilisation < 1
    assert full.utilisation == pytest.approx(2 * half.utilisation)
    assert full.usd_per_million == pytest.approx(half.usd_per_million / 2)
    assert full.usd_per_million_full == pytest.approx(half.usd_per_million_full)


def test_use_is_weighted_by_price():
    """An idle backend that costs nothing takes nothing away from full use."""
    free, demand = replace(POOL, name="free", usd_per_hour=0.0, model="other"), make_demand(10.0)
    alone = unit_cost(assign(demand, (POOL,), (2,)), demand, (POOL,))
    beside = unit_cost(assign(demand, (POOL, free), (2, 3)), demand, (POOL, free))

    assert beside.utilisation == pytest.approx(alone.utilisation)


def test_no_tokens_have_no_price():
    """Demand of which nothing is known is an error, not a division by zero."""
    nothing = Demand.none(BUCKETS)
    with pytest.raises(InvalidValue, match="no output tokens"):
        unit_cost(assign(nothing, (POOL,), (1,)), nothing, (POOL,))
