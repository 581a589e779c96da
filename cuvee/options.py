"""Options that several subcommands share, and how each of them reads its configuration.

Imported by `serve` too, so it imports what serving needs and no more: whatever else is imported is
resident for good.
"""

import sys
from pathlib import Path

import click

from gateway.config.load import Loaded, load
from gateway.errors import ConfigError

FILE = click.Path(path_type=Path)
TABLE_COLUMNS = 120  # of tables that go into a file, which has no width of its own

CONFIG = click.option("--config", "path", required=True, type=FILE, help="Configuration file.")
TRACE = click.option(
    "--trace", "trace_path", required=True, type=FILE, help="Trace CSV whose sizes are served."
)
MODEL = click.option(
    "--model", help="Model that the trace's requests are for; default: the first configured."
)
ARRIVALS = click.option(
    "--arrivals",
    "process",
    type=click.Choice(["own", "poisson", "gamma"]),
    default="poisson",
    show_default=True,
    help="own: the trace's bursts; gamma: gaps of its measured dispersion; poisson: no bursts.",
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")


def configured(path: Path) -> Loaded:
    """Loads a configuration; prints one line per problem and exits with 2 if it cannot be used."""
    try:
        return load(path)
    except ConfigError as error:
        for problem in error.problems:
            click.echo(problem, err=True)
        sys.exit(2)


def table_columns() -> int | None:
    """The width that tables are printed in: the terminal's own (`None`), or a file's."""
    return None if sys.stdout.isatty() else TABLE_COLUMNS
