"""`cuvee dispatch`: tables and JSON of usable loads, one clear line for what cannot be."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from cuvee.dispatch import dispatch

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
SIZES = [(300, 100), (900, 220), (1800, 40), (120, 300)]


def run(*arguments: str):
    return CliRunner().invoke(dispatch, arguments)


def write_inputs(tmp_path: Path) -> tuple[str, ...]:
    path = tmp_path / "trace.csv"
    rows = (f"{n / 4},{i},{o}" for n, (i, o) in enumerate(SIZES * 20))
    path.write_text("arrival_s,input_tokens,output_tokens\n" + "\n".join(rows) + "\n")
    return "--config", str(CONFIGS / "demo.yaml"), "--trace", str(path)


def test_the_command_prints_a_table_and_json(tmp_path: Path):
    """One row per policy; JSON has the loads of every seed and what they are relative to."""
    fast = "--fleet", "a100=2", "--requests", "50", "--seeds", "2"

    table = run(*write_inputs(tmp_path), *fast, "--policy", "least-request")
    assert table.exit_code == 0, table.output
    assert "least-request" in table.output
    assert "fluid capacity" in table.output
    result = run(*write_inputs(tmp_path), "--rate", "8", *fast[2:], "--json")
    assert result.exit_code == 0, result.output
    body = json.loads(result.stdout)
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
    result = run(*write_inputs(tmp_path), *arguments)

    assert result.exit_code != 0
    assert message in " ".join(result.output.split())


def test_without_its_files_it_says_what_it_needs():
    """A configuration and a trace are needed."""
    assert "Missing option '--trace'" in run("--config", "x.yaml").output
