"""One plan, policies swapped: the largest load that each carries."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gateway.config.load import load
from loadtest.compare.dispatch import STEP, edge, fixed, promised, turns, usable
from planner.traffic.trace import Trace

CONFIGS = Path(__file__).resolve().parents[3] / "configs"
DEMO = load(CONFIGS / "demo.yaml")
SIZES = [(300, 100), (900, 220), (1800, 40), (120, 300)]


def made(sizes=SIZES, count: int = 200) -> Trace:
    inputs, outputs = np.array(sizes * (count // len(sizes)), dtype=float).T
    return Trace(
        arrival_s=np.arange(len(inputs)) / 4,
        input_tokens=inputs,
        output_tokens=outputs,
        key=("",) * len(inputs),
    )


@pytest.mark.parametrize(("true_edge", "found"), [(0.0, 0.0), (0.7334, 0.73), (9.0, 255 * STEP)])
def test_the_edge_is_found_to_a_step(true_edge: float, found: float):
    """The largest load that attains the target, never one that does not, within the range."""
    assert edge(lambda load: 1.0 if load <= true_edge else 0.5, 0.99) == pytest.approx(found)


def test_capacity_is_where_the_fullest_pool_has_a_mean_load_of_one():
    """A plan's shares at the fluid capacity fill the fullest pool exactly, whatever the rate."""
    plans = [fixed(DEMO, made(), rate=rate) for rate in (10.0, 40.0)]
    given_fleet = fixed(DEMO, made(), fleet={"a10g": 2, "a100": 1})

    for one in (*plans, given_fleet):
        scale = one.capacity / sum(one.plan.rate)
        used = [m * scale / y for m, y in zip(one.plan.load, one.plan.backends, strict=True) if y]
        assert max(used) == pytest.approx(1.0)
    assert given_fleet.plan.backends == (2, 1)
    assert fixed(DEMO, made(), fleet={"a100": 8}).capacity == pytest.approx(
        2 * fixed(DEMO, made(), fleet={"a100": 4}).capacity
    )


def test_what_no_pool_can_promise_is_left_out():
    """A prompt too long for the TTFT is not played, and its share is told."""
    sizes = [*SIZES[:3], (7000, 50)]

    one = fixed(promised(DEMO, 0.3, None), made(sizes), fleet={"a100": 2})

    assert one.slo.ttft_s == 0.3
    assert one.left_out == pytest.approx(0.25)
    assert one.traffic.trace.input_tokens.max() < 7000


def test_turns_keep_the_shares_of_every_bucket():
    """Among the requests of one bucket every pool has its share, to one request."""
    one = fixed(DEMO, made(), fleet={"a10g": 3, "a100": 1}, requests=400)
    drawn = one.traffic.draw(1)
    grid = one.plan.buckets.grid
    buckets = np.array([grid.cell(int(i), int(o)) for i, o, _ in drawn.believed])

    pools = turns(one.plan, one.pools, drawn)

    for bucket in np.unique(buckets).tolist():
        mine = np.bincount(pools[buckets == bucket], minlength=2)
        assert mine == pytest.approx(mine.sum() * np.array(one.plan.weights[bucket]), abs=1.0)


def test_every_policy_meets_the_same_draws_and_random_is_the_measure():
    """Loads by seed, the same twice; random over random is one; our router does better."""
    one = fixed(promised(DEMO, 0.3, None), made(), fleet={"a100": 4}, requests=400)

    found = usable(one, ["cuvee", "random"], seeds=2)

    ours, chance = found
    assert usable(one, ["random"], seeds=1)[0].load == chance.load[:1]
    assert chance.ratio == (1.0, 1.0)
    assert ours.ratio == tuple(a / b for a, b in zip(ours.load, chance.load, strict=True))
    assert min(ours.load) > max(chance.load) > 0


def test_across_a_fleet_a_policy_is_blind_to_the_shares():
    """Random among all backends overloads the slow GPUs that the shares would have spared."""
    one = fixed(DEMO, made(), fleet={"a10g": 2, "h100": 2}, requests=200)

    [within] = usable(one, ["random"], seeds=1)
    [across] = usable(one, ["random"], seeds=1, across=True)

    assert across.load[0] < within.load[0]


def test_a_promise_beyond_the_fleet_leaves_no_ratio():
    """Where random keeps the promise at no load there is nothing to divide by."""
    one = fixed(DEMO, made(), fleet={"a100": 1}, requests=40)
    slow = replace(one, plan=replace(one.plan, buckets=promised(DEMO, 1e-3, None).buckets))

    [row] = usable(slow, ["random"], seeds=1)

    assert (row.load, row.ratio) == ((0.0,), (None,))
