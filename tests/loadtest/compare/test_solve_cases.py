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
