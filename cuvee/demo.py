"""The subcommand `demo`: the whole loop on one machine, with real traffic and emulated backends."""

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

from cuvee.options import FILE, JSON_FILE
from cuvee.pictures import NoPicture, canvas, draw_demo
from gateway.errors import ConfigError
from loadtest.demo import summary
from loadtest.demo.fleet import LocalFleet, LocalFleetError
from loadtest.demo.summary import DemoSummary, PlanSeen
from loadtest.replay import report
from loadtest.replay.record import Record
from loadtest.replay.send import ReplayOptions, replay
from planner import shipped
from planner.errors import PlannerError
from planner.slo import Slo
from planner.traffic.trace import Trace, read_trace

CONFIGS = shipped.folder()
TURN_S = 45.0  # configs/workloads/ATTRIBUTION.md: where conversation turns into code
POLL_S = 0.5  # how often the demo asks which plan is in force
LINE_S = 10.0  # without a terminal: a line of progress this often


class DemoProgress:
    """What a person sees while the demo runs: records and plans, added up as they come."""

    def __init__(self, console: Console, slo: Slo, trace: Trace) -> None:
        self._console = console
        self._slo = slo
        self._trace = trace
        self._done = self._failed = self._met = 0  # requests
        self.plans: list[PlanSeen] = []

    def on_record(self, record: Record) -> None:
        """Count a request that has ended."""
        self._done += 1
        self._failed += record.error is not None
        self._met += report.met_slo(record, self._slo)

    def on_plan(self, plan: PlanSeen) -> None:
        """Print a plan that has come into force, with the reason for every plan but the first."""
        fleet = ", ".join(f"{n} {c}" for n, c in plan.body["backends"].items())
        why = f": {plan.body['reason']}" if self.plans else ""
        cost = f"${plan.body['usd_per_hour']:.2f}/h"
        self._console.print(f"[{plan.at_s:5.1f} s] plan {plan.name}: {fleet}, {cost}{why}")
        self.plans.append(plan)

    def line(self, at_s: float) -> str:
        """The state in one line."""
        attained = f"{self._met / self._done:.1%}" if self._done else "–"
        mix = "conversation" if at_s < TURN_S else "code"
        return (
            f"[{at_s:5.1f} s] mostly {mix}: {self._done} of {len(self._trace)} done, "
            f"{self._failed} failed, {attained} within SLO"
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
@JSON_FILE
@click.option("--plot", "plot_path", type=FILE, help="Write it as a picture.")
@click.option("--log", "log_path", type=FILE, help="Keep the gateway's log.")
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
            canvas()  # without matplotlib it fails now, and not after two minutes
        result = uvloop.run(run_demo(path, read_trace(trace_path), console, log_path))
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


async def run_demo(
    path: Path, trace: Trace, console: Console, log_path: Path | None
) -> DemoSummary:
    """Start backends and gateway, replay the trace, and sum up the run."""
    console.print("starting the emulated backends and the gateway …")
    async with LocalFleet(path, log=log_path) as local_fleet:
        slo_class = local_fleet.loaded.buckets.classes[0]
        progress = DemoProgress(console, slo_class.slo, trace)
        async with aiohttp.ClientSession() as session:
            progress.on_plan(await _plan_in_force(session, local_fleet.admin_url, 0.0))
            clock = asyncio.get_running_loop().time
            start_s = clock()
            tasks = (
                asyncio.create_task(
                    _watch_plans(
                        session, local_fleet.admin_url, progress, lambda: clock() - start_s
                    )
                ),
                asyncio.create_task(_show_line(console, progress, lambda: clock() - start_s)),
            )
            try:
                options = ReplayOptions(model=slo_class.model)
                records = await replay(
                    local_fleet.url, trace, options, on_record=progress.on_record
                )
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
    return summary.summarise(records, progress.plans, slo_class.slo, turn_s=TURN_S)


async def _plan_in_force(session: aiohttp.ClientSession, admin_url: str, at_s: float) -> PlanSeen:
    async with session.get(f"{admin_url}/cuvee/plan") as reply:
        return PlanSeen(at_s=at_s, body=await reply.json())


async def _watch_plans(
    session: aiohttp.ClientSession, admin_url: str, progress: DemoProgress, now: Callable[[], float]
) -> None:
    """Report every plan that comes into force. now: seconds since the replay's start."""
    while True:
        await asyncio.sleep(POLL_S)
        plan = await _plan_in_force(session, admin_url, now())
        if plan.name != progress.plans[-1].name:
            progress.on_plan(plan)


async def _show_line(console: Console, progress: DemoProgress, now: Callable[[], float]) -> None:
    """Show a line that renews itself on a terminal, and print one now and then elsewhere."""
    if not console.is_terminal:
        while True:
            await asyncio.sleep(LINE_S)
            console.print(progress.line(now()))
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while True:
            live.update(Text(progress.line(now())), refresh=True)
            await asyncio.sleep(POLL_S)


def closing(result: DemoSummary) -> str:
    """The run in a sentence or two."""
    swaps = len(result.plans) - 1
    swapped = "one plan" if swaps == 1 else f"{swaps} plans"
    outcome = f"{result.requests} requests, {result.failed} failed, {swapped} swapped in"
    attainment = result.periods[-1].attainment
    if attainment is None:
        return f"{outcome}."
    promise = f"TTFT ≤ {result.slo.ttft_s:g} s and TPOT ≤ {result.slo.tpot_s * 1e3:g} ms"
    return (
        f"{outcome}; {attainment.share:.1%} kept {promise} ({result.slo.attainment:.0%} promised). "
        f"The load generator itself was late by {result.lag_p99_s * 1e3:.0f} ms at p99."
    )
