"""The subcommand `compare`: rivals in one table, for one demand.

Owns what is printed, and the paper's own instance with the times of both solvers. What is compared
is in `loadtest/compare/comparison.py`.
"""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from cuvee.options import ARRIVALS, FILE, JSON, configured, table_columns
from gateway.config.load import Loaded
from gateway.rehearsal.traffic import Process
from loadtest.compare.comparison import MELANGE, ComparedFleet, case, compare_all
from planner.errors import PlannerError
from planner.program import baselines
from planner.program.baselines import Allocation
from planner.program.published import read_published
from planner.traffic.trace import Trace, read_trace

PAPER = Path(__file__).resolve().parent.parent / "configs" / "melange" / "arena.yaml"
SEEDS = 8
PLAY_S = 600  # of traffic in one play: shorter ones end before slow overloads show
REQUESTS = 3000  # at the least
RUNS = 5  # of a solver, for its median time

# Unlike most commands', they may be left out: `compare --paper` needs neither.
CONFIG = click.option("--config", "path", type=FILE, help="Configuration file.")
TRACE = click.option("--trace", "trace_path", type=FILE, help="Trace CSV whose sizes are served.")
COUNT = click.IntRange(min=2)
PLAYS = click.option(
    "--seeds", type=COUNT, default=SEEDS, show_default=True, help="Plays of every fleet."
)
LENGTH = click.option(
    "--requests", type=COUNT, help=f"Of one play; default: {PLAY_S} s of them, {REQUESTS} or more."
)


def table(entries: list[ComparedFleet], title: str) -> Table:
    """Entries for people; the ratio is to Mélange."""
    grid = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    for heading in ("", "fleet"):
        grid.add_column(heading)
    for heading in ("$/h", "× Mélange", "attainment", "95 % interval", "worst"):
        grid.add_column(heading, justify="right")
    base = next((e.usd_per_hour for e in entries if e.name == MELANGE), None)
    for entry in entries:
        fleet = ", ".join(f"{name} {count}" for name, count in entry.backends if count)
        usd = entry.usd_per_hour
        cells = [entry.name, fleet] if usd is not None else [entry.name, f"– {entry.note}"]
        cells.append("–" if usd is None else f"{usd:.2f}")
        cells.append("–" if usd is None or not base else f"{usd / base:.2f}")
        if seen := entry.attainment:
            cells += [f"{seen.mean:.2%}", f"{seen.low:.2%}–{seen.high:.2%}", f"{seen.worst:.1%}"]
        grid.add_row(*cells)
    return grid


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperRow:
    """The paper's own instance at one rate: singles by GPU, then the mix, counts in GPU order."""

    rate: float
    singles: dict[str, int]
    reported: dict[str, int]
    melange: tuple[int, ...]
    melange_usd: float
    reported_usd: float
    optimum: tuple[int, ...]
    optimum_usd: float
    gap: float
    melange_s: float
    optimum_s: float

    @property
    def faster(self) -> float:
        return self.melange_s / self.optimum_s


def paper(path: Path = PAPER, *, runs: int = RUNS) -> list[PaperRow]:
    """Mélange's own instance, solved in both formulations; times are medians over runs."""
    given = read_published(path)
    rows = []
    for place, rate in enumerate(given.reported.rates):
        instance = given.instance(rate)
        slices = given.slice_factor
        theirs, melange_s = _timed(partial(baselines.melange, instance, slices=slices), runs)
        ours, optimum_s = _timed(partial(baselines.optimum, instance), runs)
        alone = {gpu: baselines.single_type(instance, gpu) for gpu in instance.gpus}
        rows.append(
            PaperRow(
                rate=rate,
                singles={gpu: sum(one.counts) for gpu, one in alone.items() if one},
                reported={gpu: n[place] for gpu, n in given.reported.single_types.items()},
                melange=theirs.counts,
                melange_usd=theirs.usd_per_hour,
                reported_usd=given.reported.melange_usd_per_hour[place],
                optimum=ours.counts,
                optimum_usd=ours.usd_per_hour,
                gap=ours.gap or 0.0,
                melange_s=melange_s,
                optimum_s=optimum_s,
            )
        )
    return rows


def _timed(solve_: Callable[[], Allocation], runs: int) -> tuple[Allocation, float]:
    took = []
    for _ in range(runs):
        start_s = time.perf_counter()
        found = solve_()
        took.append(time.perf_counter() - start_s)
    return found, median(took)


def paper_table(rows: list[PaperRow]) -> Table:
    """The paper's instance for people: counts as `ours (reported)` where they differ."""
    grid = Table(
        title="Mélange's own instance (Arena, February profile)",
        title_justify="left",
        box=SIMPLE_HEAD,
    )
    gpus = list(rows[0].singles)
    headings = ["req/s", *gpus, "slices", "$/h", "(paper)", "continuous", "$/h", "gap"]
    for heading in (*headings, "CBC s", "HiGHS s", "×"):
        grid.add_column(heading, justify="right")
    for row in rows:
        singles = [
            f"{row.singles[gpu]}"
            if row.singles[gpu] == row.reported[gpu]
            else f"{row.singles[gpu]} ({row.reported[gpu]})"
            for gpu in gpus
        ]
        grid.add_row(
            f"{row.rate:g}",
            *singles,
            "/".join(map(str, row.melange)),
            f"{row.melange_usd:.2f}",
            f"({row.reported_usd:.2f})",
            "/".join(map(str, row.optimum)),
            f"{row.optimum_usd:.2f}",
            f"{row.gap:.2%}",
            f"{row.melange_s:.3f}",
            f"{row.optimum_s:.4f}",
            f"{row.faster:.0f}",
        )
    return grid


@click.command()
@CONFIG
@TRACE
@click.option("--rate", type=float, help="Requests/s to scale the trace to; default: its own rate.")
@ARRIVALS
@PLAYS
@LENGTH
@click.option("--paper", "published", is_flag=True, help="Only Mélange's own published instance.")
@JSON
def compare(
    path: Path | None,
    trace_path: Path | None,
    rate: float | None,
    process: Process,
    seeds: int,
    requests: int | None,
    published: bool,
    as_json: bool,
) -> None:
    """Put Cuvée's plan beside those of Mélange, of AIBrix and of every single GPU type.

    Each plans the same demand in its own way and is played with its own router on the same modelled
    engines and traffic, with as many GPUs of every configured type as it wants. Attainment is over
    fresh seeds. With --paper: the instance that Mélange's authors published, both formulations
    solved and timed; no configuration is needed.
    """
    console = Console(width=table_columns())
    if published:
        rows = paper()
        if as_json:
            click.echo(json.dumps([asdict(row) for row in rows], indent=1))
        else:
            console.print(paper_table(rows))
        return
    loaded, trace = given(path, trace_path)
    try:
        with console.status("planning") as status:
            long = requests or length(trace.rate if rate is None else rate)
            asked = case(loaded, trace, rate=rate, process=process, requests=long)
            entries = compare_all(asked, seeds=seeds, told=status.update)
    except PlannerError as error:
        raise click.ClickException(str(error)) from error
    slo = asked.demand.buckets.classes[0].slo
    title = f"{asked.model} at {asked.demand.total_rate:g} req/s, TPOT {slo.tpot_s:g} s, {process}"
    if as_json:
        click.echo(json.dumps([asdict(entry) for entry in entries], indent=1))
    else:
        console.print(table(entries, title))


def length(rate: float | None) -> int:
    return max(REQUESTS, round(PLAY_S * (rate or 0.0)))


def given(path: Path | None, trace_path: Path | None) -> tuple[Loaded, Trace]:
    if path is None or trace_path is None:
        raise click.UsageError("--config and --trace are needed")
    try:
        return configured(path), read_trace(trace_path)
    except PlannerError as error:
        raise click.ClickException(str(error)) from error
