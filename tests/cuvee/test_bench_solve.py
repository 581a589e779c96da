"""`cuvee bench-solve`: its table."""

from click.testing import CliRunner

from cuvee.bench_solve import bench_solve
from loadtest.compare.solve_cases import CASES


def test_the_command_prints_a_line_per_problem():
    """Times, gap, GPUs and dollars of each that was asked for."""
    smallest = next(iter(CASES))

    done = CliRunner().invoke(bench_solve, ["--runs", "1", "--only", smallest])

    assert done.exit_code == 0
    assert smallest in done.output
    assert sum("req" in line or "/s" in line for line in done.output.splitlines()) == 1
