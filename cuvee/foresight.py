"""The subcommand `foresight`: options in, a table or JSON out. Computes nothing itself."""

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
from cuvee.progress import Work
from loadtest.compare.length_accuracy import (
    Accuracy,
    PredictionCost,
    measure_accuracy,
    plan_trace,
    prediction_cost,
)
from planner.errors import PlannerError
from planner.traffic import arrivals
from planner.traffic.trace import read_trace


@click.command()
@click.option(
    "--trace",
    "trace_path",
    required=True,
    type=FILE,
    help="Trace CSV; its key column says who sent a request.",
)
@click.option(
    "--config",
    "path",
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
    trace_path: Path,
    path: Path | None,
    rate: float | None,
    refined: bool,
    no_keys: bool,
    seed: int,
    as_json: bool,
) -> None:
    """Measure how well output lengths are predicted, and what errors cost.

    Every request is predicted from those before it. An error of the length is an error of the load
    that a request is believed to bring; the 90th percentile decides where it may spill to. With
    --config the whole trace is played twice through the router of one plan for it: with true
    lengths and with learned ones.
    """
    loaded = None if path is None else configured(path)
    rng = np.random.default_rng(seed)
    try:
        model = None if loaded is None else next(iter(loaded.config.models))
        trace = read_trace(trace_path, model=model)
        cost = None
        with Work("predicting") as work:
            predictors = measure_accuracy(trace, rng=rng, keys=not no_keys)
            if loaded is not None:
                trace = trace if rate is None else arrivals.at_rate(trace, rate, rng)
                trace = replace(trace, key=("",) * len(trace)) if no_keys else trace
                work.say("planning")
                plan = plan_trace(trace, loaded, refined=refined)
                work.say("playing")
                cost = prediction_cost(trace, plan, loaded.pools)
    except PlannerError as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        click.echo(json.dumps(as_values(predictors, cost), indent=1))
    else:
        show(predictors, cost, Console())


def as_values(predictors: Sequence[Accuracy], cost: PredictionCost | None) -> dict[str, Any]:
    """The result as plain JSON values."""
    body: dict[str, Any] = {"predictors": [asdict(row) for row in predictors]}
    if cost is not None:
        body["attainment"] = {
            "backends": dict(zip(cost.plan.pools, cost.plan.backends, strict=True)),
            "usd_per_hour": cost.plan.usd_per_hour,
            "requests": cost.requests,
            "true_lengths": cost.truth,
            "learned_lengths": cost.learned,
            "points_lost": cost.points,
        }
    return body


def show(predictors: Sequence[Accuracy], cost: PredictionCost | None, console: Console) -> None:
    """Print the result for people."""
    console.print(predictors_table(predictors))
    if cost is not None:
        plan = cost.plan
        fleet = ", ".join(f"{n} {c}" for n, c in zip(plan.pools, plan.backends, strict=True) if c)
        console.print(
            f"{cost.requests} requests on {fleet} (${plan.usd_per_hour:.2f}/h): attainment "
            f"{cost.truth:.2%} with true lengths, {cost.learned:.2%} with learned ones: "
            f"{cost.points:+.2f} points lost"
        )


def predictors_table(predictors: Sequence[Accuracy]) -> Table:
    """Accuracies for people; the second row, the random draw, is the unit of errors."""
    table = Table(title="predicting output tokens", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("predictor")
    for heading in ("MAE", "× random", "within 2 ×", "bias", "P90 covers"):
        table.add_column(heading, justify="right")
    for row in predictors:
        covered = "–" if row.covered is None else f"{row.covered:.1%}"
        table.add_row(
            row.name,
            f"{row.mae:.1f}",
            f"{row.mae / predictors[1].mae:.2f}",
            f"{row.within_two:.0%}",
            f"{row.bias:.2f}",
            covered,
        )
    return table
