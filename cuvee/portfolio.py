"""The subcommand `portfolio`: options in, a table or JSON of what to buy out."""

import json
from dataclasses import replace
from pathlib import Path

import click
from rich.console import Console

from cuvee.options import CONFIG, FILE, JSON, MODEL, TRACE, configured
from cuvee.progress import Work
from cuvee.terminal import show_portfolio
from gateway.rehearsal.history import demand_of
from gateway.routing.estimator import Estimator
from planner.costs.portfolio import buy_portfolio, read_hourly_rates
from planner.costs.report import portfolio_json
from planner.errors import PlannerError
from planner.traffic.trace import read_trace


@click.command()
@CONFIG
@TRACE
@click.option(
    "--history",
    required=True,
    type=FILE,
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
    trace_path: Path,
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
    loaded = configured(path).to_rent()
    # A loaded pool is bounded by the backends that run; this question is what to buy.
    sections = loaded.config.pools
    pools = tuple(
        replace(pool, max_backends=sections[pool.name].max_backends)
        if pool.name in sections
        else pool
        for pool in loaded.pools
    )
    try:
        trace = read_trace(trace_path, model=model or next(iter(loaded.config.models)))
        demand = demand_of(trace, loaded, estimator=Estimator(), model=model)
        with Work("solving for all hours together"):
            portfolio = buy_portfolio(
                demand,
                pools,
                read_hourly_rates(history) * scale,
                discount=discount,
                spot=dict(_spot_price(text) for text in spot),
                spot_share=spot_share,
            )
    except (PlannerError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        click.echo(json.dumps(portfolio_json(portfolio), indent=1))
    else:
        show_portfolio(portfolio, Console())


def _spot_price(text: str) -> tuple[str, float]:
    """GPU and price of `GPU=USD`. Raises BadParameter."""
    gpu, equals, usd = text.partition("=")
    try:
        if equals:
            return gpu, float(usd)
    except ValueError:
        pass
    raise click.BadParameter(f"must be GPU=USD: {text}", param_hint="--spot")
