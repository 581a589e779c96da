"""The subcommands `plan` and `portfolio`."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
from rich.console import Console

from gateway import pictures
from gateway.config import Loaded
from gateway.history import believed, demand_of
from gateway.routing.lengths import Lengths
from gateway.serve_command import CONFIG, configured
from gateway.terminal import show, show_portfolio
from planner import curves, prices, solve, workload
from planner.errors import PlannerError
from planner.explain import Explanation, Sent, explain, explained
from planner.model import Demand, Plan, Pool
from planner.portfolio import buy, read_history
from planner.report import plan_json, portfolio_json
from planner.whatif import alternative
from planner.workload import Trace

TRACE = click.option(
    "--trace", required=True, type=click.Path(path_type=Path), help="Trace CSV to plan for."
)
MODEL = click.option(
    "--model", help="Model that the trace's requests are for; default: the first configured."
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
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
    trace: Path,
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
        requests = workload.read(trace)
        lengths = Lengths()
        demand = demand_of(requests, loaded, lengths=lengths, model=model)
        sent = sent_by(requests, loaded, lengths, model)
        if rate is not None:
            demand = demand.scaled_to(rate)
        found = explained(
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


@click.command()
@CONFIG
@TRACE
@click.option(
    "--history",
    required=True,
    type=click.Path(path_type=Path),
    help="CSV of the rate over time, t_s,requests_per_s: days or weeks of it. The trace says which "
    "sizes the requests have.",
)
@click.option("--scale", type=float, default=1.0, show_default=True, help="Multiplies every rate.")
@click.option(
    "--discount",
    type=float,
    default=0.4,
    show_default=True,
    help="What a commitment takes off the on-demand price.",
)
@click.option(
    "--spot",
    multiple=True,
    metavar="GPU=USD",
    help="Spot price per GPU-hour of a type. May be repeated; default: no spot.",
)
@click.option(
    "--spot-share",
    type=float,
    default=0.5,
    show_default=True,
    help="Largest share of a type's GPUs in any hour that may be spot.",
)
@MODEL
@JSON
def portfolio(
    path: Path,
    trace: Path,
    history: Path,
    scale: float,
    discount: float,
    spot: tuple[str, ...],
    spot_share: float,
    model: str | None,
    as_json: bool,
) -> None:
    """Decide what to commit to.

    Plans every hour of a demand history and prints how many GPUs of each type to commit to, what is
    rented by the hour beside them, and what that saves. An hour is planned at its highest rate.
    A pool's max_backends bounds its fleets only if the configuration says it: GPUs that do not run
    yet can be bought too.
    """
    loaded = configured(path)
    pools = tuple(
        replace(pool, max_backends=loaded.config.pools[pool.name].max_backends)
        for pool in loaded.pools
    )
    try:
        demand = demand_of(workload.read(trace), loaded, lengths=Lengths(), model=model)
        found = buy(
            demand,
            pools,
            read_history(history) * scale,
            discount=discount,
            spot=dict(_spot(text) for text in spot),
            spot_share=spot_share,
        )
    except (PlannerError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        click.echo(json.dumps(portfolio_json(found), indent=1))
    else:
        show_portfolio(found, Console())


def sent_by(trace: Trace, loaded: Loaded, lengths: Lengths, model: str | None) -> Sent:
    """Who sent what, with the buckets of `demand_of` after it has taught the lengths."""
    model = model or next(iter(loaded.config.models))
    return Sent(
        bucket=believed(trace, loaded, lengths, model),
        input_tokens=trace.input_tokens,
        output_tokens=np.maximum(trace.output_tokens, 1.0),
        key=trace.key,
    )


def _prices(path: Path, loaded: Loaded) -> Mapping[str, float]:
    file = loaded.config.prices
    return {} if file is None else prices.read(path.parent / file)


def _spot(text: str) -> tuple[str, float]:
    gpu, equals, usd = text.partition("=")
    try:
        if equals:
            return gpu, float(usd)
    except ValueError:
        pass
    raise click.BadParameter(f"must be GPU=USD: {text}", param_hint="--spot")


def _draw(found: Plan, why: Explanation, demand: Demand, pools: tuple[Pool, ...], to: Path) -> None:
    rates = tuple(demand.total_rate * times for times in CURVE_RATES)
    tpot_s = demand.space.classes[0].slo.tpot_s
    pictures.draw(
        found,
        why,
        to,
        over_rate=curves.over_rate(demand, pools, rates),
        over_tpot=curves.over_tpot(demand, pools, tuple(tpot_s * t for t in CURVE_TPOTS)),
    )
