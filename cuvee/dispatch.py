"""The subcommand `dispatch`: options in, a table of usable loads out. Computes nothing itself."""

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from cuvee.options import ARRIVALS, CONFIG, JSON, TRACE, configured, table_columns
from gateway.rehearsal.traffic import Process
from loadtest.compare.dispatch import (
    CUVEE,
    PLAY_S,
    REQUESTS,
    Fixed,
    Usable,
    fixed,
    promised,
    usable,
)
from loadtest.compare.policies import POLICIES
from planner.errors import PlannerError
from planner.traffic.trace import read_trace

SEEDS = 3


def table(found: list[Usable], title: str) -> Table:
    """Medians over seeds for people, the least and the most beside them."""
    grid = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    grid.add_column("policy")
    for heading in ("usable load", "min–max", "× random", "min–max"):
        grid.add_column(heading, justify="right")
    for row in found:
        ratios = [ratio for ratio in row.ratio if ratio is not None]
        grid.add_row(row.policy, *_spread(row.load, 3), *_spread(ratios, 2))
    return grid


def _spread(values: Sequence[float], digits: int) -> tuple[str, str]:
    if not values:
        return "–", "–"
    least, most = min(values), max(values)
    return f"{median(values):.{digits}f}", f"{least:.{digits}f}–{most:.{digits}f}"


@click.command()
@CONFIG
@TRACE
@click.option("--rate", type=click.FloatRange(0, min_open=True), help="Plan for these requests/s.")
@click.option("--fleet", help="Instead of planning: backends by pool, `a100=8` or `a10g=4,h100=2`.")
@click.option("--ttft", type=click.FloatRange(0, min_open=True), help="TTFT target in seconds.")
@click.option("--tpot", type=click.FloatRange(0, min_open=True), help="TPOT target in seconds.")
@click.option(
    "--policy",
    "policies",
    multiple=True,
    type=click.Choice([CUVEE, *POLICIES]),
    help="Only this one, and others given so; default: all.",
)
@click.option("--across", is_flag=True, help="The others choose among all backends, shares or not.")
@ARRIVALS
@click.option(
    "--seeds", type=click.IntRange(min=1), default=SEEDS, show_default=True, help="Searches."
)
@click.option(
    "--requests",
    type=click.IntRange(min=10),
    help=f"Of one play; default: {PLAY_S:g} s of them at capacity, {REQUESTS} or more.",
)
@JSON
def dispatch(
    path: Path,
    trace_path: Path,
    rate: float | None,
    fleet: str | None,
    ttft: float | None,
    tpot: float | None,
    policies: tuple[str, ...],
    across: bool,
    process: Process,
    seeds: int,
    requests: int | None,
    as_json: bool,
) -> None:
    """Usable load of one plan under every dispatch policy, the plan's shares kept.

    Usable is the largest load at which the SLO's attainment holds, in fluid capacities of the
    fleet (the rate at which the mean load of its fullest pool is 1): found by bisection for each
    seed on the same draws for all. Requests that no pool can promise are left out.
    """
    console = Console(width=table_columns())
    chosen = policies or (CUVEE, *POLICIES)
    try:
        loaded = promised(configured(path), ttft, tpot)
        with console.status("planning") as status:
            given = fixed(
                loaded,
                read_trace(trace_path),
                rate=rate,
                fleet=_counts(fleet) if fleet else None,
                process=process,
                requests=requests,
            )
            found = usable(given, chosen, seeds=seeds, across=across, told=status.update)
    except PlannerError as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        click.echo(json.dumps(as_values(given, found), indent=1))
    else:
        console.print(table(found, _title(given, process)))


def as_values(given: Fixed, found: list[Usable]) -> dict[str, object]:
    """The outcome as plain JSON values; loads per seed."""
    return {
        "backends": dict(zip(given.plan.pools, given.plan.backends, strict=True)),
        "capacity_requests_per_s": given.capacity,
        "left_out": given.left_out,
        "requests": given.traffic.requests,
        "policies": [
            {"policy": row.policy, "usable_load": row.load, "over_random": row.ratio}
            for row in found
        ],
    }


def _title(given: Fixed, process: str) -> str:
    plan, slo = given.plan, given.slo
    fleet = ", ".join(f"{p} {n}" for p, n in zip(plan.pools, plan.backends, strict=True) if n)
    return (
        f"{plan.buckets.classes[0].model} on {fleet}: fluid capacity {given.capacity:.1f} req/s; "
        f"TTFT {slo.ttft_s:g} s, TPOT {slo.tpot_s:g} s for {slo.attainment:.0%}; {process}, "
        f"{given.traffic.requests} requests a play; {given.left_out:.1%} left out"
    )


def _counts(text: str) -> dict[str, int]:
    try:
        pairs = [part.split("=") for part in text.split(",")]
        counts = {name: int(count) for name, count in pairs}
    except ValueError:
        raise click.UsageError(f"--fleet: not POOL=COUNT with commas: {text}") from None
    if min(counts.values()) < 1:
        raise click.UsageError(f"--fleet: at least one backend a pool: {text}")
    return counts
