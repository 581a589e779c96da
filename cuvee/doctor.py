"""The subcommand `doctor`: every check, each with what to do and where to read more."""

import json
import sys
from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import click
import uvloop
from rich.console import Console
from rich.text import Text

from cuvee.options import API_KEY, CONFIG, JSON, NO_CONFIG, POSITIVE, TOKEN
from gateway import runtime
from gateway.inspection.examination import Examination, examine
from gateway.inspection.examined import Examined, Severity, exit_code
from gateway.inspection.machine import here

MARKS = {
    Severity.FINE: ("ok  ", "green"),
    Severity.NOTE: ("note", "cyan"),
    Severity.WARNING: ("warn", "yellow"),
    Severity.ERROR: ("FAIL", "bold red"),
}


@click.command()
@CONFIG
@click.option("--url", help="Admin port of a gateway, such as http://127.0.0.1:8790, to look at.")
@API_KEY
@TOKEN
@click.option(
    "--timeout", "timeout_s", type=POSITIVE, default=5.0, show_default=True,
    help="Seconds until an engine or a gateway must have answered.",
)  # fmt: skip
@click.option("--quiet", is_flag=True, help="Only what is not fine.")
@JSON
def doctor(
    path: Path,
    url: str | None,
    key: str | None,
    token: str | None,
    timeout_s: float,
    quiet: bool,
    as_json: bool,
) -> None:
    """Look for what is wrong, before and after the start.

    Before: the file, prices and profiles, this machine, ports, disks, services, and every engine.
    After, if a gateway answers on the admin port: its backends, loops, plan, promises, queue, speed
    and more. With --url and without a file only the second. Each line that is not fine says what to
    do and where to read more; nothing is changed.

    Exit code 0: fine; 1: warnings; 2: errors. Notes are no fault.
    """
    named = click.get_current_context().get_parameter_source("path")
    given = named is not click.core.ParameterSource.DEFAULT
    looked = path if given or path.exists() else None
    if looked is None and url is None:
        click.echo(NO_CONFIG, err=True)
        sys.exit(2)
    machine = here()
    runtime.raise_file_limit()
    found = uvloop.run(examine(Examination(looked, url, key, token, timeout_s), machine))
    if as_json:
        click.echo(json.dumps([one.figures() for one in found], indent=1))
    else:
        show(found, Console(soft_wrap=True, highlight=False), quiet=quiet)
    sys.exit(exit_code(found))


def show(found: Sequence[Examined], console: Console, *, quiet: bool) -> None:
    """Print the checks in their groups, and how many there were of each kind."""
    shown = [one for one in found if one.outcome is not Severity.FINE or not quiet]
    for group, members in groupby(shown, key=lambda one: one.group):
        console.print(Text(group, style="bold"))
        for one in members:
            mark, style = MARKS[one.outcome]
            console.print(Text.assemble("  ", (mark, style), f"  {one.name}: {one.text}"))
            if one.hint:
                console.print(Text(f"        {one.hint}", style="dim"))
                console.print(Text(f"        {one.page}", style="dim"))
    counts = Counter(one.outcome for one in found)
    console.print(
        f"{len(found)} checks: {counts[Severity.ERROR]} errors, "
        f"{counts[Severity.WARNING]} warnings, {counts[Severity.NOTE]} notes"
    )
