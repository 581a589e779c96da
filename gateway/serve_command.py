"""The subcommands `serve` and `check`, and how every command reads its configuration.

Imports what serving needs and no more: whatever else is imported is resident for good.
"""

import asyncio
import logging
import signal
import sys
from pathlib import Path

import click
import uvloop

from gateway import compiled
from gateway.app import App
from gateway.collector import settle
from gateway.config import Loaded, load
from gateway.errors import ConfigError
from planner.errors import PlannerError

log = logging.getLogger("cuvee")

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
    log.info("data path: %s", compiled.data_path())
    for complaint in compiled.complaints():
        log.warning(complaint)
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
        settle()
        await stop.wait()
