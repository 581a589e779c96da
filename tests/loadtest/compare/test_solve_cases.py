"""The made-up problems of the solve benchmark."""

import numpy as np
import pytest

from loadtest.compare import solve_cases
from planner.program.solve import provision


@pytest.mark.parametrize("columns", [6, 10])
def test_every_bucket_has_demand(columns: int):
    """The size that a line names is the size that is solved."""
    case = solve_cases.unlimited(0, rate=40, rows=10, columns=columns, pools=12)

    assert case.demand.buckets.count == 10 * columns
    assert np.all(case.demand.rate > 0)
    assert case.demand.total_rate == pytest.approx(40)
    assert len(case.pools) == len({pool.name for pool in case.pools}) == 12


def test_a_stock_out_takes_a_type_that_was_in_use():
    """Without it the plan changes, and still serves everything."""
    case = solve_cases.stock_out(0)
    (gone,) = case.limits.stock

    before = provision(case.demand, case.pools)
    after = provision(case.demand, case.pools, case.limits)

    counts = dict(zip(case.pools, zip(before.backends, after.backends, strict=True), strict=True))
    assert any(old for pool, (old, _) in counts.items() if pool.gpu == gone.gpu)
    assert not any(new for pool, (_, new) in counts.items() if pool.gpu == gone.gpu)
    assert not after.unserved


def test_six_models_have_twenty_configurations_each():
    """All of them fit into their GPUs, and all models draw on one stock."""
    case = solve_cases.six_models(0)

    by_model = [[p.name for p in case.pools if p.model == m] for m in solve_cases.MODELS]
    assert [len(set(names)) for names in by_model] == [20] * 6
    assert {stock.gpu for stock in case.limits.stock} == {pool.gpu for pool in case.pools}
    assert {slo_class.model for slo_class in case.demand.buckets.classes} == set(solve_cases.MODELS)


@pytest.mark.long
def test_two_types_that_run_are_sold_out():
    """The fleet that runs has both of them."""
    case = solve_cases.sold_out(1)

    gone = {stock.gpu for stock in case.limits.stock if stock.most == 0}
    running = zip(case.pools, case.limits.running or (), strict=True)
    assert len(gone) == 2
    assert gone <= {pool.gpu for pool, count in running if count}
