"""The subcommand `foresight`: options in, a table or JSON out."""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from cuvee.options import FILE, JSON, configured
from loadtest.compare.length_accuracy import Accuracy, Cost, cost, foresee, planned
from planner.errors import PlannerError
from planner.traffic import arrivals
from planner.traffic.trace import read_trace


@click.command()
@click.option(
    "--trace",
    "path",
    required=True,
    type=FILE,
    help="Trace CSV; its key column says who sent a request.",
)
@click.option(
    "--config",
    type=FILE,
    help="Also plan for the trace with this configuration (its first model), and compare the "
    "attainment with true and with learned lengths.",
)
@click.option(
    "--rate",
    type=float,
    help="With --config: requests/s of shifted copies of the trace; default: the trace as it is.",
)
@click.option(
    "--refined",
    is_flag=True,
    help="With --config: on the cheapest certified plan, which has less to spare (minutes).",
)
@click.option("--no-keys", is_flag=True, help="Hide the keys: as if everybody shared one.")
@click.option("--seed", default=0, show_default=True, help="Of the random draws.")
@JSON
def foresight(
    path: Path,
    config: Path | None,
    rate: float | None,
    refined: bool,
    no_keys: bool,
    seed: int,
    as_json: bool,
) -> None:
    """Measure how well output lengths are predicted on a trace, and what the errors cost.

    Every request is predicted from those before it. An error of the length is an error of the load
    that a request is believed to bring; the 90th percentile decides where it may spill to. With
    --config the whole trace is played twice through the router of one plan for it: with true
    lengths and with learned ones.
    """
    loaded = None if config is None else configured(config)
    rng = np.random.default_rng(seed)
    try:
        trace = read_trace(path)
        found = foresee(trace, rng=rng, keys=not no_keys)
        lost = None
        if loaded is not None:
            trace = trace if rate is None else arrivals.at_rate(trace, rate, rng)
            trace = replace(trace, key=("",) * len(trace)) if no_keys else trace
            lost = cost(trace, planned(trace, loaded, refined=refined), loaded.pools)
    except PlannerError as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        click.echo(json.dumps(as_values(found, lost), indent=1))
    else:
        show(found, lost, Console())


def as_values(found: Sequence[Accuracy], lost: Cost | None) -> dict[str, Any]:
    """The outcome as plain JSON values."""
    body: dict[str, Any] = {"predictors": [asdict(row) for row in found]}
    if lost is not None:
        body["attainment"] = {
            "backends": dict(zip(lost.plan.pools, lost.plan.backends, strict=True)),
            "usd_per_hour": lost.plan.usd_per_hour,
            "requests": lost.requests,
            "true_lengths": lost.truth,
            "learned_lengths": lost.learned,
            "points_lost": lost.points,
        }
    return body


def show(found: Sequence[Accuracy], lost: Cost | None, console: Console) -> None:
    """The outcome for people."""
    table = Table(title="predicting output tokens", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("predictor")
    for heading in ("MAE", "× random", "within 2 ×", "bias", "P90 covers"):
        table.add_column(heading, justify="right")
    for row in found:
        covered = "–" if row.covered is None else f"{row.covered:.1%}"
        table.add_row(
            row.name,
            f"{row.mae:.1f}",
            f"{row.mae / found[1].mae:.2f}",
            f"{row.within_two:.0%}",
            f"{row.bias:.2f}",
            covered,
        )
    console.print(table)
    if lost is not None:
        plan = lost.plan
        fleet = ", ".join(f"{n} {c}" for n, c in zip(plan.pools, plan.backends, strict=True) if c)
        console.print(
            f"{lost.requests} requests on {fleet} (${plan.usd_per_hour:.2f}/h): attainment "
            f"{lost.truth:.2%} with true lengths, {lost.learned:.2%} with learned ones: "
            f"{lost.points:+.2f} points lost"
        )
