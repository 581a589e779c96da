"""One plan, policies swapped: the largest load that each carries."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gateway.config.load import load
from loadtest.compare.dispatch import (
    STEP,
    assign_pools,
    fix_fleet,
    largest_load,
    usable_loads,
    with_targets,
)
from planner.traffic.trace import Trace

CONFIGS = Path(__file__).resolve().parents[3] / "configs"
DEMO = load(CONFIGS / "demo.yaml")
SIZES = [(300, 100), (900, 220), (1800, 40), (120, 300)]


def make_trace(sizes=SIZES, count: int = 200) -> Trace:
    inputs, outputs = np.array(sizes * (count // len(sizes)), dtype=float).T
    return Trace(
        arrival_s=np.arange(len(inputs)) / 4,
        input_tokens=inputs,
        output_tokens=outputs,
        key=("",) * len(inputs),
    )


@pytest.mark.parametrize(("true_edge", "expected"), [(0.0, 0.0), (0.7334, 0.73), (9.0, 255 * STEP)])
def test_the_edge_is_found_to_a_step(true_edge: float, expected: float):
    """The largest load that attains the target, never one that does not, within the range."""
    largest = largest_load(lambda load: 1.0 if load <= true_edge else 0.5, 0.99)

    assert largest == pytest.approx(expected)


def test_capacity_is_where_the_fullest_pool_has_a_mean_load_of_one():
    """A plan's shares at the fluid capacity fill the fullest pool exactly, whatever the rate."""
    planned = [fix_fleet(DEMO, make_trace(), rate=rate) for rate in (10.0, 40.0)]
    given = fix_fleet(DEMO, make_trace(), backends={"a10g": 2, "a100": 1})

    for fleet in (*planned, given):
        plan = fleet.plan
        scale = fleet.capacity / sum(plan.rate)
        used = [m * scale / y for m, y in zip(plan.load, plan.backends, strict=True) if y]
        assert max(used) == pytest.approx(1.0)
    assert given.plan.backends == (2, 1)
    assert fix_fleet(DEMO, make_trace(), backends={"a100": 8}).capacity == pytest.approx(
        2 * fix_fleet(DEMO, make_trace(), backends={"a100": 4}).capacity
    )


def test_what_no_pool_can_promise_is_left_out():
    """A prompt too long for the TTFT is not played, and its share is stated."""
    sizes = [*SIZES[:3], (7000, 50)]

    fleet = fix_fleet(with_targets(DEMO, 0.3, None), make_trace(sizes), backends={"a100": 2})

    assert fleet.slo.ttft_s == 0.3
    assert fleet.left_out == pytest.approx(0.25)
    assert fleet.traffic.trace.input_tokens.max() < 7000


def test_assigned_pools_keep_the_shares_of_every_bucket():
    """Among the requests of one bucket every pool has its share, to one request."""
    fleet = fix_fleet(DEMO, make_trace(), backends={"a10g": 3, "a100": 1}, requests=400)
    sample = fleet.traffic.draw(1)
    grid = fleet.plan.buckets.grid
    buckets = np.array([grid.cell(int(i), int(o)) for i, o, _ in sample.estimated])

    pools = assign_pools(fleet.plan, fleet.pools, sample)

    for bucket in np.unique(buckets).tolist():
        counts = np.bincount(pools[buckets == bucket], minlength=2)
        assert counts == pytest.approx(counts.sum() * np.array(fleet.plan.weights[bucket]), abs=1.0)


def test_every_policy_meets_the_same_draws_and_random_is_the_measure():
    """Loads by seed, the same twice; random over random is one; our router does better."""
    fleet = fix_fleet(
        with_targets(DEMO, 0.3, None), make_trace(), backends={"a100": 4}, requests=400
    )

    loads = usable_loads(fleet, ["cuvee", "random"], seeds=2)

    ours, chance = loads
    assert usable_loads(fleet, ["random"], seeds=1)[0].load == chance.load[:1]
    assert chance.ratio == (1.0, 1.0)
    assert ours.ratio == tuple(a / b for a, b in zip(ours.load, chance.load, strict=True))
    assert min(ours.load) > max(chance.load) > 0


def test_across_a_fleet_a_policy_is_blind_to_the_shares():
    """Random among all backends overloads the slow GPUs that the shares would have spared."""
    fleet = fix_fleet(DEMO, make_trace(), backends={"a10g": 2, "h100": 2}, requests=200)

    [within] = usable_loads(fleet, ["random"], seeds=1)
    [across] = usable_loads(fleet, ["random"], seeds=1, across=True)

    assert across.load[0] < within.load[0]


def test_a_promise_beyond_the_fleet_leaves_no_ratio():
    """Where random keeps the promise at no load there is nothing to divide by."""
    fleet = fix_fleet(DEMO, make_trace(), backends={"a100": 1}, requests=40)
    slow = replace(fleet, plan=replace(fleet.plan, buckets=with_targets(DEMO, 1e-3, None).buckets))

    [row] = usable_loads(slow, ["random"], seeds=1)

    assert (row.load, row.ratio) == ((0.0,), (None,))
