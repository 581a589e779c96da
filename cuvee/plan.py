"""The subcommand `plan`."""

import json
from collections.abc import Mapping
from pathlib import Path

import click
import numpy as np
from rich.console import Console

from cuvee import pictures
from cuvee.options import CONFIG, JSON, MODEL, TRACE, configured
from cuvee.terminal import show
from gateway.config.load import Loaded
from gateway.rehearsal.history import believed, demand_of
from gateway.routing.lengths import OutputLengths
from planner.costs import curves, prices
from planner.costs.explain import Explanation, SentRequests, explain, with_single_types
from planner.costs.report import plan_json
from planner.costs.whatif import alternative
from planner.errors import PlannerError
from planner.model.demand import Demand
from planner.model.plan import Plan
from planner.model.pool import Pool
from planner.program import solve
from planner.traffic.trace import Trace, read_trace

CURVE_RATES = tuple(2.0**octave for octave in range(-3, 4))  # times the demand's own rate
CURVE_TPOTS = (0.5, 0.625, 0.75, 1.0, 1.25, 1.5, 2.0)  # times the promised target


@click.command()
@CONFIG
@TRACE
@click.option("--rate", type=float, help="Requests/s to scale the trace to; default: its own rate.")
@MODEL
@click.option(
    "--what-if",
    "changes",
    multiple=True,
    metavar="CHANGE",
    help="Plan again under a change: tpot_s=0.06, ttft_s=1, attainment=0.999, rate=40, "
    "price.H100=5, without=A10G, with=L4 or with=L4:0.80 ($/h); joined by commas if together. "
    "May be repeated.",
)
@click.option("--explain", "whole", is_flag=True, help="Print every bucket and the bill by key.")
@click.option("--plot", type=click.Path(path_type=Path), help="Draw the plan to this PNG or SVG.")
@JSON
def plan(
    path: Path,
    trace_path: Path,
    rate: float | None,
    model: str | None,
    changes: tuple[str, ...],
    whole: bool,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Find the cheapest fleet for a workload.

    Prints the backends per pool, the share of each request size that each pool serves, why it costs
    what it does, and what the same demand costs on every single GPU type. Sizes are bucketed as the
    gateway's router would have believed them at arrival; loads are those of the actual sizes.
    """
    loaded = configured(path)
    try:
        requests = read_trace(trace_path)
        lengths = OutputLengths()
        demand = demand_of(requests, loaded, lengths=lengths, model=model)
        sent = sent_by(requests, loaded, lengths, model)
        if rate is not None:
            demand = demand.scaled_to(rate)
        found = with_single_types(
            solve.provision(demand, loaded.pools, loaded.limits), demand, loaded.pools
        )
        why = explain(found, demand, loaded.pools, sent=sent, limits=loaded.limits)
        usd = _prices(path, loaded)
        others = [alternative(c, demand, loaded.pools, usd=usd) for c in changes]
        if plot is not None:
            _draw(found, why, demand, loaded.pools, plot)
    except (PlannerError, pictures.NoPicture, OSError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        click.echo(json.dumps(plan_json(found, why, others), indent=1))
    else:
        show(found, why, others, Console(), whole=whole)


def sent_by(
    trace: Trace, loaded: Loaded, lengths: OutputLengths, model: str | None
) -> SentRequests:
    """Who sent what, with the buckets of `demand_of` after it has taught the lengths."""
    model = model or next(iter(loaded.config.models))
    return SentRequests(
        bucket=believed(trace, loaded, lengths, model),
        input_tokens=trace.input_tokens,
        output_tokens=np.maximum(trace.output_tokens, 1.0),
        key=trace.key,
    )


def _prices(path: Path, loaded: Loaded) -> Mapping[str, float]:
    file = loaded.config.prices
    return {} if file is None else prices.read_prices(path.parent / file)


def _draw(found: Plan, why: Explanation, demand: Demand, pools: tuple[Pool, ...], to: Path) -> None:
    rates = tuple(demand.total_rate * times for times in CURVE_RATES)
    tpot_s = demand.buckets.classes[0].slo.tpot_s
    pictures.draw(
        found,
        why,
        to,
        over_rate=curves.over_rate(demand, pools, rates),
        over_tpot=curves.over_tpot(demand, pools, tuple(tpot_s * t for t in CURVE_TPOTS)),
    )
