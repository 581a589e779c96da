"""The subcommand `history`: what a gateway has decided, why, and what came of it."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import click
import msgspec
import uvloop
from rich.console import Console
from rich.table import Table

from cuvee.options import CONFIG, EXISTING_FILE, JSON, TOKEN, configured, table_columns
from cuvee.tables import add_figures, add_texts, close_table
from gateway.inspection.admin_client import AdminClient, AdminFault
from gateway.journal.entry import CallerBill, Entry, Happened, ModelBill, counted
from gateway.journal.file import read

PATH = "/cuvee/history"


class JournalAnswer(msgspec.Struct):
    """What the admin port answers."""

    entries: list[Entry]


@click.command()
@CONFIG
@click.option("--file", "file", type=EXISTING_FILE, help="A journal, instead of a configuration's.")
@click.option("--url", help="Admin port of a gateway, such as http://127.0.0.1:8790, to ask it.")
@TOKEN
@click.option("--last", type=click.IntRange(1), default=40, show_default=True, help="Entries.")
@click.option("--looks", is_flag=True, help="Also looks at the demand that changed nothing.")
@click.option("--bill", is_flag=True, help="What it has cost: by hour, model and caller.")
@JSON
def history(
    path: Path,
    file: Path | None,
    url: str | None,
    token: str | None,
    last: int,
    looks: bool,
    bill: bool,
    as_json: bool,
) -> None:
    """Show what the gateway has decided, why, and what came of it.

    Reads the journal of the configuration (gateway.journal), a file, or asks a running gateway.
    """
    if file is not None and url is not None:
        raise click.UsageError("--file and --url exclude each other")
    found = _asked(url, token) if url is not None else _kept(file or _configured(path))
    shown = [entry for entry in found if looks or entry.kind != "looks"][-last:]
    if bill:
        shown = [entry for entry in found if entry.kind == "hour"][-last:]
    if as_json:
        click.echo(msgspec.json.encode(shown))
    elif shown:
        made = billed(shown) if bill else table(shown)
        Console(width=table_columns()).print(made)
    else:
        click.echo("no hour is over yet" if bill and found else "nothing yet")


def table(found: Sequence[Entry]) -> Table:
    """Entries as a table, oldest first."""
    made = close_table()
    add_texts(made, "UTC", "what", "why", "backends")
    add_figures(made, "$/h", "promised", "requests", "kept", "$")
    for entry in found:
        plan = entry.plan or entry.before
        made.add_row(
            entry.at[5:19].replace("T", " "),
            _what(entry),
            entry.cause,
            "" if entry.kind in ("looks", "hour") else counted(_backends(entry)),
            "" if plan is None else f"{plan.usd_per_hour:.2f}",
            "" if plan is None or plan.attainment is None else f"{plan.attainment:.2%}",
            *_of(entry.happened),
        )
    return made


def billed(hours: Sequence[Entry]) -> Table:
    """The hours, then what each model and caller had of them; with what nobody had."""
    made = close_table()
    add_texts(made, "hour to, model or caller")
    add_figures(made, "requests", "tokens in", "tokens out", "$", "$ planned", "$ one\nGPU type")
    models: dict[str, list[float]] = {}
    callers: dict[str, list[float]] = {}
    idle = 0.0
    for entry in hours:
        happened = entry.happened
        if happened is None:
            continue
        single = "" if happened.usd_single is None else f"{happened.usd_single:.2f}"
        tokens = [
            sum(row.input_tokens for row in happened.models.values()),
            sum(row.output_tokens for row in happened.models.values()),
        ]
        made.add_row(
            entry.at[:16].replace("T", " "),
            *(f"{count:,}" for count in (happened.requests, *tokens)),
            f"{happened.usd_running:.2f}",
            f"{happened.usd_planned:.2f}",
            single,
        )
        idle += happened.usd_idle
        _add_rows(models, happened.models)
        _add_rows(callers, happened.callers)
    for kind, rows in (("model", models), ("caller", callers)):
        made.add_section()
        for name, (requests, inputs, outputs, usd) in sorted(
            rows.items(), key=lambda row: -row[1][3]
        ):
            counts = (f"{count:,.0f}" for count in (requests, inputs, outputs))
            made.add_row(f"{kind} {name or 'without a key'}", *counts, f"{usd:.2f}")
    if idle:
        made.add_row("pools without a request", "", "", "", f"{idle:.2f}")
    return made


def _add_rows(sums: dict[str, list[float]], rows: Mapping[str, ModelBill | CallerBill]) -> None:
    for name, row in rows.items():
        own = sums.setdefault(name, [0.0, 0.0, 0.0, 0.0])
        for n, value in enumerate((row.requests, row.input_tokens, row.output_tokens, row.usd)):
            own[n] += value


def _what(entry: Entry) -> str:
    """What was decided, and by how much a plan changes the bill."""
    if entry.looks is not None:
        return f"{entry.looks} looks"
    if entry.plan is None or entry.before is None:
        return entry.kind
    return f"{entry.kind} {entry.plan.usd_per_hour - entry.before.usd_per_hour:+.2f} $/h"


def _backends(entry: Entry) -> Mapping[str, int]:
    plan = entry.plan or entry.before
    return entry.backends or ({} if plan is None else plan.backends)


def _of(happened: Happened | None) -> tuple[str, str, str]:
    """Requests, kept promises and dollars."""
    if happened is None:
        return "", "", ""
    kept = happened.attainment
    share = "" if kept is None else f"{kept:.2%}"
    return f"{happened.requests:,}", share, f"{happened.usd_running:.4f}"


def _configured(path: Path) -> Path:
    loaded = configured(path)
    if loaded.journal is None:
        click.echo(f"{path} has no gateway.journal; --url asks a running gateway", err=True)
        sys.exit(2)
    return loaded.journal


def _kept(file: Path) -> list[Entry]:
    """The entries of a journal. Raises ClickException for a file that is none; an empty one may
    still become one, and of one that was just begun the file before tells."""
    found = read(file)
    if not found and file.exists() and file.stat().st_size:
        raise click.ClickException(f"{file} is no journal: no line of it is an entry")
    return found


def _asked(url: str, token: str | None) -> list[Entry]:
    """The entries that a running gateway has."""
    if not url.startswith(("http://", "https://")):
        raise click.BadParameter("must start with http:// or https://", param_hint="--url")
    try:
        client = AdminClient(url, token=token)
    except (KeyError, ValueError):
        raise click.BadParameter("this is no URL of a host", param_hint="--url") from None
    try:
        return msgspec.convert(uvloop.run(client.one(PATH)), JournalAnswer).entries
    except AdminFault as error:
        raise click.ClickException(str(error)) from error
    except msgspec.ValidationError as error:
        raise click.ClickException(f"{url} is no admin port of a gateway") from error
