"""The subcommand `top`: a running gateway, watched."""

import asyncio
import time
from pathlib import Path

import click
import uvloop
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from cuvee.admin import URL, admin_client
from cuvee.options import CONFIG, TOKEN
from cuvee.status import screen
from gateway.inspection.admin_client import AdminClient, AdminFault, AdminReading
from gateway.inspection.standing import Standing, standing

LEAST_S = 0.5  # between two looks: a page of metrics of a large fleet takes milliseconds to write


@click.command()
@CONFIG
@URL
@TOKEN
@click.option(
    "--interval", "interval_s", type=click.FloatRange(LEAST_S), default=2.0, show_default=True,
    help="Seconds between two looks.",
)  # fmt: skip
@click.option("--times", type=click.IntRange(1), help="End after so many looks; default: Ctrl-C.")
def top(
    path: Path, url: str | None, token: str | None, interval_s: float, times: int | None
) -> None:
    """Watch a running gateway.

    The same as `status`, again and again: on a terminal in one place, elsewhere a line for each
    look. A gateway that does not answer for a while is asked again. Ctrl-C ends it. After the last
    of --times looks it exits with 1 if the gateway did not answer that one.
    """
    if not uvloop.run(_watch(admin_client(path, url, token), interval_s, times)):
        raise click.exceptions.Exit(1)


async def _watch(client: AdminClient, interval_s: float, times: int | None) -> bool:
    """Whether the last look had an answer."""
    console = Console(highlight=False)
    before: AdminReading | None = None
    look = 0
    with Live(console=console, auto_refresh=False, screen=console.is_terminal) as live:
        while times is None or look < times:
            if look:
                await asyncio.sleep(interval_s)
            look += 1
            try:
                now = await client.read(time.time())
            except AdminFault as error:
                _show(live, console, Text(f"{_clock()}  {error}", style="red"))
                before = None
                continue
            seen = standing(now, before)
            before = now
            if console.is_terminal:
                _show(live, console, Group(Text(_clock()), screen(seen)))
            else:
                click.echo(line(seen))
    return before is not None


def _show(live: Live, console: Console, what: Text | Group) -> None:
    """Replace the screen, or write a line where there is none."""
    if console.is_terminal:
        live.update(what, refresh=True)
    else:
        click.echo(str(what))


def line(seen: Standing) -> str:
    """All of it in one line, for pipes and logs."""
    rate = "–" if seen.requests_per_s is None else f"{seen.requests_per_s:.1f}"
    up, every = sum(p.up for p in seen.pools), sum(p.backends for p in seen.pools)
    loads = [pool.load for pool in seen.pools if pool.load is not None]
    load = "–" if not loads else f"{max(loads):.2f}"
    shares = [one.recent for one in seen.classes if one.recent is not None]
    kept = "–" if not shares else f"{min(shares):.1%}"
    usd = "–" if seen.usd_per_hour is None else f"${seen.usd_per_hour:.2f}/h"
    loops = "" if not seen.loops else f"  loops failing: {', '.join(seen.loops)}"
    return (
        f"{_clock()}  {seen.status}  {rate} req/s  up {up}/{every}  load {load}  kept {kept}  "
        f"{usd}  waiting {seen.queued}  refused {seen.refusals}  failed {seen.errors}{loops}"
    )


def _clock() -> str:
    return time.strftime("%H:%M:%S")
