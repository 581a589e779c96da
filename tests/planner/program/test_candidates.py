"""Lists of fleets and the bound that sets some of them aside, against brute force."""

import itertools
from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.engine import profiles
from planner.engine.profiles import ProfileFile
from planner.model.buckets import Buckets, SloClass
from planner.model.pool import Pool
from planner.program.candidates import Candidates, listed, moves
from planner.program.headroom import loads
from planner.program.limits import UNLIMITED, Limits, Stock
from planner.program.subproblem import Incumbent, Subproblem, incumbent, subproblems
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


def subproblem(
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
    return next(subproblems(demand, pools, loads(demand, pools), limits))


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10**6),
    st.floats(0.5, 200),
    st.sampled_from((0.5, 0.9, 0.99)),
    st.integers(0, 1),
    st.floats(0.1, 1.0),
)
def test_a_fleet_that_holds_is_never_set_aside(
    seed: int, rate: float, attainment: float, survive: int, served: float
):
    """Whatever the prices: shares that fit into counts are a proof that the counts can hold."""
    given_ = subproblem(
        seed=seed % 7, rate=rate, attainment=attainment, limits=Limits(survive=survive),
    )  # fmt: skip
    random = np.random.default_rng(seed)
    able = np.isfinite(given_.mean)
    weights = np.where(able, random.dirichlet([0.4] * len(given_.usd), len(given_.rate)), 0.0)
    weights *= served / weights.sum(axis=1, keepdims=True)
    unserved = np.full(len(given_.rate), 1 - served)
    found = incumbent(given_, weights, 0.0, unserved)
    assert found

    left = Candidates(given_, found.backends[None], 1 - unserved)

    for price in random.exponential(size=(20, len(given_.usd))) * random.integers(
        0, 2, (20, len(given_.usd))
    ):
        assert left.sift(price)


def test_without_a_tail_the_prices_of_a_fleet_that_is_too_small_set_it_aside():
    """κ = 0: half of what the cheapest pools take in all cannot be enough at their prices."""
    given_ = subproblem(attainment=0.5, rate=60)
    least = given_.bound(np.ones(len(given_.rate)))
    fleets = listed(given_, given_.least, np.full(4, 40.0), 0.0, least - 0.01)
    assert fleets is not None

    left = Candidates(given_, fleets, np.ones(len(given_.rate)))
    left.sift(given_.usd)

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
    pools = tuple(replace(one, reserved=n) for one, n in zip(POOLS, reserved, strict=True))
    limits = Limits(
        stock=(Stock(gpu="A10G", most=4),),
        running=tuple(running) if switching else None,
        start_usd=0.7,
        stop_usd=1.3,
    )
    given_ = subproblem(limits=limits, pools=pools)
    m, low, high = len(given_.usd), dimes / 10 + 0.05, (dimes + width) / 10 + 0.05

    fleets = listed(given_, given_.least, np.full(m, 5.0), low, high)

    every = np.array(list(itertools.product(range(6), repeat=m)), dtype=float)
    usd = given_.cost(every)
    wanted = every[(usd >= low) & (usd < high) & given_.legal(every)]
    assert fleets is not None
    assert {tuple(f) for f in fleets.tolist()} == {tuple(f) for f in wanted.tolist()}
    assert len(fleets) == len(wanted)
    assert np.all(np.diff(given_.cost(fleets)) >= -1e-9)


def test_a_list_that_would_be_too_long_is_not_made():
    """Thousands of backends of four kinds are more fleets than can be looked at."""
    given_ = subproblem(rate=1e5)

    assert listed(given_, given_.least, np.full(4, 1e5), 0.0, 1e5) is None


def test_neighbours_are_cheaper_and_the_dearest_of_them_comes_first():
    """What saves least is the likeliest to hold."""
    given_ = subproblem()
    weights = np.zeros_like(given_.mean)
    weights[:, 2] = 1.0
    best = incumbent(given_, weights, 0.0, np.zeros(len(given_.rate)))
    assert isinstance(best, Incumbent)

    usd = given_.cost(moves(given_, best, best.usd - 0.5))

    assert len(usd) > 5
    assert usd[0] < best.usd - 0.5
    assert np.all(np.diff(usd) <= 1e-9)


def test_a_set_of_open_pools_that_cannot_serve_takes_its_subsets_along():
    """What no counts of some pools can do, fewer pools cannot: only fleets with others are left."""
    given_ = subproblem()
    fleets = np.array([[2, 1, 0, 0], [5, 0, 0, 0], [0, 3, 0, 0], [1, 0, 1, 0], [9, 9, 0, 0]])

    left = Candidates(given_, fleets.astype(float), np.ones(len(given_.rate)))
    left.drop(shut=True)

    assert len(left) == 1
    assert left.next.tolist() == [1, 0, 1, 0]
    left.drop()
    assert len(left) == 0
