"""What a plan says of itself."""

from dataclasses import replace

import pytest

from planner.model.buckets import Buckets, SloClass
from planner.model.plan import Plan, Unserved
from planner.sizes import Grid
from planner.slo import Slo

PLAN = Plan(
    plan_id="00000000",
    objective="provision",
    buckets=Buckets(
        classes=(SloClass(model="m", slo=Slo(ttft_s=1, tpot_s=0.1)),),
        grid=Grid(input_edges=(1, 256, 4096), output_edges=(1, 64)),
    ),
    pools=("small", "large"),
    backends=(1, 0),
    weights=((0.75, 0.25), (0.0, 0.0)),
    rate=(3.0, 1.0),
    seconds=((1.0, 0.5), (2.0, 1.0)),
    slots=((0.1, 0.05), (0.2, 0.1)),
    load=(0.5, 0.0),
    tail=(0.1, 0.0),
    usd_per_hour=1.0,
    lower_bound_usd_per_hour=0.5,
    gap=0.0,
    solve_s=0.0,
)


def test_the_unserved_share_is_of_all_requests():
    """Requests/s that are left over all requests/s, also of a bucket that is served in part."""
    left = (
        Unserved(bucket=0, rate=0.6, reason="stock of H100 is used up"),
        Unserved(bucket=1, rate=1.0, reason="no pool serves m"),
    )

    assert PLAN.unserved_share == 0
    assert replace(PLAN, unserved=left).unserved_share == pytest.approx(0.4)
    assert replace(PLAN, rate=(0.0, 0.0)).unserved_share == 0


def test_slices_are_the_weights_above_zero():
    """Bucket, pool and weight of each; a bucket that no pool serves has none."""
    assert list(PLAN.shares()) == [(0, "small", 0.75), (0, "large", 0.25)]
