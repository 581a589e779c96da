"""The subcommand `sweep`: what `compare` compares, over many rates and TPOT targets.

Owns the options and what is printed; the comparison is in `loadtest/compare/comparison.py`.
"""

import json
from dataclasses import asdict
from pathlib import Path

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from cuvee.compare import PlayOptions, play_options, read_inputs
from cuvee.options import CONFIG, JSON, TRACE, table_columns
from cuvee.progress import Work
from loadtest.compare.comparison import (
    ComparedFleet,
    build_case,
    compare_fleets,
    planned_costs,
)
from planner.errors import PlannerError

SweepPoint = tuple[float, float, list[ComparedFleet]]  # TPOT target in seconds, requests/s, fleets


@click.command()
@CONFIG
@TRACE
@click.option("--rates", required=True, help="Requests/s, with commas: 5,10,20.")
@click.option("--tpot", help="TPOT targets in seconds, with commas; default: the configured one.")
@click.option("--simulate", "played", is_flag=True, help="Refine, play every fleet; slow.")
@play_options
@JSON
def sweep(
    path: Path,
    trace_path: Path,
    rates: str,
    tpot: str | None,
    played: bool,
    plays: PlayOptions,
    as_json: bool,
) -> None:
    """Compare costs of fleets over rates and TPOT targets.

    The fleets: the mix, every single GPU type, those of Mélange and of AIBrix.

    Without --simulate Cuvée's and the single types' fleets are those of its integer program; with
    it they are refined and certified, and the attainment of every fleet stands beside its cost.
    """
    loaded, trace = read_inputs(path, trace_path)
    targets = _numbers("--tpot", tpot) if tpot else [loaded.buckets.classes[0].slo.tpot_s]
    console = Console(width=table_columns())
    points: list[SweepPoint] = []
    try:
        every = _numbers("--rates", rates)
        with Work("planning", len(targets) * len(every)) as work:
            for tpot_s in targets:
                for rate in every:
                    work.step(f"TPOT {tpot_s:g} s, {rate:g} req/s")
                    case = build_case(
                        loaded,
                        trace,
                        rate=rate,
                        process=plays.process,
                        requests=plays.requests,
                        tpot_s=tpot_s,
                    )
                    fleets = (
                        compare_fleets(case, seeds=plays.seeds) if played else planned_costs(case)
                    )
                    points.append((tpot_s, rate, fleets))
    except PlannerError as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        click.echo(json.dumps(as_values(points), indent=1))
    else:
        console.print(sweep_table(points))


def as_values(points: list[SweepPoint]) -> list[dict[str, object]]:
    """The points as plain JSON values."""
    return [
        {"tpot_s": tpot_s, "requests_per_s": rate, "entries": [asdict(f) for f in fleets]}
        for tpot_s, rate, fleets in points
    ]


def sweep_table(points: list[SweepPoint]) -> Table:
    """One row per rate and target, one column per way to serve it: $/h, and attainment if known."""
    names = list(dict.fromkeys(fleet.name for *_, fleets in points for fleet in fleets))
    table = Table(title="$/h by rate and TPOT", title_justify="left", box=SIMPLE_HEAD)
    for heading in ("TPOT s", "req/s", *names):
        table.add_column(heading, justify="right")
    for tpot_s, rate, fleets in points:
        cells = {fleet.name: _cell(fleet) for fleet in fleets}
        table.add_row(f"{tpot_s:g}", f"{rate:g}", *(cells.get(name, "–") for name in names))
    return table


def _cell(fleet: ComparedFleet) -> str:
    if fleet.usd_per_hour is None:
        return "–"
    attained = f" {fleet.attainment.mean:.1%}" if fleet.attainment else ""
    return f"{fleet.usd_per_hour:.2f}{attained}"


def _numbers(option: str, text: str) -> list[float]:
    """Numbers with commas between them. Raises UsageError that names the option."""
    try:
        values = [float(number) for number in text.split(",")]
    except ValueError:
        raise click.UsageError(f"{option}: not numbers with commas: {text}") from None
    if not all(0 < value < float("inf") for value in values):
        raise click.UsageError(f"{option}: must be positive and finite: {text}")
    return values
