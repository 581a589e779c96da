"""What can be rented for a model: every GPU type with a price, alone and together."""

from dataclasses import replace

import numpy as np
import pytest

from planner.costs.rentable import (
    PARALLEL,
    PROMISES_NOTHING,
    Rentable,
    holding,
    promised,
    rentable_pools,
    undominated,
)
from planner.engine import catalogue
from planner.errors import InvalidValue
from planner.model.buckets import Buckets, SloClass
from planner.model.demand import Demand
from planner.program.solve import provision
from planner.sizes import Grid
from planner.slo import Slo
from planner.traffic.size_histogram import demand_from_samples

USD = {"L4": 0.8, "A10G": 1.0, "A100-80G": 3.4, "H100": 6.9}
SMALL, LARGE = catalogue.models()["Qwen3-8B"], catalogue.models()["Llama-3.1-70B"]


def make_demand(model: str, tpot_s: float = 0.06, ttft_s: float = 2.0) -> Demand:
    """20 requests/s of two sizes."""
    slo_class = SloClass(model=model, slo=Slo(ttft_s=ttft_s, tpot_s=tpot_s))
    buckets = Buckets(
        classes=(slo_class,), grid=Grid(input_edges=(1, 512, 8192), output_edges=(1, 2048))
    )
    return demand_from_samples(
        buckets,
        np.array([0, 1]),
        np.array([300.0, 1500]),
        np.array([100.0, 300]),
        duration_s=1,
        dispersion=(1.0,),
    ).scaled_to(20)


def reasons(rentable: Rentable) -> dict[str, str]:
    return {one.name: one.reason for one in rentable.left_out}


def test_every_gpu_with_a_price_is_a_pool_on_one_two_four_and_eight():
    """A backend of several GPUs costs so many times the price of one."""
    pools = rentable_pools("m", SMALL, USD, longest=4000).pools

    assert [(pool.gpu, pool.gpus) for pool in pools] == [(g, n) for g in USD for n in PARALLEL]
    assert all(pool.usd_per_hour == USD[pool.gpu] * pool.gpus for pool in pools)
    assert all(pool.model == "m" and pool.max_backends is None for pool in pools)


def test_what_does_not_fit_is_left_out_with_the_reason():
    """70 billion parameters of two bytes need more than one GPU of 80 GB."""
    rentable = rentable_pools("m", LARGE, USD, longest=4000)
    fits = {(pool.gpu, pool.gpus) for pool in rentable.pools}

    assert {("A100-80G", 4), ("H100", 4)} <= fits
    assert {("A100-80G", 1), ("H100", 1)}.isdisjoint(fits)
    assert "does not fit" in reasons(rentable)["H100"]
    assert len(rentable.pools) + len(rentable.left_out) == len(USD) * len(PARALLEL)


def test_a_price_of_an_unknown_gpu_is_named():
    """It has no figures to plan with; without any other GPU there is nothing to rent."""
    with_unknown = rentable_pools("m", SMALL, {"H200X": 1.0, "H100": 7.0}, longest=4000)

    assert "did you mean H200" in reasons(with_unknown)["H200X"]
    with pytest.raises(InvalidValue, match="no GPU with a price"):
        rentable_pools("m", SMALL, {"H200X": 1.0}, longest=4000)


def test_engines_are_started_for_the_longest_request():
    """As far as the model's context and the memory reach."""
    short, long, beyond = (
        rentable_pools("m", SMALL, {"H100": 7.0}, longest=n).pools[0].profile.max_model_len
        for n in (100, 20_000, 10**6)
    )

    assert short < long == 20_000 < beyond == SMALL.context


def test_a_pool_that_holds_nothing_is_left_out():
    """One L4 is too slow for 60 ms; a promise that nobody holds is an error that says so."""
    rentable = rentable_pools("m", SMALL, USD, longest=4000)
    held = holding(rentable, make_demand("m"))

    assert "L4" not in {pool.name for pool in held.pools}
    assert reasons(held)["L4"] == PROMISES_NOTHING
    with pytest.raises(InvalidValue, match=r"TPOT 0\.0001 s"):
        holding(rentable, make_demand("m", tpot_s=1e-4))
    with pytest.raises(InvalidValue, match=r"TTFT 1e-06 s"):
        holding(rentable, make_demand("m", ttft_s=1e-6))


def test_a_pool_s_promise_is_a_share_of_the_requests():
    """Half of the requests fit into the context, and they bring a part of the load."""
    pool = rentable_pools("m", SMALL, {"H100": 7.0}, longest=4000).pools[0]
    short = replace(pool, profile=replace(pool.profile, max_model_len=500))
    (whole, load), (part, less) = (promised(make_demand("m"), one) for one in (pool, short))

    assert whole == pytest.approx(1.0)
    assert part == pytest.approx(0.5)
    assert 0 < less < load


def test_a_dominated_pool_changes_no_plan():
    """Of a pool, a dearer copy and one at its price the first is left, and the cost is the same."""
    demand = make_demand("m")
    pools = holding(rentable_pools("m", SMALL, USD, longest=4000), demand).pools
    first = pools[0]
    copies = (
        *pools,
        replace(first, name="dearer", usd_per_hour=first.usd_per_hour * 2),
        replace(first, name="twin"),
    )
    left = undominated(demand, copies)

    assert {pool.name for pool in left} <= {pool.name for pool in pools}
    assert first.name in {pool.name for pool in left}
    cost = provision(demand, copies, gap=0.0).usd_per_hour
    assert provision(demand, left, gap=0.0).usd_per_hour == pytest.approx(cost)
