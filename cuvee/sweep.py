"""The subcommand `sweep`: what `compare` compares, over many rates and promises."""

import json
from dataclasses import asdict
from pathlib import Path

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from cuvee.compare import LENGTH, PLAYS, given, length
from cuvee.options import ARRIVALS, CONFIG, JSON, TRACE, table_columns
from gateway.rehearsal.traffic import Process
from loadtest.compare.comparison import ComparedFleet, case, compare_all, costs
from planner.errors import PlannerError


@click.command()
@CONFIG
@TRACE
@click.option("--rates", required=True, help="Requests/s, with commas: 5,10,20.")
@click.option("--tpot", help="TPOT targets in seconds, with commas; default: the configured one.")
@click.option("--simulate", "played", is_flag=True, help="Refine, play every fleet; slow.")
@ARRIVALS
@PLAYS
@LENGTH
@JSON
def sweep(
    path: Path | None,
    trace_path: Path | None,
    rates: str,
    tpot: str | None,
    played: bool,
    process: Process,
    seeds: int,
    requests: int | None,
    as_json: bool,
) -> None:
    """Cost over rates and TPOT targets: the mix, every single GPU type, Mélange and AIBrix.

    Without --simulate Cuvée's and the single types' fleets are those of its integer program; with
    it they are refined and certified, and the attainment of every fleet stands beside its cost.
    """
    loaded, trace = given(path, trace_path)
    targets = _numbers("--tpot", tpot) if tpot else [loaded.buckets.classes[0].slo.tpot_s]
    console = Console(width=table_columns())
    points: list[tuple[float, float, list[ComparedFleet]]] = []
    try:
        with console.status("planning") as status:
            for tpot_s in targets:
                for rate in _numbers("--rates", rates):
                    status.update(f"TPOT {tpot_s:g} s, {rate:g} req/s")
                    long = requests or length(rate)
                    asked = case(
                        loaded, trace, rate=rate, process=process, requests=long, tpot_s=tpot_s
                    )
                    found = compare_all(asked, seeds=seeds) if played else costs(asked)
                    points.append((tpot_s, rate, found))
    except PlannerError as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        values = [
            {"tpot_s": tpot_s, "requests_per_s": rate, "entries": [asdict(e) for e in found]}
            for tpot_s, rate, found in points
        ]
        click.echo(json.dumps(values, indent=1))
    else:
        console.print(sweep_table(points))


def sweep_table(points: list[tuple[float, float, list[ComparedFleet]]]) -> Table:
    """One row per rate and target, one column per way to serve it: $/h, and attainment if known."""
    names = list(dict.fromkeys(entry.name for *_, found in points for entry in found))
    grid = Table(title="$/h by rate and TPOT", title_justify="left", box=SIMPLE_HEAD)
    for heading in ("TPOT s", "req/s", *names):
        grid.add_column(heading, justify="right")
    for tpot_s, rate, found in points:
        cells = {entry.name: _cell(entry) for entry in found}
        grid.add_row(f"{tpot_s:g}", f"{rate:g}", *(cells.get(name, "–") for name in names))
    return grid


def _cell(entry: ComparedFleet) -> str:
    if entry.usd_per_hour is None:
        return "–"
    seen = f" {entry.attainment.mean:.1%}" if entry.attainment else ""
    return f"{entry.usd_per_hour:.2f}{seen}"


def _numbers(option: str, text: str) -> list[float]:
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        raise click.UsageError(f"{option}: not numbers with commas: {text}") from None
    if not all(0 < value < float("inf") for value in values):
        raise click.UsageError(f"{option}: must be positive and finite: {text}")
    return values
