"""GPUs that pools share: the program says who is awake there, and they are paid for once."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from planner.costs.explain import cost_gap
from planner.engine import profiles
from planner.errors import InvalidValue
from planner.model.buckets import Buckets, SloClass
from planner.model.demand import Demand
from planner.model.pool import Pool, SharedGpus, Spot
from planner.program.limits import Limits, Stock, fleet_bill
from planner.program.solve import provision
from planner.sizes import Grid
from planner.slo import Slo
from planner.traffic.size_histogram import demand_from_samples

PROFILE = profiles.find_profile("llama-3-8b/A10G", Path())
GRID = Grid(input_edges=(1, 512, 8192), output_edges=(1, 2048))


def pool(name: str, model: str, shared: SharedGpus | None, usd: float = 1e-4) -> Pool:
    return Pool(name=name, model=model, profile=PROFILE, usd_per_hour=usd, shared=shared)


def demand(rates: tuple[float, float]) -> Demand:
    """Of the models m and n, in requests/s."""
    slo = Slo(ttft_s=2.0, tpot_s=0.1)
    buckets = Buckets(classes=tuple(SloClass(model=m, slo=slo) for m in "mn"), grid=GRID)
    inputs, outputs = np.full(200, 300.0), np.full(200, 100.0)
    bucket = GRID.cell_of(inputs, outputs) + GRID.cells * (np.arange(200) % 2)
    made = demand_from_samples(
        buckets, bucket, inputs, outputs, duration_s=100.0, dispersion=(1.0, 1.0)
    )
    each = np.repeat(rates, GRID.cells)
    return replace(made, rate=made.rate * each)


def pools(gpus: int) -> tuple[Pool, ...]:
    """One of each model on shared GPUs, and one of m with GPUs of its own, which are dear."""
    rack = SharedGpus(name="rack", gpus=gpus, usd_per_hour=5.0)
    return pool("m", "m", rack), pool("n", "n", rack), pool("own", "m", None, usd=2.0)


@pytest.mark.parametrize("gpus", [2, 4, 6, 8, 12])
def test_awake_are_no_more_than_the_gpus_and_the_rest_has_others(gpus):
    """The model that has no other GPUs gets the shared ones first; what of the other does not fit
    is bought. All is served as long as the shared ones do for that model, and the bill has them
    once."""
    asked = demand((6.0, 6.0))
    alone = provision(asked, pools(100)).backends
    plan = provision(asked, pools(gpus))
    m, n, own = plan.backends

    assert alone[2] == 0
    assert m + n <= gpus
    assert plan.usd_per_hour == pytest.approx(5.0 + 2.0 * own, abs=0.01)
    assert plan.lower_bound_usd_per_hour <= plan.usd_per_hour
    if gpus >= alone[1]:
        assert plan.unserved == ()
        assert n == alone[1]
        assert (own == 0) is (gpus >= alone[0] + alone[1])
    else:
        assert any("shared GPUs rack" in part.reason for part in plan.unserved)


def test_who_is_awake_follows_the_demand():
    """The same GPUs, for whichever model asks."""
    mine = pools(5)[:2]
    first, second = (provision(demand(rates), mine).backends for rates in ((8.0, 0.5), (0.5, 8.0)))

    assert first[0] > first[1]
    assert second[1] > second[0]
    assert max(sum(first), sum(second)) <= 5


def test_they_are_in_the_budget_and_not_of_the_stock():
    """Their price is paid before anything is bought; they are there already."""
    asked, mine = demand((6.0, 6.0)), pools(2)
    free = provision(asked, mine)
    limits = Limits(stock=(Stock(gpu=PROFILE.gpu, most=free.backends[2]),))
    short = provision(asked, mine, Limits(budget_usd_per_hour=5.0 + 2.01))

    assert provision(asked, mine, limits).unserved == ()
    assert short.backends[2] == 1
    assert short.usd_per_hour <= 7.01
    with pytest.raises(InvalidValue, match="budget_usd_per_hour"):
        provision(asked, mine, Limits(budget_usd_per_hour=4.0))


def test_their_price_is_in_the_bill_of_any_fleet_and_in_no_part_of_the_gap():
    """Whoever is awake, and if nobody is."""
    mine = pools(8)
    plan = provision(demand((6.0, 6.0)), mine)

    assert fleet_bill(mine, np.zeros(3)) == 5.0
    assert fleet_bill(mine[2:], np.ones(1)) == 2.0
    gap = cost_gap(plan, demand((6.0, 6.0)), mine)
    assert gap.bound >= 5.0
    assert gap.tail + gap.integrality < 0.1


def test_what_cannot_be_shared_is_refused():
    """No GPUs, and those that are reserved or may be taken away."""
    rack = SharedGpus(name="rack", gpus=1, usd_per_hour=5.0)
    with pytest.raises(InvalidValue, match="shared GPUs rack: there must be one"):
        SharedGpus(name="rack", gpus=0, usd_per_hour=5.0)
    with pytest.raises(InvalidValue, match="usd_per_hour"):
        SharedGpus(name="rack", gpus=1, usd_per_hour=-1.0)
    with pytest.raises(InvalidValue, match="neither reserved nor spot"):
        replace(pool("m", "m", rack), reserved=1)
    with pytest.raises(InvalidValue, match="neither reserved nor spot"):
        replace(pool("m", "m", rack), spot=Spot(preemptions_per_hour=0.1, restart_s=300))
