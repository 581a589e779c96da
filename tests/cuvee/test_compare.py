"""`cuvee compare` and `cuvee sweep`: all fleets meet the same demand; tables show the outcome."""

import json
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner

from cuvee.compare import PAPER, compare, paper_tables
from cuvee.sweep import sweep
from gateway.config.load import load
from loadtest.compare.comparison import (
    AIBRIX,
    HYBRID,
    MELANGE,
    REFINED,
    UNREFINED,
    ComparedFleet,
    build_case,
    compare_fleets,
    planned_costs,
    played_attainment,
)
from loadtest.compare.paper import solve_paper
from planner.traffic.trace import Trace

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
DEMO = load(CONFIGS / "demo.yaml")
WORKLOAD = CONFIGS / "workloads" / "azure-2023-history.csv"
SIZES = [(300, 100), (900, 220), (1800, 40), (120, 300)]


def make_trace(rate: float = 4.0, count: int = 200) -> Trace:
    inputs, outputs = np.array(SIZES * (count // len(SIZES)), dtype=float).T
    return Trace(
        arrival_s=np.arange(count) / rate,
        input_tokens=inputs,
        output_tokens=outputs,
        key=("",) * count,
    )


def make_case(rate: float | None = 4.0, tpot_s: float | None = None):
    return build_case(DEMO, make_trace(), rate=rate, process="poisson", requests=150, tpot_s=tpot_s)


def costs_of(fleets: list[ComparedFleet]) -> dict[str, float]:
    """$/h by name, of the fleets that serve all of the demand."""
    return {fleet.name: fleet.usd_per_hour for fleet in fleets if fleet.usd_per_hour is not None}


def run(command: click.Command, *arguments: str):
    return CliRunner().invoke(command, arguments)


def write_inputs(tmp_path: Path) -> tuple[str, ...]:
    path = tmp_path / "trace.csv"
    rows = (f"{n / 4},{i},{o}" for n, (i, o) in enumerate(SIZES * 20))
    path.write_text("arrival_s,input_tokens,output_tokens\n" + "\n".join(rows) + "\n")
    return "--config", str(CONFIGS / "demo.yaml"), "--trace", str(path)


@pytest.fixture(scope="module")
def fleets() -> list[ComparedFleet]:
    """One comparison at 4 requests/s, two seeds."""
    return compare_fleets(make_case(), seeds=2)


def test_a_damaged_instance_is_one_line(tmp_path, monkeypatch):
    """`--paper` reads a file like any other: what is wrong with it is no traceback."""
    path = tmp_path / "arena.yaml"
    path.write_text("format: [\n")
    monkeypatch.setattr("cuvee.compare.PAPER", path)

    result = run(compare, "--paper")

    assert result.exit_code == 1
    assert result.output.startswith(f"Error: {path}:")
    assert len(result.output.splitlines()) == 1


def test_every_fleet_serves_the_same_demand_and_is_played(fleets: list[ComparedFleet]):
    """Both baselines, all types that can, and both of ours have a price and an attainment."""
    entries = {entry.name: entry for entry in fleets}

    assert {MELANGE, HYBRID, AIBRIX, UNREFINED, REFINED, "H100 only"} <= set(entries)
    usd = {pool.name: pool.usd_per_hour for pool in DEMO.pools}
    for entry in entries.values():
        assert entry.usd_per_hour == pytest.approx(sum(usd[n] * c for n, c in entry.backends))
        assert entry.attainment is not None
        assert entry.attainment.low <= entry.attainment.mean <= entry.attainment.high
        assert entry.attainment.worst <= entry.attainment.mean
    assert entries[HYBRID].backends == entries[MELANGE].backends
    costs = costs_of(fleets)
    assert costs[REFINED] <= costs["H100 only"] + 1e-9
    assert costs[AIBRIX] >= costs[MELANGE] - 1e-9


def test_a_comparison_gives_the_same_twice(fleets: list[ComparedFleet]):
    """Chance is a seed: the same demand brings the same table."""
    assert compare_fleets(make_case(), seeds=2) == fleets


def test_melange_plans_from_true_sizes_in_its_own_ranges():
    """Its histogram is that of the trace, scaled to the rate, whatever our buckets are."""
    instance = make_case(rate=8.0).melange_instance

    assert instance.rate.sum() == pytest.approx(8.0)
    assert sorted(instance.rate[instance.rate > 0].tolist()) == [2.0] * 4
    assert instance.gpus == ("a10g", "a100", "h100")


def test_counts_are_not_bounded_by_the_urls_configured():
    """The question is what to rent: a demo with four backends a pool does not cap a baseline."""
    [plain] = [entry for entry in planned_costs(make_case(rate=240.0)) if entry.name == UNREFINED]

    assert plain.note is None
    assert max(count for _, count in plain.backends) > 4


def test_a_stricter_promise_costs_no_less():
    """The TPOT given replaces the configured one for every fleet.

    AIBrix is left out: rounding every type by itself makes its cost jump either way.
    """
    loose = costs_of(planned_costs(make_case(100.0, tpot_s=0.12)))
    tight = costs_of(planned_costs(make_case(100.0, tpot_s=0.05)))

    names = (MELANGE, UNREFINED, "A10G only", "A100-80G only", "H100 only")
    assert all(tight[name] >= loose[name] - 1e-9 for name in names)
    assert any(tight[name] > loose[name] for name in names)


def test_a_baseline_that_cannot_plan_says_why():
    """A corner that no GPU holds leaves Mélange and AIBrix without an answer, with the reason."""
    entries = {entry.name: entry for entry in planned_costs(make_case(tpot_s=0.005))}

    for name in (MELANGE, AIBRIX):
        assert entries[name].usd_per_hour is None
        note = entries[name].note
        assert note is not None
        assert "no GPU serves the upper corner" in note


def test_intervals_are_over_seeds():
    """Student's t at 95 %: two seeds at 0.98 and 1.0 leave a wide interval."""
    played = played_attainment(lambda seed: 0.98 if seed % 2 else 1.0, 2)

    assert played.mean == pytest.approx(0.99)
    assert played.worst == 0.98
    assert played.low == pytest.approx(0.99 - 12.706 * 0.01)
    assert played.high == 1.0


def test_the_paper_prints_counts_costs_and_times():
    """`--paper` needs nothing: six rates, both formulations, never above Mélange's cost."""
    rows = solve_paper(PAPER, runs=1)

    assert [row.rate for row in rows] == [1, 2, 4, 8, 16, 32]
    assert [round(row.melange_usd, 2) for row in rows] == [1.71, 2.72, 4.37, 8.35, 16.06, 31.75]
    assert all(row.optimum_usd <= row.melange_usd + 1e-9 and row.gap <= 1e-3 for row in rows)
    assert [table.row_count for table in paper_tables(rows)] == [6] * 3


@pytest.mark.long
def test_the_paper_s_six_tables_stand_beside_ours():
    """Six rates each, with the paper's saving beside ours, and where the throughputs are from."""
    result = run(compare, "--paper")

    assert result.exit_code == 0
    for number in range(3, 9):
        assert f"Table {number}: " in result.output
    assert "throughputs: published" in result.output
    assert "throughputs: analytic profiles" in result.output
    assert "19% (19%)" in result.output


@pytest.mark.long
def test_compare_prints_json(tmp_path: Path):
    """Every entry by its fields, for programs."""
    result = run(compare, *write_inputs(tmp_path), "--requests", "100", "--seeds", "2", "--json")

    assert result.exit_code == 0, result.output
    assert {MELANGE, AIBRIX, REFINED} <= {entry["name"] for entry in json.loads(result.stdout)}


def test_sweep_prints_one_row_per_rate_and_promise(tmp_path: Path):
    """Two rates and two targets are four rows with the cost of every fleet."""
    result = run(sweep, *write_inputs(tmp_path), "--rates", "4,8", "--tpot", "0.08,0.12", "--json")

    assert result.exit_code == 0, result.output
    points = json.loads(result.stdout)
    assert [(p["tpot_s"], p["requests_per_s"]) for p in points] == [
        (0.08, 4), (0.08, 8), (0.12, 4), (0.12, 8),
    ]  # fmt: skip
    table = run(sweep, *write_inputs(tmp_path), "--rates", "4")
    assert table.exit_code == 0
    assert "$/h by rate and TPOT" in table.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--rates", "4,x"), "not numbers with commas"),
        (("--rates", "0"), "positive and finite"),
        (("--rates", "4", "--tpot", "nan"), "positive and finite"),
    ],
)
def test_sweep_refuses_what_is_no_list_of_numbers(
    tmp_path: Path, arguments: tuple[str, ...], message: str
):
    """One clear line that names the option."""
    result = run(sweep, *write_inputs(tmp_path), *arguments)

    assert result.exit_code == 2
    assert message in result.output


@pytest.mark.parametrize("arguments", [(), ("--trace", "missing.csv")])
def test_compare_without_its_files_says_what_it_needs(arguments: tuple[str, ...]):
    """Without --paper a configuration and a trace are needed."""
    result = run(compare, *arguments)

    assert result.exit_code == 2
    assert "--config and --trace are needed" in result.output


def test_a_trace_that_cannot_be_read_is_named(tmp_path: Path):
    """A missing file is one line, not a traceback."""
    result = run(
        compare, "--config", str(CONFIGS / "demo.yaml"), "--trace", str(tmp_path / "no.csv")
    )

    assert result.exit_code == 1
    assert "no.csv: cannot be read" in result.output
