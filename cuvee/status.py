"""The subcommand `status`: a running gateway on one screen."""

import asyncio
import json
import time
from pathlib import Path

import click
import uvloop
from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from cuvee.admin import URL, admin_client
from cuvee.options import CONFIG, JSON, POSITIVE, TOKEN, table_columns
from cuvee.tables import add_figures, add_texts
from gateway.inspection.admin_client import AdminClient, AdminFault
from gateway.inspection.standing import PoolStanding, Standing, standing


@click.command()
@CONFIG
@URL
@TOKEN
@click.option(
    "--seconds", type=POSITIVE, default=1.0, show_default=True,
    help="Between the two looks that rates are taken from.",
)  # fmt: skip
@JSON
def status(path: Path, url: str | None, token: str | None, seconds: float, as_json: bool) -> None:
    """Show a running gateway on one screen.

    Its fleet, load, promises, dollars an hour beside the best single GPU type, queue, refusals and
    loops, as its admin port tells them. Exits with 1 if it does not answer or is not ready.
    """
    try:
        seen = uvloop.run(_look(admin_client(path, url, token), seconds))
    except AdminFault as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        click.echo(json.dumps(seen.figures(), indent=1))
    else:
        Console(width=table_columns(), highlight=False).print(screen(seen))
    if seen.status != "ready":
        raise click.exceptions.Exit(1)


async def _look(client: AdminClient, seconds: float) -> Standing:
    before = await client.read(time.time())
    await asyncio.sleep(seconds)
    return standing(await client.read(time.time()), before)


def screen(seen: Standing) -> Group:
    """All of it, for people."""
    return Group(*head(seen), fleet_table(seen), *_classes(seen))


def head(seen: Standing) -> list[Text]:
    """What is not in a table, a line each; what is wrong is in colour."""
    kept = "" if seen.certified is None else f", certified for {seen.certified:.2%}"
    gateways = "" if seen.gateways == 1 else f", {seen.gateways} gateways"
    state = Text.assemble(
        f"{seen.url}  Cuvée {seen.version}  ",
        (seen.status, "green" if seen.status == "ready" else "bold red"),
        gateways,
    )
    lines = [state, Text(f"plan {seen.plan}{kept}: {seen.reason}"), Text(money(seen))]
    tokens = "" if seen.tokens_per_s is None else f", {seen.tokens_per_s:,.0f} output tokens/s"
    rate = "" if seen.requests_per_s is None else f"{seen.requests_per_s:.1f} requests/s{tokens}; "
    counts = f"{seen.requests:,} since the start, {seen.refusals:,} refused, {seen.errors:,} failed"
    lines.append(Text(f"{rate}{counts}; {seen.queued} wait"))
    if seen.loops:
        lines += [Text(f"loop {name}: {why}", style="red") for name, why in seen.loops.items()]
    else:
        lines.append(Text("all loops do their work"))
    return lines


def money(seen: Standing) -> str:
    """Dollars an hour, beside what one GPU type would cost."""
    if seen.usd_per_hour is None:
        return "no plan yet"
    if seen.single is None:
        why = "no GPU type serves the plan's demand alone"
        return f"${seen.usd_per_hour:.2f}/h; {why if seen.compared else 'no demand is known yet'}"
    gpu, usd = seen.single
    saved = f", {1 - seen.usd_per_hour / usd:.0%} less" if usd > seen.usd_per_hour else ""
    return f"${seen.usd_per_hour:.2f}/h; {gpu} alone ${usd:.2f}/h{saved}"


def fleet_table(seen: Standing) -> Table:
    """The pools."""
    table = Table(box=SIMPLE_HEAD)
    add_texts(table, "pool")
    add_figures(table, "up", "of", "wanted", "in flight", "load", "pace")
    for pool in seen.pools:
        table.add_row(*_row(pool), style="red" if pool.up < pool.backends else None)
    return table


def _row(pool: PoolStanding) -> list[str]:
    return [
        pool.name,
        str(pool.up),
        str(pool.backends),
        "–" if pool.desired is None else str(pool.desired),
        str(pool.in_flight),
        "–" if pool.load is None else f"{pool.load:.2f}",
        "–" if pool.pace is None else f"{pool.pace:.2f}",
    ]


def _classes(seen: Standing) -> list[Table]:
    """The promises; nothing before the first request has ended."""
    if not seen.classes:
        return []
    table = Table(box=SIMPLE_HEAD)
    add_texts(table, "model", "class")
    add_figures(table, "kept now", "since the start", "of")
    for one in seen.classes:
        shares = ["–" if share is None else f"{share:.2%}" for share in (one.recent, one.share)]
        table.add_row(one.model, one.name, *shares, f"{one.kept + one.missed:,}")
    return [table]
