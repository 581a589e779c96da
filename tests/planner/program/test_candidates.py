"""Lists of fleets and the bound that sets some of them aside, against brute force."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.engine import profiles
from planner.engine.profiles import ProfileFile
from planner.model.buckets import Buckets, SloClass
from planner.model.pool import Pool
from planner.program.candidates import Candidates, list_fleets, nearby_fleets
from planner.program.decompose import subproblems
from planner.program.limits import UNLIMITED, Limits, Stock
from planner.program.problem import Problem
from planner.program.subproblem import Incumbent, Subproblem, incumbent_from_shares
from planner.sizes import Grid
from planner.slo import Slo
from planner.traffic.size_histogram import demand_from_samples

USD = {"L4": 0.8, "A10G": 1.0, "A100-80G": 3.4, "H100": 6.9}
GRID = Grid(input_edges=(1, 128, 512, 2048, 8192), output_edges=(1, 64, 256, 2048))
POOLS = tuple(
    Pool(
        name=gpu,
        model="m",
        profile=profiles.build(
            ProfileFile(format="cuvee-profile/1", origin="analytic", gpu=gpu, model="Llama-3-8B")
        ),
        usd_per_hour=usd,
    )
    for gpu, usd in USD.items()
)


def made(
    *,
    seed: int = 0,
    rate: float = 20.0,
    attainment: float = 0.99,
    limits: Limits = UNLIMITED,
    pools: tuple[Pool, ...] = POOLS,
) -> Subproblem:
    random = np.random.default_rng(seed)
    inputs = np.clip(random.lognormal(6.3, 1.1, 400), 2, 6000).round()
    outputs = np.clip(random.lognormal(4.8, 1, 400), 1, 1000).round()
    slo = Slo(ttft_s=2, tpot_s=0.1, attainment=attainment)
    buckets = Buckets(classes=(SloClass(model="m", slo=slo),), grid=GRID)
    cells = GRID.cell_of(inputs, outputs)
    made = demand_from_samples(buckets, cells, inputs, outputs, duration_s=1, dispersion=(2.0,))
    demand = made.scaled_to(rate)
    return next(subproblems(Problem.of(demand, pools, limits)))


@pytest.mark.long
@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10**6), st.floats(0.5, 200), st.sampled_from((0.5, 0.9, 0.99)),
    st.integers(0, 1), st.floats(0.1, 1.0),
)  # fmt: skip
def test_a_fleet_that_holds_is_never_set_aside(
    seed: int, rate: float, attainment: float, survive: int, served: float
):
    """Whatever the prices: shares that fit into counts are a proof that the counts can hold."""
    subproblem = made(
        seed=seed % 7, rate=rate, attainment=attainment, limits=Limits(survive=survive),
    )  # fmt: skip
    random = np.random.default_rng(seed)
    able = np.isfinite(subproblem.mean)
    weights = np.where(
        able, random.dirichlet([0.4] * len(subproblem.costs.usd), len(subproblem.rate)), 0.0
    )
    weights *= served / weights.sum(axis=1, keepdims=True)
    unserved = np.full(len(subproblem.rate), 1 - served)
    fleet = incumbent_from_shares(subproblem, weights, unserved)
    assert fleet

    left = Candidates(subproblem, fleet.backends[None], 1 - unserved)

    for price in random.exponential(size=(20, len(subproblem.costs.usd))) * random.integers(
        0, 2, (20, len(subproblem.costs.usd))
    ):
        assert left.sift(price)


def test_without_a_tail_the_prices_of_a_fleet_that_is_too_small_set_it_aside():
    """κ = 0: half of what the cheapest pools take in all cannot be enough at their prices."""
    subproblem = made(attainment=0.5, rate=60)
    least = subproblem.fluid_bound(np.ones(len(subproblem.rate)))
    fleets = list_fleets(subproblem, np.full(4, 40.0), 0.0, least - 0.01)
    assert fleets is not None

    left = Candidates(subproblem, fleets, np.ones(len(subproblem.rate)))
    left.sift(subproblem.costs.usd)

    assert len(fleets) > 100
    assert len(left) == 0


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.integers(0, 3), min_size=4, max_size=4),
    st.lists(st.integers(0, 3), min_size=4, max_size=4),
    st.integers(0, 200),
    st.integers(0, 250),
    st.booleans(),
)
def test_a_list_is_all_fleets_of_a_cost_in_order(
    reserved: list[int], running: list[int], dimes: int, width: int, switching: bool
):
    """The same as every combination of counts, with reserved backends, stock and switching."""
    pools = tuple(replace(pool, reserved=n) for pool, n in zip(POOLS, reserved, strict=True))
    limits = Limits(
        stock=(Stock(gpu="A10G", most=4),),
        running=tuple(running) if switching else None,
        start_usd=0.7,
        stop_usd=1.3,
    )
    subproblem = made(limits=limits, pools=pools)
    m, low, high = len(subproblem.costs.usd), dimes / 10 + 0.05, (dimes + width) / 10 + 0.05

    fleets = list_fleets(subproblem, np.full(m, 5.0), low, high)

    every = np.array(list(itertools.product(range(6), repeat=m)), dtype=float)
    usd = subproblem.costs.total(every)
    wanted = every[(usd >= low) & (usd < high) & subproblem.legal(every)]
    assert fleets is not None
    assert {tuple(f) for f in fleets.tolist()} == {tuple(f) for f in wanted.tolist()}
    assert len(fleets) == len(wanted)
    assert np.all(np.diff(subproblem.costs.total(fleets)) >= -1e-9)


def test_a_list_that_would_be_too_long_is_not_made():
    """Thousands of backends of four kinds are more fleets than can be looked at."""
    subproblem = made(rate=1e5)

    assert list_fleets(subproblem, np.full(4, 1e5), 0.0, 1e5) is None


def test_neighbours_are_cheaper_and_the_dearest_of_them_comes_first():
    """What saves least is the likeliest to hold."""
    subproblem = made()
    weights = np.zeros_like(subproblem.mean)
    weights[:, 2] = 1.0
    best = incumbent_from_shares(subproblem, weights, np.zeros(len(subproblem.rate)))
    assert isinstance(best, Incumbent)

    usd = subproblem.costs.total(nearby_fleets(subproblem, best, best.usd - 0.5))

    assert len(usd) > 5
    assert usd[0] < best.usd - 0.5
    assert np.all(np.diff(usd) <= 1e-9)


def test_a_set_of_open_pools_that_cannot_serve_takes_its_subsets_along():
    """What no counts of some pools can do, fewer pools cannot: only fleets with others are left."""
    subproblem = made()
    fleets = np.array([[2, 1, 0, 0], [5, 0, 0, 0], [0, 3, 0, 0], [1, 0, 1, 0], [9, 9, 0, 0]])

    left = Candidates(subproblem, fleets.astype(float), np.ones(len(subproblem.rate)))
    left.drop(shut=True)

    assert len(left) == 1
    assert left.next.tolist() == [1, 0, 1, 0]
    left.drop()
    assert len(left) == 0
