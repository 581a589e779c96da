"""The subcommand `overload`: cases in, a table of what is admitted and attains out."""

import json
from dataclasses import asdict

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from cuvee.options import JSON, table_columns
from cuvee.progress import Work
from loadtest.compare.overload import CASES, OverloadCase, PhaseResult, play

Played = list[tuple[OverloadCase, list[list[PhaseResult]]]]


@click.command()
@click.option(
    "--case",
    "names",
    multiple=True,
    type=click.Choice([case.name for case in CASES]),
    help="Only this one, and others given so; default: all.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of arrivals and sizes.")
@JSON
def overload(names: tuple[str, ...], seed: int, as_json: bool) -> None:
    """Play more work than capacity, with the gateway's own admission.

    In virtual time. Capacity is the rate of the same requests at which the mean load of the fullest
    pool is 1. One caller of two sends a tenth of all requests. Phases after the first are counted
    from their tenth second on.
    """
    console = Console(width=table_columns())
    chosen = [case for case in CASES if not names or case.name in names]
    played: Played = []
    with Work("playing", len(chosen)) as work:
        for case in chosen:
            work.step(case.name)
            played.append((case, play(case, seed)))
    if as_json:
        click.echo(json.dumps(as_values(played), indent=1))
    else:
        console.print(table(played))


def as_values(played: Played) -> list[dict[str, object]]:
    """The results as plain JSON values."""
    return [
        {
            "case": case.name,
            "backends": dict(case.backends),
            "workers": case.workers,
            "phases": [
                {"load": load, "seconds": seconds, "groups": [asdict(group) for group in groups]}
                for (load, seconds), groups in zip(case.phases, phases, strict=True)
            ],
        }
        for case, phases in played
    ]


def table(played: Played) -> Table:
    """One row for each phase and each part of its requests."""
    shown = Table(title="overload, in virtual time", title_justify="left", box=SIMPLE_HEAD)
    shown.add_column("case")
    shown.add_column("requests of")
    for heading in ("offered", "admitted", "attained", "goodput", "refused after"):
        shown.add_column(heading, justify="right")
    for case, phases in played:
        for number, ((load, _), groups) in enumerate(zip(case.phases, phases, strict=True)):
            for group in groups:
                whole = group.group == "all"
                title = case.name if number == 0 else f"then {load:g} ×"
                shown.add_row(
                    title if whole else "",
                    group.group,
                    f"{group.load:.2f}",
                    f"{group.admitted:.1%}",
                    f"{group.attained:.2%}",
                    f"{group.goodput:.3f}" if whole else "",
                    "–" if group.refused_s is None else f"{group.refused_s:.2f} s",
                )
        shown.add_section()
    return shown
