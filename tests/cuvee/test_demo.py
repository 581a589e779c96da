"""The demo on a small scale: real processes, a handful of requests."""

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from rich.console import Console

from cuvee import pictures
from cuvee.demo import CONFIGS, closing, demo, run_demo
from gateway.errors import ConfigError
from loadtest.demo.fleet import LocalFleet
from planner.traffic.trace import Trace

TRACE = Trace(
    arrival_s=np.arange(12, dtype=float) * 0.05,
    input_tokens=np.full(12, 100.0),
    output_tokens=np.full(12, 3.0),
    key=("conv",) * 12,
)


@pytest.mark.long
async def test_the_loop_runs_and_can_be_drawn(tmp_path: Path):
    """Backends, gateway and replay in three processes: nothing fails, and the plan is a picture."""
    console = Console(file=(tmp_path / "out").open("w"))
    result = await run_demo(CONFIGS / "demo.yaml", TRACE, console, tmp_path / "log")
    console.file.close()
    pictures.draw_demo(result, tmp_path / "demo.png")

    assert (result.requests, result.failed) == (12, 0)
    assert sum(period.requests for period in result.pools) == 12
    assert {s.plan for s in result.slices} == {result.plans[0].name}
    assert [len(lane.requests) for lane in result.lanes] == [12, 12, 12]
    assert "12 requests, 0 failed" in "\n".join(closing(result))
    assert len(closing(result)) <= 6
    assert (tmp_path / "demo.png").read_bytes().startswith(b"\x89PNG")
    assert "listening" in (tmp_path / "log").read_text()


async def test_a_local_fleet_needs_a_good_configuration(tmp_path: Path):
    """A mistake is reported before any process is started."""
    path = tmp_path / "bad.yaml"
    path.write_text("models: {}\npools: {}\n")

    with pytest.raises(ConfigError):
        LocalFleet(path)


def test_a_missing_trace_is_one_clear_line(tmp_path: Path):
    """Not a traceback."""
    result = CliRunner().invoke(demo, ["--trace", str(tmp_path / "nothing.csv")])

    assert result.exit_code == 1
    assert "nothing.csv: cannot be read" in result.output
