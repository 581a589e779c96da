"""Options that several subcommands share, and how a command reads its configuration.

Imported by `serve` too, so it imports what serving needs and no more: a module once imported stays
resident for as long as the gateway runs.
"""

import sys
from functools import partial
from pathlib import Path
from typing import Any

import click

from gateway.config.load import Loaded, load
from gateway.errors import ConfigError

FILE = click.Path(path_type=Path)
EXISTING_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
OUTPUT_FILE = click.Path(dir_okay=False, path_type=Path)  # refuses a folder before the work begins
POSITIVE = click.FloatRange(0, min_open=True)
TABLE_COLUMNS = 120  # of tables that go into a file, which has no width of its own

_config = partial(click.option, "--config", "path", type=FILE, help="Configuration file.")
_trace = partial(
    click.option, "--trace", "trace_path", type=FILE, help="Trace CSV whose sizes are served."
)


def printable(_: click.Context, option: click.Parameter, value: str | None) -> str | None:
    """A value that stands in a header cannot break its head."""
    if value is not None and not (value.isascii() and value.isprintable()):
        raise click.BadParameter("must be printable ASCII", param_hint=option.opts[0])
    return value


DEFAULT_CONFIG = Path("cuvee.yaml")
NO_CONFIG = (
    f"there is no {DEFAULT_CONFIG} in this folder: `cuvee init URL` writes one for engines that "
    "run, --config FILE names another"
)
CONFIG = _config(default=DEFAULT_CONFIG, show_default=True)
TRACE = _trace(required=True)
# `compare --paper`, and `plan` for a model and a promise, need neither.
OPTIONAL_CONFIG, OPTIONAL_TRACE = _config(), _trace()
MODEL = click.option(
    "--model", help="Model that the trace's requests are for; default: the first configured."
)
RATE = click.option(
    "--rate", type=float, help="Requests/s to scale the trace to; default: its own rate."
)
ARRIVALS_HELP = (
    "own: the trace's bursts; gamma: gaps of its measured dispersion; poisson: no bursts"
)
ARRIVALS = click.option(
    "--arrivals",
    "process",
    type=click.Choice(["own", "poisson", "gamma"]),
    default="poisson",
    show_default=True,
    help=f"{ARRIVALS_HELP}.",
)
TTFT = click.option("--ttft", type=POSITIVE, help="TTFT target in seconds.")
TPOT = click.option("--tpot", type=POSITIVE, help="TPOT target in seconds.")
API_KEY = click.option(
    "--api-key",
    "key",
    envvar="CUVEE_API_KEY",
    show_envvar=True,
    callback=printable,
    help="The key that engines ask for, where their pool has none.",
)
TOKEN = click.option(
    "--token",
    envvar="CUVEE_ADMIN_TOKEN",
    show_envvar=True,
    callback=printable,
    help="The token that the admin port asks for.",
)
# `--json` has two meanings: an analysis prints JSON, a run of minutes writes it beside its tables.
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
JSON_FILE = click.option(
    "--json", "json_path", type=OUTPUT_FILE, help="Also write the result to this file, as JSON."
)


def configured(path: Path, **gateway: Any) -> Loaded:
    """Load a configuration; print one line per problem and exit with 2 if it cannot be used.

    No command starts with a configuration that `check` refuses, and all refuse it alike. gateway:
    settings of the command line in place of those in the file; `None`: the file's.
    """
    if path == DEFAULT_CONFIG and not path.exists():
        click.echo(NO_CONFIG, err=True)
        sys.exit(2)
    settings = {name: value for name, value in gateway.items() if value is not None}
    try:
        return load(path, gateway=settings)
    except ConfigError as error:
        for problem in error.problems:
            click.echo(problem, err=True)
        sys.exit(2)


def table_columns() -> int | None:
    """The width to print tables in: `None` on a terminal, which has its own."""
    return None if sys.stdout.isatty() else TABLE_COLUMNS
