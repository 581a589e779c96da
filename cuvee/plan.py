"""The subcommand `plan`: options in, tables, JSON or a picture of one plan out."""

import json
from collections.abc import Mapping
from pathlib import Path

import click
import numpy as np
from rich.console import Console

from cuvee import pictures
from cuvee.options import CONFIG, FILE, JSON, MODEL, RATE, TRACE, configured
from cuvee.terminal import show_plan
from gateway.config.load import Loaded
from gateway.rehearsal.history import TraceSource, demand_of, estimated_buckets
from gateway.routing.estimator import Estimator
from planner import shipped
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
@RATE
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
@click.option("--plot", type=FILE, help="Draw the plan to this PNG or SVG.")
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
    loaded = configured(path).to_rent()
    pools = loaded.pools
    try:
        trace, estimator = read_trace(trace_path), Estimator()
        demand = demand_of(trace, loaded, estimator=estimator, model=model)
        sent = sent_requests(trace, loaded, estimator, model)
        demand = demand if rate is None else demand.scaled_to(rate)
        plan = with_single_types(solve.provision(demand, pools, loaded.limits), demand, pools)
        explanation = explain(plan, demand, pools, sent=sent, limits=loaded.limits)
        usd = _prices(path, loaded)
        alternatives = [alternative(change, demand, pools, usd=usd) for change in changes]
        if plot is not None:
            _draw(plan, explanation, demand, pools, plot)
    except (PlannerError, pictures.NoPicture, OSError, ValueError) as error:  # see pictures.draw
        raise click.ClickException(str(error)) from error
    if as_json:
        click.echo(json.dumps(plan_json(plan, explanation, alternatives), indent=1))
    else:
        show_plan(plan, explanation, alternatives, Console(), whole=whole)


def sent_requests(
    trace: Trace, loaded: Loaded, estimator: Estimator, model: str | None
) -> SentRequests:
    """The trace's requests with their keys and buckets, for the bill by key.

    Call it after `demand_of` has taught the estimator, so that both have the same buckets.
    """
    model = model or next(iter(loaded.config.models))
    source = TraceSource(trace=trace, model=model)
    return SentRequests(
        bucket=estimated_buckets(source, loaded.buckets, estimator),
        input_tokens=trace.input_tokens,
        output_tokens=np.maximum(trace.output_tokens, 1.0),
        key=trace.key,
        cached_tokens=trace.cached_tokens,
    )


def _prices(path: Path, loaded: Loaded) -> Mapping[str, float]:
    """Prices of GPU types, for `--what-if with=GPU`; the configuration names the file."""
    file = loaded.config.prices
    if file is None:
        return {}
    return prices.read_prices(shipped.located(file, path.parent, "prices"))


def _draw(
    plan: Plan, explanation: Explanation, demand: Demand, pools: tuple[Pool, ...], to: Path
) -> None:
    rates = tuple(demand.total_rate * times for times in CURVE_RATES)
    tpot_s = demand.buckets.classes[0].slo.tpot_s
    pictures.draw(
        plan,
        explanation,
        to,
        over_rate=curves.over_rate(demand, pools, rates),
        over_tpot=curves.over_tpot(demand, pools, tuple(tpot_s * t for t in CURVE_TPOTS)),
    )
