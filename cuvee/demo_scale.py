"""The subcommand `demo-scale`: a day in minutes, on a fleet that moves."""

import json
import time
from dataclasses import asdict
from pathlib import Path

import click
import uvloop
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from cuvee.options import FILE, JSON_FILE
from cuvee.progress import Work
from gateway.errors import ConfigError
from loadtest.day.run import DayMoment, DayResult, DayRun, DaySetting
from loadtest.demo.gateway import LocalFleetError
from planner import shipped
from planner.errors import PlannerError


@click.command("demo-scale")
@click.option(
    "--config",
    "path",
    type=click.Path(path_type=Path),
    default=shipped.folder() / "demo-scale.yaml",
    help="Configuration; each pool has `scale`.  [default: the shipped demo-scale.yaml]",
)
@click.option(
    "--minutes",
    type=click.FloatRange(1, 60),
    default=6.0,
    show_default=True,
    help="That the day takes.",
)
@click.option(
    "--startup-s",
    type=click.FloatRange(0.1, 120),
    default=3.0,
    show_default=True,
    help="Until a machine serves, in the median; real seconds.",
)
@click.option("--seed", default=0, show_default=True, help="Of the random draws.")
@JSON_FILE
@click.option("--log", "log_path", type=FILE, help="Keep the gateway's log.")
def demo_scale(
    path: Path,
    minutes: float,
    startup_s: float,
    seed: int,
    json_path: Path | None,
    log_path: Path | None,
) -> None:
    """Show a fleet that moves with its traffic, without a GPU.

    A day of traffic, low at night and seven times as much at noon, passes in minutes. A cloud on
    this machine starts and stops emulated engines as the gateway's webhook tells it. One GPU type
    is out of stock for some hours, and one machine is taken away. At the end stands the bill,
    beside what knowing everything beforehand would have cost, a loop that orders what it just saw,
    and the best GPU type alone.
    """
    console = Console()
    setting = DaySetting(
        path=path, day_s=60 * minutes, startup_s=startup_s, seed=seed, log=log_path
    )
    try:
        with Work("the fleet starts") as work:
            seen_s: list[float] = []  # when moments came

            def on_moment(moment: DayMoment) -> None:
                seen_s.append(time.monotonic())
                work.say(f"{int(moment.hour) % 24:02d} o'clock")
                work.ends_in(setting.day_s - (seen_s[-1] - seen_s[0]))
                work.echo(line(moment))

            result = uvloop.run(DayRun(setting, on_moment).play())
        if json_path is not None:
            json_path.write_text(json.dumps(asdict(result), indent=1))
    except (PlannerError, ConfigError, LocalFleetError, OSError) as error:
        raise click.ClickException(str(error)) from error
    console.print()
    console.print(bill(result))
    for text in closing(result):
        console.print(text, highlight=False, soft_wrap=True)
    if result.failed:
        raise click.exceptions.Exit(1)


def line(moment: DayMoment) -> str:
    """A moment of the day in one line."""
    hours, minutes = divmod(int(moment.hour * 60), 60)
    fleet = ", ".join(f"{n} {pool}" for pool, n in moment.serving.items() if n) or "nothing"
    kept = "" if moment.kept is None else f", {moment.kept:.1%} kept"
    event = f"  ← {moment.event}" if moment.event else ""
    return (
        f"{hours % 24:02d}:{minutes:02d}  {moment.rate:5.1f} req/s  {fleet}, "
        f"${moment.usd_per_hour:.2f}/h{kept}{event}"
    )


def bill(result: DayResult) -> Table:
    """The lanes, as a table."""
    made = Table(title="the bill of the day", title_justify="left", box=SIMPLE_HEAD)
    made.add_column("")
    for heading in ("$", "× clairvoyant", "short of its headroom"):
        made.add_column(heading, justify="right")
    best = next(lane.usd for lane in result.lanes if lane.name == "clairvoyant")
    for lane in result.lanes:
        made.add_row(
            lane.name, f"{lane.usd:.2f}", f"{lane.usd / best:.2f}", f"{lane.short_share:.1%}"
        )
    return made


def closing(result: DayResult) -> list[str]:
    """What happened to the requests, and how often the fleet changed."""
    why = f" ({result.why})" if result.failed else ""
    return [
        f"{result.requests} requests, {result.failed} failed{why}, {result.kept:.1%} kept their "
        f"promise; {result.starts} machines started, {result.stops} stopped, {result.refused} "
        f"wishes met an empty stock; {result.decisions} decisions in the journal.",
        "Short of its headroom: quarters of an hour in which what served could not hold the "
        "true rate by the planner's own measure; clairvoyant never is, by definition.",
    ]
