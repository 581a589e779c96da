"""The subcommand `demo`: the whole loop on one machine, with real traffic and emulated backends."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import aiohttp
import click
import uvloop
from rich.console import Console
from rich.live import Live

from cuvee.demo_progress import DemoProgress
from cuvee.options import FILE, JSON_FILE
from cuvee.pictures import NoPicture, canvas, draw_demo
from gateway.errors import ConfigError
from loadtest.demo import headline, summary
from loadtest.demo.fleet import LocalFleet
from loadtest.demo.gateway import LocalFleetError
from loadtest.demo.race import Race
from loadtest.demo.summary import DemoSummary, PlanSeen
from loadtest.replay.send import ReplayOptions, replay
from planner import shipped
from planner.errors import PlannerError
from planner.traffic.trace import Trace, read_trace

CONFIGS = shipped.folder()
TURN_S = 45.0  # configs/workloads/ATTRIBUTION.md: where conversation turns into code
POLL_S = 0.5  # how often the demo asks which plan is in force
LINE_S = 10.0  # without a terminal: a line of progress this often


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
    default=CONFIGS / "workloads" / "azure-2023-race.csv",
    help="Trace to replay.  [default: the shipped azure-2023-race.csv]",
)
@JSON_FILE
@click.option("--plot", "plot_path", type=FILE, help="Write it as a picture.")
@click.option("--log", "log_path", type=FILE, help="Keep the gateway's log.")
@click.option("--verbose", is_flag=True, help="Also print plans, shares, latencies and all prices.")
def demo(
    path: Path,
    trace_path: Path,
    json_path: Path | None,
    plot_path: Path | None,
    log_path: Path | None,
    verbose: bool,
) -> None:
    """Show the whole loop on this machine, without a GPU, in under three minutes.

    Starts emulated backends (A10G, A100-80G and H100 with Llama-3-8B, in real time), plans a fleet
    for real traffic, and replays such traffic through the gateway. Then code completion comes on
    top and traffic more than doubles; the gateway notices, plans again and swaps its table under
    load. Each time the safe plan comes first, and the cheapest certified one as soon as it is
    known. The best fleet of one GPU type, and round robin on Cuvée's own mix, race along: both are
    played in virtual time on the same requests.
    """
    console = Console()
    try:
        if plot_path is not None:
            canvas()  # without matplotlib it fails now, and not after two minutes
        result = uvloop.run(run_demo(path, read_trace(trace_path), console, log_path))
        if json_path is not None:
            json_path.write_text(json.dumps(summary.to_json(result), indent=1))
        if plot_path is not None:
            draw_demo(result, plot_path)
    except (PlannerError, ConfigError, LocalFleetError, NoPicture, OSError) as error:
        raise click.ClickException(str(error)) from error
    for table in summary.tables(result) if verbose else ():
        console.print()
        console.print(table)
    console.print()
    for line in closing(result, verbose=verbose):
        console.print(line, highlight=False, soft_wrap=True)
    if result.failed:
        raise click.exceptions.Exit(1)


async def run_demo(
    path: Path, trace: Trace, console: Console, log_path: Path | None
) -> DemoSummary:
    """Start backends and gateway, replay the trace, and sum up the run."""
    console.print("starting the emulated backends and the gateway …")
    async with LocalFleet(path, log=log_path) as local_fleet:
        console.print(f"its page: {local_fleet.admin_url}/", highlight=False)
        loaded = local_fleet.loaded
        slo_class = loaded.buckets.classes[0]
        gpus = {pool.name: pool.gpu for pool in loaded.pools}
        race = Race(loaded, trace)
        progress = DemoProgress(console, slo_class.slo, trace, race, gpus, TURN_S)
        async with aiohttp.ClientSession() as session:
            watch = _PlanWatch(session, local_fleet.admin_url, progress, race)
            await watch.look(0.0)
            clock = asyncio.get_running_loop().time
            start_s = clock()
            tasks = (
                asyncio.create_task(watch.run(lambda: clock() - start_s)),
                asyncio.create_task(_show(progress, lambda: clock() - start_s)),
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
    return summary.summarise(
        records,
        progress.plans,
        slo_class.slo,
        turn_s=TURN_S,
        gpus=gpus,
        others=(race.single, race.round_robin),
    )


class _PlanWatch:
    """Asks which plan is in force, and tells the race and the screen of every new one."""

    def __init__(
        self, session: aiohttp.ClientSession, admin_url: str, progress: DemoProgress, race: Race
    ) -> None:
        self._session = session
        self._url = f"{admin_url}/cuvee/plan"
        self._progress = progress
        self._race = race

    async def run(self, now: Callable[[], float]) -> None:
        """Look again and again. now: seconds since the replay's start."""
        while True:
            await asyncio.sleep(POLL_S)
            await self.look(now())

    async def look(self, at_s: float) -> None:
        async with self._session.get(self._url) as reply:
            plan = PlanSeen(at_s=at_s, body=await reply.json())
        known = self._progress.plans
        if known and known[-1].name == plan.name:
            known[-1] = replace(plan, at_s=known[-1].at_s)  # its certificate may have come
            return
        self._progress.on_plan(plan)
        # A thread: to play the rest of the requests takes half a second, and others are due.
        await asyncio.to_thread(self._race.on_plan, plan.body, at_s)


async def _show(progress: DemoProgress, now: Callable[[], float]) -> None:
    """Show a panel that renews itself on a terminal, and print a line now and then elsewhere."""
    console = progress.console
    if not console.is_terminal:
        while True:
            await asyncio.sleep(LINE_S)
            click.echo(progress.line(now()), err=True)
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while True:
            live.update(progress.panel(now()), refresh=True)
            await asyncio.sleep(POLL_S)


def closing(result: DemoSummary, *, verbose: bool = False) -> list[str]:
    """The run in six lines at most."""
    late = f"The load generator itself was late by {result.lag_p99_s * 1e3:.0f} ms at p99"
    more = "." if verbose else "; --verbose prints plans, shares and latencies."
    return [*headline.headline(result), late + more]
