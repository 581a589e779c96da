"""`cuvee dispatch`: one plan, policies swapped; the largest load that each carries."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from gateway.config import load
from loadtest.dispatch import STEP, dispatch, edge, fixed, promised, turns, usable
from planner.workload import Trace

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
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


def run(*arguments: str):
    return CliRunner().invoke(dispatch, arguments)


def given(tmp_path: Path) -> tuple[str, ...]:
    path = tmp_path / "trace.csv"
    rows = (f"{n / 4},{i},{o}" for n, (i, o) in enumerate(SIZES * 20))
    path.write_text("arrival_s,input_tokens,output_tokens\n" + "\n".join(rows) + "\n")
    return "--config", str(CONFIGS / "demo.yaml"), "--trace", str(path)


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
    grid = one.plan.space.grid
    buckets = np.array([grid.cell(int(i), int(o)) for i, o, _ in drawn.believed])

    pools = turns(one.plan, one.pools, drawn)

    for bucket in np.unique(buckets).tolist():
        mine = np.bincount(pools[buckets == bucket], minlength=2)
        assert mine == pytest.approx(mine.sum() * np.array(one.plan.weights[bucket]), abs=1.0)


def test_every_policy_meets_the_same_draws_and_random_is_the_measure():
    """Loads by seed, the same twice; random over random is one; a policy that looks does better."""
    one = fixed(DEMO, made(), fleet={"a100": 4}, requests=800)

    found = usable(one, ["cuvee", "random"], seeds=2)

    assert found == usable(one, ["cuvee", "random"], seeds=2)
    ours, chance = found
    assert chance.ratio == (1.0, 1.0)
    assert ours.ratio == tuple(a / b for a, b in zip(ours.load, chance.load, strict=True))
    assert min(ours.load) > max(chance.load) > 0


def test_across_a_fleet_a_policy_is_blind_to_the_shares():
    """Random among all backends overloads the slow GPUs that the shares would have spared."""
    one = fixed(DEMO, made(), fleet={"a10g": 2, "h100": 2}, requests=600)

    [within] = usable(one, ["random"], seeds=1)
    [across] = usable(one, ["random"], seeds=1, across=True)

    assert across.load[0] < within.load[0]


def test_a_promise_beyond_the_fleet_leaves_no_ratio():
    """Where random keeps the promise at no load there is nothing to divide by."""
    one = fixed(DEMO, made(), fleet={"a100": 1}, requests=40)
    slow = replace(one, plan=replace(one.plan, space=promised(DEMO, 1e-3, None).space))

    [row] = usable(slow, ["random"], seeds=1)

    assert (row.load, row.ratio) == ((0.0,), (None,))


def test_the_command_prints_a_table_and_json(tmp_path: Path):
    """One row per policy; JSON has the loads of every seed and what they are relative to."""
    fast = "--fleet", "a100=2", "--requests", "100", "--seeds", "2"

    table = run(*given(tmp_path), *fast, "--policy", "least-request")
    assert table.exit_code == 0, table.output
    assert "least-request" in table.output
    assert "fluid capacity" in table.output
    result = run(*given(tmp_path), "--rate", "8", *fast[2:], "--json")
    assert result.exit_code == 0, result.output
    body = json.loads(result.output)
    assert body["capacity_requests_per_s"] >= 8
    assert {"cuvee", "random", "melange"} <= {row["policy"] for row in body["policies"]}
    assert all(len(row["usable_load"]) == 2 for row in body["policies"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--fleet", "a100"), "not POOL=COUNT"),
        (("--fleet", "a100=0"), "at least one backend"),
        (("--fleet", "b200=1"), "the pools of llama-3-8b are"),
        (("--ttft", "0.000001"), "no pool can keep the promise"),
    ],
)
def test_a_fleet_or_promise_that_cannot_be_is_refused(
    tmp_path: Path, arguments: tuple[str, ...], message: str
):
    """One line that says what is wrong."""
    result = run(*given(tmp_path), *arguments)

    assert result.exit_code != 0
    assert message in " ".join(result.output.split())


def test_without_its_files_it_says_what_it_needs():
    """A configuration and a trace are needed."""
    assert "--config and --trace are needed" in run().output
