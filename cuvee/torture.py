"""The subcommand `torture`: simulated worlds in, the first broken promise or a table out."""

import json
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context

import click
from rich.console import Console

from cuvee.options import JSON, table_columns
from cuvee.progress import Work
from gateway.runtime import without_signals
from loadtest.torture.ledger import EVENTS
from loadtest.torture.world import WorldResult, play

WORLD_H = 0.5  # hours of one world; more hours are more worlds, with the seeds that follow
SHOWN = 40  # last events of a world with a broken promise
ALL = 10_000_000


@click.command()
@click.option(
    "--hours", type=float, default=1.0, show_default=True, help="Of virtual time, in all."
)
@click.option("--seed", type=int, default=1, show_default=True, help="Of the first world.")
@click.option("--jobs", type=int, default=1, show_default=True, help="Processes.")
@click.option("--events", is_flag=True, help="Print all events; of one world only.")
@JSON
def torture(hours: float, seed: int, jobs: int, events: bool, as_json: bool) -> None:
    """Play the real gateway in a simulated world of faults.

    Engines crash, stall, lie and come back, workers die, clients leave, plans and configurations
    change; in virtual time, by a seed.

    Every world lasts half an hour at most; more hours are more worlds, each with the next seed. A
    promise that is broken ends the command with status 1, and with the command that plays it again.
    """
    console = Console(width=table_columns())
    lengths = _lengths(hours)
    if events:
        lengths, jobs = lengths[:1], 1
    began_s = time.monotonic()
    results: list[tuple[WorldResult, float]] = []
    with _processes(jobs) as processes, Work("playing worlds") as work:
        with without_signals(signal.SIGINT):
            worlds = [
                processes.submit(_play, seed + n, length, ALL if events else EVENTS)
                for n, length in enumerate(lengths)
            ]
        for world in worlds:
            work.say(f"{len(results)} of {len(worlds)} worlds")
            result, cpu_s = world.result()
            results.append((result, cpu_s))
            work.reach(len(results), len(worlds))
            if not as_json and not events:
                work.echo(_line(result, cpu_s))
    broken = [result for result, _ in results if result.broken is not None]
    if events:
        click.echo("\n".join(results[0][0].events))
    if as_json:
        click.echo(json.dumps([_values(result, cpu_s) for result, cpu_s in results], indent=1))
    else:
        console.print(_summary(results, time.monotonic() - began_s), highlight=False)
        for result in broken[:1]:
            click.echo("\n".join(result.events[-SHOWN:]))
            click.echo(f"seed {result.seed}, at {result.at_s:.1f} s: {result.broken}")
            click.echo(f"again: cuvee torture --seed {result.seed} --hours {result.hours:g}")
    if broken:
        sys.exit(1)


@contextmanager
def _processes(jobs: int) -> Iterator[ProcessPoolExecutor]:
    """Processes that have ended when the context is left, also in the middle of a world."""
    pool = ProcessPoolExecutor(jobs, mp_context=get_context("spawn"))
    try:
        yield pool
    except BaseException:
        for process in list((pool._processes or {}).values()):  # public only from Python 3.14 on
            process.kill()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _play(seed: int, hours: float, events: int) -> tuple[WorldResult, float]:
    began_s = time.process_time()
    return play(seed, hours, events=events), time.process_time() - began_s


def _lengths(hours: float) -> list[float]:
    """The hours of each world."""
    whole = int(hours / WORLD_H)
    rest = hours - whole * WORLD_H
    return [WORLD_H] * whole + ([rest] if rest > 1e-9 else [])


def _line(result: WorldResult, cpu_s: float) -> str:
    counts = result.counts
    state = "ok" if result.broken is None else f"BROKEN: {result.broken}"
    return (
        f"seed {result.seed}: {counts['requests']} requests, {counts['faults']} faults, "
        f"{cpu_s:.1f} s of CPU, {state}"
    )


def _summary(results: list[tuple[WorldResult, float]], wall_s: float) -> str:
    total: Counter[str] = Counter()
    for result, _ in results:
        total += result.counts
    calm, met = (sum(getattr(r, name) for r, _ in results) for name in ("calm", "met"))
    cpu_s = sum(cpu_s for _, cpu_s in results)
    lines = [
        f"{sum(r.at_s for r, _ in results) / 3600:.1f} hours in {len(results)} worlds, "
        f"{cpu_s:.0f} s of CPU, {wall_s:.0f} s: {total['requests'] / max(cpu_s, 1e-9):.0f} "
        "requests per second of CPU",
        f"{met / max(calm, 1):.2%} of {calm} admitted in calm times kept their promise",
        f"{sum(r.broken is not None for r, _ in results)} worlds with a broken promise",
    ]
    return "\n".join([*lines, *(f"  {count:8d}  {name}" for name, count in sorted(total.items()))])


def _values(result: WorldResult, cpu_s: float) -> dict[str, object]:
    return {
        "seed": result.seed,
        "hours": result.hours,
        "at_s": result.at_s,
        "broken": result.broken,
        "cpu_s": cpu_s,
        "calm": result.calm,
        "met": result.met,
        "counts": dict(result.counts),
    }
