"""`cuvee bench-solve`: its table."""

import re

from click.testing import CliRunner

from cuvee.bench_solve import bench_solve
from gateway.runtime import data_path
from loadtest.compare.solve_cases import CASES


def test_the_command_prints_a_line_per_problem():
    """Times, gap, GPUs and dollars of each that was asked for."""
    smallest = next(iter(CASES))

    done = CliRunner().invoke(bench_solve, ["--runs", "1", "--only", smallest])

    assert done.exit_code == 0
    assert smallest in done.output
    assert sum("req" in line or "/s" in line for line in done.stdout.splitlines()) == 1


def test_a_play_says_how_fast_and_on_what_it_ran():
    """Requests per CPU second of plays, the fleet, and whether the simulator is compiled."""
    done = CliRunner().invoke(bench_solve, ["--runs", "2", "--play", "1000"])

    assert done.exit_code == 0
    found = re.match(
        r"([\d,]+) requests per CPU second, .* in 2 plays; (\d+) backends", done.output
    )
    assert found is not None
    assert int(found[1].replace(",", "")) > 0
    assert int(found[2]) > 0
    assert data_path() in done.output
