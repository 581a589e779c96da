"""What is seen while the demo runs: every lane with its dollars and what it kept."""

import io
from pathlib import Path

import numpy as np
from rich.console import Console

from cuvee.demo_progress import DemoProgress
from gateway.config.load import load
from loadtest.demo.race import Race
from loadtest.demo.summary import PlanSeen
from loadtest.replay.record import Record
from planner.slo import Slo
from planner.traffic.trace import Trace

CONFIG = Path(__file__).resolve().parents[2] / "configs" / "demo.yaml"
TRACE = Trace(
    arrival_s=np.arange(40, dtype=float),
    input_tokens=np.full(40, 200.0),
    output_tokens=np.full(40, 5.0),
    key=("conv",) * 20 + ("code",) * 20,
)
BODY = {
    "plan_id": "p1",
    "backends": {"a10g": 1, "a100": 1, "h100": 0},
    "usd_per_hour": 3.6,
    "certificate": None,
    "single_types": {
        "A100-80G": {
            "feasible": True, "certified": False, "usd_per_hour": 7.2, "backends": {"a100": 2},
        },
    },
}  # fmt: skip


def progress_at_ten() -> tuple[DemoProgress, io.StringIO]:
    """Ten seconds into a run, after one request of the gateway that was too slow."""
    loaded, screen = load(CONFIG), io.StringIO()
    race = Race(loaded, TRACE)
    progress = DemoProgress(
        Console(file=screen, width=80),
        Slo(ttft_s=2.0, tpot_s=0.12),
        TRACE,
        race,
        {pool.name: pool.gpu for pool in loaded.pools},
        20.0,
    )
    progress.on_plan(PlanSeen(at_s=0.0, body=BODY))
    race.on_plan(BODY, 0.0)
    progress.on_record(
        Record(
            index=0, arrival_s=0.0, sent_s=0.0, e2e_s=4.0, input_tokens=5, output_tokens=5,
            ttft_s=3.0, tpot_s=0.01,
        )
    )  # fmt: skip
    return progress, screen


def test_a_line_has_every_lane():
    """The gateway's own figures are measured, those of the others come from the play."""
    progress, screen = progress_at_ten()

    line = progress.line(10.0)

    assert "1 A10G, 1 A100-80G, $3.60/h: safe at once" in screen.getvalue()
    assert "1 req/s, 100% conv: 1 of 40 done, 0 failed" in line
    assert "Cuvée $3.60/h 0.0%" in line
    assert "A100-80G only $7.20/h 100.0%" in line
    assert "round robin $3.60/h" in line
    assert "100% code" in progress.line(30.0)


def test_the_panel_fits_a_terminal_and_counts_dollars():
    """80 columns; ten seconds of $7.20/h are two cents."""
    progress, screen = progress_at_ten()

    progress.console.print(progress.panel(10.0))

    assert "$0.020" in screen.getvalue()
    assert "…" not in screen.getvalue()
