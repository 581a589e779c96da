"""The program without integers: below every plan, and its derivative the price of more."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.engine import profiles
from planner.engine.profiles import ProfileFile
from planner.model.buckets import Buckets, SloClass
from planner.model.demand import Demand
from planner.model.pool import Pool
from planner.program.decompose import subproblems
from planner.program.headroom import bucket_loads, load_and_tail, load_terms
from planner.program.problem import Problem
from planner.program.relaxed import fractional_fleet
from planner.program.solve import provision
from planner.sizes import Grid
from planner.slo import Slo
from planner.traffic.size_histogram import demand_from_samples

GRID = Grid(input_edges=(1, 256, 1024, 8192), output_edges=(1, 128, 2048))
USD = {"L4": 0.8, "A10G": 1.0, "A100-80G": 3.4, "H100": 6.9}


def pool(gpu: str, usd: float) -> Pool:
    spec = ProfileFile(format="cuvee-profile/1", origin="analytic", gpu=gpu, model="Llama-3-8B")
    return Pool(name=gpu, model="m", profile=profiles.build(spec), usd_per_hour=usd)


POOLS = tuple(pool(gpu, usd) for gpu, usd in USD.items())


def demand(seed: int, rate: float, *, attainment: float = 0.99, tpot_s: float = 0.1) -> Demand:
    random = np.random.default_rng(seed)
    inputs = np.clip(random.lognormal(6, 1, 400), 2, 5000).round()
    outputs = np.clip(random.lognormal(5, 1, 400), 1, 900).round()
    slo = Slo(ttft_s=2, tpot_s=tpot_s, attainment=attainment)
    buckets = Buckets(classes=(SloClass(model="m", slo=slo),), grid=GRID)
    asked = demand_from_samples(buckets, GRID.cell_of(inputs, outputs), inputs, outputs,
                                duration_s=50, dispersion=(2.0,))  # fmt: skip
    return asked.scaled_to(rate)


def fluid_bound(asked: Demand) -> float:
    """The bound that the search begins with: no tail, no integers."""
    return sum(
        subproblem.fluid_bound(np.ones(len(subproblem.rate)))
        for subproblem in subproblems(Problem.of(asked, POOLS))
    )


@pytest.mark.long
@settings(max_examples=15, deadline=None)
@given(st.integers(0, 99), st.floats(0.1, 500), st.lists(st.floats(1, 3), min_size=6, max_size=6))
def test_more_demand_never_lowers_the_bound(seed: int, rate: float, more: list[float]):
    """Whichever buckets grow; and twice the demand is twice the bound."""
    asked = demand(seed, rate)
    grown = replace(asked, rate=asked.rate * np.array(more))

    assert fluid_bound(grown) >= fluid_bound(asked) - 1e-9
    assert fluid_bound(asked.scaled_to(2 * rate)) == pytest.approx(2 * fluid_bound(asked))


@pytest.mark.long
@settings(max_examples=15, deadline=None)
@given(st.integers(0, 99), st.floats(0.5, 80), st.sampled_from((0.5, 0.9, 0.99)))
def test_it_lies_between_the_bound_and_the_plan(seed: int, rate: float, attainment: float):
    """Fractions of backends cost at least the fluid bound, and no more than the plan's shares."""
    asked = demand(seed, rate, attainment=attainment)
    plan = provision(asked, POOLS)

    fleet = fractional_fleet(asked, POOLS, starts=(np.array(plan.weights),))

    assert fluid_bound(asked) == pytest.approx(plan.lower_bound_usd_per_hour)
    assert fluid_bound(asked) - 1e-9 <= fleet.usd_per_hour <= plan.usd_per_hour + 1e-6
    load, tail = load_and_tail(fleet.weights, *load_terms(asked, bucket_loads(asked, POOLS)))
    assert fleet.usd_per_hour == pytest.approx(float((load + tail) @ list(USD.values())))
    served = fleet.weights[asked.rate > 0]
    assert served.sum(axis=1) == pytest.approx(1.0)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 99), st.floats(5, 300), st.integers(0, 5), st.sampled_from((0.5, 0.95, 0.99)))
def test_the_price_of_more_is_the_slope_of_the_cost(
    seed: int, rate: float, bucket: int, attainment: float
):
    """A little more of a bucket costs that price on the cheapest of the pools in use."""
    asked = demand(seed, rate, attainment=attainment)
    if asked.rate[bucket] == 0:
        return
    fleet, loads = fractional_fleet(asked, POOLS), bucket_loads(asked, POOLS)
    before, step = asked.rate[bucket], asked.rate[bucket] * 1e-5
    more = asked.rate.copy()
    more[bucket] += step
    near = replace(asked, rate=more)
    usd = []
    for p in np.flatnonzero((fleet.weights * asked.rate[:, None]).sum(axis=0) > 0):
        weights = fleet.weights.copy()
        weights[bucket] *= before
        weights[bucket, p] += step
        weights[bucket] /= before + step
        if loads.feasible[bucket, p]:
            load, tail = load_and_tail(weights, *load_terms(near, loads))
            usd.append(float((load + tail) @ list(USD.values())))

    slope = (min(usd) - fleet.usd_per_hour) / step
    assert fleet.marginal[bucket] == pytest.approx(slope, rel=1e-3)


@pytest.mark.parametrize("rate", [1600.0, 3200.0])
def test_in_large_fleets_the_price_predicts_a_plan(rate: float):
    """A tenth more of the commonest bucket changes the plan's cost as the price says, within 1 %
    of the bill.
    """
    asked = demand(3, rate)
    bucket = int(np.argmax(asked.rate))
    more = asked.rate.copy()
    more[bucket] *= 1.1

    before = provision(asked, POOLS).usd_per_hour
    after = provision(replace(asked, rate=more), POOLS).usd_per_hour

    predicted = fractional_fleet(asked, POOLS).marginal[bucket] * asked.rate[bucket] * 0.1
    assert after - before == pytest.approx(predicted, abs=0.01 * before)


def test_where_nothing_fits_there_is_no_price():
    """What fits no context costs nothing here and has an infinite price."""
    asked = demand(1, 5)
    short = tuple(replace(p, profile=replace(p.profile, max_model_len=1)) for p in POOLS)

    fleet = fractional_fleet(asked, short)

    assert fleet.usd_per_hour == 0
    assert np.all(np.isinf(fleet.marginal))
