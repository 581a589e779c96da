"""The subcommand `check`: a configuration file in, one line about it out."""

from pathlib import Path

import click

from cuvee.options import CONFIG, configured


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
        f"{backends} backends, {loaded.buckets.count} buckets"
    )
