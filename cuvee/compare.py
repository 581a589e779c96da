"""The subcommand `compare`: Cuvée, Mélange, AIBrix and single GPU types in one table.

Owns the options and what is printed. The comparison is in `loadtest/compare/comparison.py`, the
paper's own instance in `loadtest/compare/paper.py`.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import wraps
from pathlib import Path
from typing import Any

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from cuvee.options import (
    ARRIVALS,
    JSON,
    OPTIONAL_CONFIG,
    OPTIONAL_TRACE,
    RATE,
    configured,
    table_columns,
)
from cuvee.progress import Work
from gateway.config.load import Loaded
from gateway.rehearsal.traffic import Process
from loadtest.compare.comparison import MELANGE, ComparedFleet, build_case, compare_fleets
from loadtest.compare.paper import (
    PaperRow,
    PaperSaving,
    PaperTableRow,
    solve_paper,
    solve_tables,
)
from planner import shipped
from planner.errors import PlannerError
from planner.proof.length import REQUESTS
from planner.traffic.trace import Trace, read_trace

PAPER = shipped.folder() / "melange" / "arena.yaml"
TABLES = shipped.folder() / "melange" / "paper.yaml"
WHOLE = 1 - 1e-9  # a share that is all but for rounding
SEEDS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class PlayOptions:
    """How every fleet is played. requests: that one play counts at least."""

    process: Process
    seeds: int
    requests: int


def play_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add --arrivals, --seeds and --requests, and hand them to the command as one `PlayOptions`."""

    @ARRIVALS
    @click.option(
        "--seeds",
        type=click.IntRange(min=2),  # Student's t needs two plays
        default=SEEDS,
        show_default=True,
        help="Plays of every fleet.",
    )
    @click.option(
        "--requests",
        type=click.IntRange(min=2),
        default=REQUESTS,
        show_default=True,
        help="That one play counts at least; five minutes, and three of the longest stays of a "
        "request, are counted anyway.",
    )
    @wraps(command)
    def with_plays(process: Process, seeds: int, requests: int, **options: Any) -> None:
        command(plays=PlayOptions(process=process, seeds=seeds, requests=requests), **options)

    return with_plays


@click.command()
@OPTIONAL_CONFIG
@OPTIONAL_TRACE
@RATE
@play_options
@click.option("--paper", "published", is_flag=True, help="Only Mélange's paper: its tables.")
@JSON
def compare(
    path: Path | None,
    trace_path: Path | None,
    rate: float | None,
    plays: PlayOptions,
    published: bool,
    as_json: bool,
) -> None:
    """Put Cuvée's plan beside those of Mélange, AIBrix and single GPU types.

    Each plans the same demand in its own way and is played with its own router on the same modelled
    engines and traffic, with as many GPUs of every configured type as it wants. Attainment is over
    fresh seeds. With --paper: the instance that Mélange's authors published, both formulations
    solved and timed, and the six tables of their paper, ours beside theirs; no configuration is
    needed.
    """
    console = Console(width=table_columns())
    if published:  # its demand is in the file: neither configuration nor trace is read
        try:
            rows, tables = solve_paper(PAPER), solve_tables(TABLES)
        except PlannerError as error:
            raise click.ClickException(str(error)) from error
        if as_json:
            body = {
                "instance": [asdict(row) for row in rows],
                "tables": [asdict(row) for row in tables],
            }
            click.echo(json.dumps(body, indent=1))
        else:
            console.print(
                "Mélange's own instance (Arena, February profile)\n", *paper_tables(rows), sep="\n"
            )
            console.print(*saving_tables(tables), sep="\n")
        return
    loaded, trace = read_inputs(path, trace_path)
    try:
        with Work("planning") as work:
            requests = plays.requests
            case = build_case(loaded, trace, rate=rate, process=plays.process, requests=requests)
            fleets = compare_fleets(case, seeds=plays.seeds, progress=work.say)
    except PlannerError as error:
        raise click.ClickException(str(error)) from error
    tpot_s = case.demand.buckets.classes[0].slo.tpot_s
    at = f"{case.demand.total_rate:g} req/s, TPOT {tpot_s:g} s, {plays.process}"
    if as_json:
        click.echo(json.dumps([asdict(fleet) for fleet in fleets], indent=1))
    else:
        console.print(fleets_table(fleets, f"{case.model} at {at}"))


def read_inputs(path: Path | None, trace_path: Path | None) -> tuple[Loaded, Trace]:
    """The configuration and the trace of a comparison, or a message of what is wrong with them."""
    if path is None or trace_path is None:
        raise click.UsageError("--config and --trace are needed")
    try:
        loaded = configured(path).to_rent()
        return loaded, read_trace(trace_path, model=next(iter(loaded.config.models)))
    except PlannerError as error:
        raise click.ClickException(str(error)) from error


def fleets_table(fleets: list[ComparedFleet], title: str) -> Table:
    """Fleets for people; the ratio is to Mélange."""
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    for heading in ("", "fleet"):
        table.add_column(heading)
    for heading in ("$/h", "× Mélange", "attainment", "95 % interval", "worst"):
        table.add_column(heading, justify="right")
    melange_usd = next((f.usd_per_hour for f in fleets if f.name == MELANGE), None)
    for fleet in fleets:
        counts = ", ".join(f"{name} {count}" for name, count in fleet.backends if count)
        usd = fleet.usd_per_hour
        cells = [fleet.name, counts] if usd is not None else [fleet.name, f"– {fleet.note}"]
        cells.append("–" if usd is None else f"{usd:.2f}")
        cells.append("–" if usd is None or not melange_usd else f"{usd / melange_usd:.2f}")
        if played := fleet.attainment:
            interval = f"{played.low:.2%}–{played.high:.2%}"
            cells += [f"{played.mean:.2%}", interval, f"{played.worst:.1%}"]
        table.add_row(*cells)
    return table


def paper_tables(rows: list[PaperRow]) -> tuple[Table, Table, Table]:
    """The paper's instance for people, in tables that fit into 80 columns: fleets of one type
    (counts as `ours (reported)` where they differ), mixed fleets, and the time to solve."""
    gpus = list(rows[0].singles)
    singles = _numbers("Fleets of one GPU type", ("req/s", *gpus))
    mixed = _numbers(
        "Cheapest mix, by slices and by continuous shares",
        ("req/s", "slices", "$/h", "(paper)", "continuous", "$/h", "gap"),
    )
    times = _numbers("Seconds to solve", ("req/s", "slices, CBC", "continuous, HiGHS", "×"))
    for row in rows:
        rate = f"{row.rate:g}"
        counts = [(row.singles[gpu], row.reported[gpu]) for gpu in gpus]
        singles.add_row(rate, *(f"{n}" if n == said else f"{n} ({said})" for n, said in counts))
        mixed.add_row(
            rate,
            "/".join(map(str, row.melange)),
            f"{row.melange_usd:.2f}",
            f"({row.reported_usd:.2f})",
            "/".join(map(str, row.optimum)),
            f"{row.optimum_usd:.2f}",
            f"{row.gap:.2%}",
        )
        times.add_row(rate, f"{row.melange_s:.3f}", f"{row.optimum_s:.4f}", f"{row.faster:.0f}")
    return singles, mixed, times


def saving_tables(rows: list[PaperTableRow]) -> list[Table]:
    """The paper's tables for people: the cheapest mix, and what it saves of every type alone, as
    `ours (paper's)`. A type that cannot serve every size has none of its own."""
    tables = []
    for number in dict.fromkeys(row.table for row in rows):
        own = [row for row in rows if row.table == number]
        first = own[0]
        title = (
            f"Table {number}: {first.dataset}, TPOT {first.tpot_s * 1e3:g} ms: saving against one "
            f"type, ours (paper's)\n{_source(first)}"
        )
        fleet = "/".join(first.counts)
        table = _numbers(title, ("req/s", fleet, "$/h", "(paper)", *first.alone))
        for row in own:
            table.add_row(
                f"{row.rate:g}",
                "/".join(map(str, row.counts.values())),
                f"{row.usd_per_hour:.2f}",
                f"({row.paper_usd_per_hour:.2f})",
                *(_savings_cell(single) for single in row.alone.values()),
            )
        tables.append(table)
    return tables


def _source(row: PaperTableRow) -> str:
    """Where the throughputs of a table come from."""
    if not any(row.published.values()):
        return "throughputs: analytic profiles"
    if min(row.published.values()) > WHOLE:
        return "throughputs: published"
    shares = ", ".join(f"{gpu} {share:.0%}" for gpu, share in row.published.items())
    return f"throughputs: published for the sizes of {shares} of the requests, else analytic"


def _savings_cell(single: PaperSaving) -> str:
    """One saving as `ours (paper's)`."""
    ours = "–" if single.saving is None else f"{single.saving:.0%}"
    return ours if single.paper_saving is None else f"{ours} ({single.paper_saving:.0%})"


def _numbers(title: str, headings: tuple[str, ...]) -> Table:
    """An empty table of numbers."""
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    for heading in headings:
        table.add_column(heading, justify="right")
    return table
