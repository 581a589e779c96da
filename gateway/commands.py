"""The subcommands `serve`, `check` and `plan`."""

import asyncio
import json
import logging
import signal
import sys
from pathlib import Path

import click
import uvloop
from rich.console import Console
from rich.table import Table

from gateway.app import App
from gateway.config import Loaded, load
from gateway.errors import ConfigError
from gateway.history import demand_of
from gateway.routing.lengths import Lengths
from planner import solve, workload
from planner.errors import PlannerError
from planner.explain import explained
from planner.model import Plan
from planner.report import plan_json

CONFIG = click.option(
    "--config", "path", required=True, type=click.Path(path_type=Path), help="Configuration file."
)


def configured(path: Path) -> Loaded:
    """Loads a configuration; prints one line per problem and exits with 2 if it cannot be used."""
    try:
        return load(path)
    except ConfigError as error:
        for problem in error.problems:
            click.echo(problem, err=True)
        sys.exit(2)


@click.command()
@CONFIG
def check(path: Path) -> None:
    """Validate a configuration file.

    Exits with 0 if the gateway could start with it, with 2 and one line per problem if not.
    """
    loaded = configured(path)
    backends = sum(len(pool.backends) for pool in loaded.config.pools.values())
    click.echo(
        f"{path}: {len(loaded.config.models)} models, {len(loaded.pools)} pools, "
        f"{backends} backends, {loaded.space.buckets} buckets"
    )


@click.command()
@CONFIG
@click.option("--host", help="Overrides gateway.host.")
@click.option("--port", type=int, help="Overrides gateway.port.")
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
)
def serve(path: Path, host: str | None, port: int | None, log_level: str) -> None:
    """Run the gateway.

    Serves the OpenAI API in front of the configured backends until SIGTERM or SIGINT, then lets
    running requests finish (gateway.drain_s).
    """
    logging.basicConfig(
        level=log_level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
    loaded = configured(path)
    try:
        uvloop.run(run(loaded, host=host, port=port))
    except (PlannerError, OSError) as error:
        raise click.ClickException(str(error)) from error


async def run(loaded: Loaded, *, host: str | None = None, port: int | None = None) -> None:
    """Serves until a signal says stop."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with App(loaded, host=host, port=port):
        await stop.wait()


@click.command()
@CONFIG
@click.option(
    "--trace", required=True, type=click.Path(path_type=Path), help="Trace CSV to plan for."
)
@click.option("--rate", type=float, help="Requests/s to scale the trace to; default: its own rate.")
@click.option(
    "--model", help="Model that the trace's requests are for; default: the first configured."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
def plan(path: Path, trace: Path, rate: float | None, model: str | None, as_json: bool) -> None:
    """Find the cheapest fleet for a workload.

    Prints the backends per pool, the share of each request size that each pool serves, and what the
    same demand costs on every single GPU type. Sizes are bucketed as the gateway's router would
    have believed them at arrival; loads are those of the actual sizes.
    """
    loaded = configured(path)
    try:
        demand = demand_of(workload.read(trace), loaded, lengths=Lengths(), model=model)
        if rate is not None:
            demand = demand.scaled_to(rate)
        found = explained(solve.provision(demand, loaded.pools), demand, loaded.pools)
    except (PlannerError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        click.echo(json.dumps(plan_json(found), indent=1))
    else:
        show(found, Console())


def show(found: Plan, console: Console) -> None:
    """The plan for people."""
    table = Table(title=f"plan {found.plan_id}: ${found.usd_per_hour:.2f}/h")
    for column in ("pool", "backends", "mean load", "with tail"):
        table.add_column(column, justify="left" if column == "pool" else "right")
    for name, count, mean, tail in zip(
        found.pools, found.backends, found.load, found.tail, strict=True
    ):
        table.add_row(name, str(count), f"{mean:.2f}", f"{mean + tail:.2f}")
    console.print(table)
    console.print(shares_table(found))
    console.print(singles_table(found))
    for unserved in found.unserved:
        what = found.space.describe(unserved.bucket)
        console.print(f"unserved: {what}, {unserved.rate:.3g} req/s: {unserved.reason}")
    console.print(
        f"lower bound ${found.lower_bound_usd_per_hour:.2f}/h, "
        f"gap {found.gap:.2%}, solved in {found.solve_s * 1e3:.0f} ms"
    )


def singles_table(found: Plan) -> Table:
    """What the same demand costs on every single GPU type."""
    table = Table(title="the same demand and SLO on one GPU type")
    for column in ("GPU", "backends", "$/h", "against the plan"):
        table.add_column(column, justify="left" if column == "GPU" else "right")
    for single in sorted(found.singles, key=lambda s: (s.unserved_share > 0, s.usd_per_hour)):
        if single.unserved_share:
            cannot = f"cannot serve {single.unserved_share:.1%}: {single.why}"
            table.add_row(single.gpu, "–", "–", cannot)
            continue
        ratio = single.usd_per_hour / found.usd_per_hour if found.usd_per_hour else 1.0
        running = str(sum(count for _, count in single.backends))
        table.add_row(single.gpu, running, f"{single.usd_per_hour:.2f}", f"{ratio:.2f} ×")
    return table


def shares_table(found: Plan) -> Table:
    """Which pool serves which request size: the weights of every bucket with demand."""
    table = Table(title="which pool serves which request size")
    for column in ("bucket", "req/s", *found.pools):
        table.add_column(column, justify="left" if column == "bucket" else "right")
    for bucket, (rate, row) in enumerate(zip(found.rate, found.weights, strict=True)):
        if rate > 0:
            cells = (f"{weight:.0%}" if weight else "·" for weight in row)
            table.add_row(found.space.describe(bucket), f"{rate:.2f}", *cells)
    return table
