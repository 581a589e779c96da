"""The command `demo`: the whole loop on one machine, with real traffic and emulated backends."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import aiohttp
import click
import uvloop
from rich.console import Console
from rich.live import Live
from rich.text import Text

from cuvee.pictures import NoPicture, canvas, draw_demo
from gateway.errors import ConfigError
from loadtest.demo import summary
from loadtest.demo.fleet import LocalFleet, LocalFleetError
from loadtest.demo.summary import DemoSummary, PlanSeen
from loadtest.replay import report
from loadtest.replay.record import Record
from loadtest.replay.send import replay
from planner import shipped
from planner.errors import PlannerError
from planner.slo import Slo
from planner.traffic.trace import Trace, read_trace

CONFIGS = shipped.folder()
TURN_S = 45.0  # configs/workloads/ATTRIBUTION.md: where conversation turns into code
LOOK_S = 0.5  # how often the demo asks which plan is in force
LINE_S = 10.0  # without a terminal: a line of progress this often


class Progress:
    """What a person sees while it runs. Told of records and plans; adds up as they come."""

    def __init__(self, console: Console, slo: Slo, trace: Trace) -> None:
        self._console = console
        self._slo = slo
        self._trace = trace
        self._done = self._failed = self._met = 0
        self.plans: list[PlanSeen] = []

    def record(self, record: Record) -> None:
        """One request ended."""
        self._done += 1
        self._failed += record.error is not None
        self._met += report.met(record, self._slo)

    def plan(self, plan: PlanSeen) -> None:
        """A plan came into force."""
        fleet = ", ".join(f"{n} {c}" for n, c in plan.body["backends"].items())
        why = f": {plan.body['reason']}" if self.plans else ""
        cost = f"${plan.body['usd_per_hour']:.2f}/h"
        self._console.print(f"[{plan.at_s:5.1f} s] plan {plan.name}: {fleet}, {cost}{why}")
        self.plans.append(plan)

    def line(self, at_s: float) -> str:
        """The state in one line."""
        kept = f"{self._met / self._done:.1%}" if self._done else "–"
        mix = "conversation" if at_s < TURN_S else "code"
        return (
            f"[{at_s:5.1f} s] mostly {mix}: {self._done} of {len(self._trace)} done, "
            f"{self._failed} failed, {kept} within SLO"
        )


@click.command()
@click.option(
    "--config",
    "path",
    type=click.Path(path_type=Path),
    default=CONFIGS / "demo.yaml",
    help="Configuration; its backends are emulated.  [default: the shipped demo.yaml]",
)
@click.option(
    "--trace",
    "trace_path",
    type=click.Path(path_type=Path),
    default=CONFIGS / "workloads" / "azure-2023-turn.csv",
    help="Trace to replay.  [default: the shipped azure-2023-turn.csv]",
)
@click.option(
    "--json", "json_path", type=click.Path(path_type=Path), help="Write the result as JSON."
)
@click.option("--plot", "plot_path", type=click.Path(path_type=Path), help="Write it as a picture.")
@click.option("--log", "log_path", type=click.Path(path_type=Path), help="Keep the gateway's log.")
def demo(
    path: Path,
    trace_path: Path,
    json_path: Path | None,
    plot_path: Path | None,
    log_path: Path | None,
) -> None:
    """Show the whole loop on this machine, without a GPU, in under two minutes.

    Starts emulated backends (A10G, A100-80G and H100 with Llama-3-8B, in real time), plans a fleet
    for real traffic, and replays such traffic through the gateway. Halfway it turns from
    conversation to code; the gateway notices, plans again and swaps its table under load.
    """
    console = Console()
    try:
        if plot_path is not None:
            canvas()  # says now, and not at the end, that there is nothing to draw with
        result = uvloop.run(perform(path, read_trace(trace_path), console, log_path))
        if json_path is not None:
            json_path.write_text(json.dumps(summary.to_json(result), indent=1))
        if plot_path is not None:
            draw_demo(result.plans, plot_path)
    except (PlannerError, ConfigError, LocalFleetError, NoPicture, OSError) as error:
        raise click.ClickException(str(error)) from error
    for table in summary.tables(result):
        console.print()
        console.print(table)
    console.print()
    console.print(closing(result))
    if result.failed:
        raise click.exceptions.Exit(1)


async def perform(path: Path, trace: Trace, console: Console, log_path: Path | None) -> DemoSummary:
    """Sets the stage, replays, and adds up."""
    console.print("starting the emulated backends and the gateway …")
    async with LocalFleet(path, log=log_path) as local_fleet:
        slo_class = local_fleet.loaded.buckets.classes[0]
        progress = Progress(console, slo_class.slo, trace)
        async with aiohttp.ClientSession() as session:
            progress.plan(await _seen(session, local_fleet.url, 0.0))
            clock = asyncio.get_running_loop().time
            start_s = clock()
            watching = asyncio.create_task(
                _watch(session, local_fleet.url, progress, lambda: clock() - start_s)
            )
            showing = asyncio.create_task(_show(console, progress, lambda: clock() - start_s))
            try:
                records = await replay(
                    local_fleet.url, trace, model=slo_class.model, on_record=progress.record
                )
            finally:
                watching.cancel()
                showing.cancel()
                await asyncio.gather(watching, showing, return_exceptions=True)
    return summary.judge(records, progress.plans, slo_class.slo, turn_s=TURN_S)


async def _seen(session: aiohttp.ClientSession, url: str, at_s: float) -> PlanSeen:
    async with session.get(f"{url}/cuvee/plan") as reply:
        return PlanSeen(at_s=at_s, body=await reply.json())


async def _watch(
    session: aiohttp.ClientSession, url: str, progress: Progress, now: Callable[[], float]
) -> None:
    """Notes every plan that comes into force."""
    while True:
        await asyncio.sleep(LOOK_S)
        plan = await _seen(session, url, now())
        if plan.name != progress.plans[-1].name:
            progress.plan(plan)


async def _show(console: Console, progress: Progress, now: Callable[[], float]) -> None:
    """A line that renews itself on a terminal, a line now and then elsewhere."""
    if not console.is_terminal:
        while True:
            await asyncio.sleep(LINE_S)
            console.print(progress.line(now()))
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while True:
            live.update(Text(progress.line(now())), refresh=True)
            await asyncio.sleep(LOOK_S)


def closing(result: DemoSummary) -> str:
    """The run in a sentence or two."""
    swaps = len(result.plans) - 1
    swapped = "one plan" if swaps == 1 else f"{swaps} plans"
    first = f"{result.requests} requests, {result.failed} failed, {swapped} swapped in"
    kept = result.periods[-1].attainment
    if kept is None:
        return f"{first}."
    promise = f"TTFT ≤ {result.slo.ttft_s:g} s and TPOT ≤ {result.slo.tpot_s * 1e3:g} ms"
    return (
        f"{first}; {kept.share:.1%} kept {promise} ({result.slo.attainment:.0%} promised). "
        f"The load generator itself was late by {result.lag_p99_s * 1e3:.0f} ms at p99."
    )
