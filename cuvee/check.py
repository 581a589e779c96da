"""The subcommand `check`: a configuration file in, one line about it out."""

import sys
from pathlib import Path

import click

from cuvee.options import CONFIG, configured


@click.command()
@CONFIG
@click.option("--strict", is_flag=True, help="Take warnings for mistakes.")
def check(path: Path, strict: bool) -> None:
    """Validate a configuration file.

    Exits with 0 if the gateway could start with it, with 2 and one line per mistake if not.
    """
    loaded = configured(path)
    for warning in loaded.warnings:
        click.echo(f"warning: {warning}", err=True)
    if strict and loaded.warnings:
        sys.exit(2)
    backends = sum(len(pool.backends) for pool in loaded.config.pools.values())
    click.echo(
        f"{path}: {counted(len(loaded.config.models), 'model')}, "
        f"{counted(len(loaded.pools), 'pool')}, {counted(backends, 'backend')}, "
        f"{counted(loaded.buckets.count, 'bucket')}"
    )


def counted(number: int, noun: str) -> str:
    """`1 model`, `2 models`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
