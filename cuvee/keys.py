"""The subcommand `keys`: keys of clients, in the file that `access.keys_file` names."""

import os
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from cuvee.options import CONFIG, FILE, POSITIVE, table_columns
from cuvee.tables import add_figures, add_texts, close_table
from gateway.config.access import file_problems
from gateway.config.keys_file import add_key, revoke_key, sections
from gateway.config.schema import Config
from gateway.config.variables import expanded
from planner import files
from planner.document import read
from planner.errors import PlannerError

KEYS_FILE = click.option(
    "--file", "file", type=FILE, help="The keys file; default: `access.keys_file` of --config."
)
COUNT = click.IntRange(1)
LIMITS = {
    "requests_per_minute": "requests\n/min",
    "tokens_per_minute": "tokens\n/min",
    "concurrency": "at a\ntime",
    "usd_per_day": "$/day",
}


@click.group()
def keys() -> None:
    """Add, list and revoke the keys of clients.

    A running gateway follows the file within three seconds.
    """


@keys.command()
@click.argument("name")
@CONFIG
@KEYS_FILE
@click.option("--model", "models", multiple=True, help="May be used; repeat it. Default: all.")
@click.option("--slo-class", "slo_classes", multiple=True, help="May be asked for; repeat it.")
@click.option("--default-slo-class", help="Of requests that name none.")
@click.option("--weight", type=POSITIVE, help="Its part while requests wait; default: 1.")
@click.option("--requests-per-minute", type=COUNT)
@click.option("--tokens-per-minute", type=COUNT)
@click.option("--concurrency", type=COUNT, help="Requests at the same time.")
@click.option("--usd-per-day", type=POSITIVE)
@click.option("--expires", help="A date, or a moment as 2026-12-31T12:00:00Z.")
def add(name: str, path: Path, file: Path | None, **fields: Any) -> None:
    """Make a key, write its hash, and print the key: it is shown this once."""
    given = {key: _plain(value) for key, value in fields.items() if value not in (None, ())}
    try:
        target = file or _configured(path)
        key = add_key(target, name, given, _config(path))
    except (PlannerError, OSError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(key)
    click.echo(f"{target} has its hash; the key is not stored, and not shown again", err=True)
    _warn(target, path)


@keys.command("list")
@CONFIG
@KEYS_FILE
def list_keys(path: Path, file: Path | None) -> None:
    """List the names of the keys, and what each may do."""
    try:
        found = sections(file or _configured(path))
    except PlannerError as error:
        raise click.ClickException(str(error)) from error
    table = close_table()
    add_texts(table, "name", "models", "SLO\nclasses")
    add_figures(table, "weight", *LIMITS.values(), "expires")
    for name, entry in found.items():
        section = entry if isinstance(entry, dict) else {}  # `cuvee check` says what it must be
        table.add_row(
            str(name),
            _listed(section, "models"),
            _listed(section, "slo_classes"),
            str(section.get("weight", 1)),
            *(str(section.get(limit, "–")) for limit in LIMITS),
            str(section.get("expires", "never")),
        )
    Console(width=table_columns()).print(table)


@keys.command()
@click.argument("name")
@CONFIG
@KEYS_FILE
def revoke(name: str, path: Path, file: Path | None) -> None:
    """Take a key out of the file."""
    try:
        target = file or _configured(path)
        revoke_key(target, name)
    except (PlannerError, OSError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{name} is not in {target} any more", err=True)
    _warn(target, path)


def _configured(path: Path) -> Path:
    """The keys file that a configuration names, which may not be there yet: so the rest of the
    configuration is not looked at."""
    value, _ = expanded(read(path).value, os.environ)
    access = value.get("access") if isinstance(value, dict) else None
    name = access.get("keys_file") if isinstance(access, dict) else None
    if not isinstance(name, str):
        raise click.ClickException(f"{path} has no access.keys_file: name the file with --file")
    return path.parent / name


def _config(path: Path) -> Config | None:
    """The models and classes of a configuration, whatever else is wrong with it; `None` if it
    cannot be read."""
    try:
        value, _ = expanded(read(path).value, os.environ)
    except PlannerError:
        return None
    if not isinstance(value, dict):
        return None
    return files.converted({"pools": {}} | value, Config)[0]  # pools may be missing yet


def _warn(target: Path, path: Path) -> None:
    """Say why a gateway does not follow the file, if it does not."""
    for problem in file_problems(target, _config(path)):
        click.echo(
            f"a gateway does not follow this file until it is corrected: {problem}", err=True
        )


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _listed(section: dict[str, Any], key: str) -> str:
    found = section.get(key) or []
    return ", ".join(map(str, found if isinstance(found, list) else [found])) or "all"
