"""The subcommand `dispatch`: options in, a table of usable loads out. Computes nothing itself."""

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from cuvee.options import (
    ARRIVALS,
    CONFIG,
    JSON,
    POSITIVE,
    TPOT,
    TRACE,
    TTFT,
    configured,
    table_columns,
)
from cuvee.progress import Work
from loadtest.compare.dispatch import (
    CUVEE,
    PLAY_S,
    RANDOM,
    REQUESTS,
    FixedFleet,
    UsableLoad,
    fix_fleet,
    usable_loads,
    with_targets,
)
from loadtest.compare.policies import POLICIES
from planner.errors import PlannerError
from planner.traffic.trace import read_trace

SEEDS = 3


@click.command()
@CONFIG
@TRACE
@click.option("--rate", type=POSITIVE, help="Plan for these requests/s.")
@click.option("--fleet", help="Instead of planning: backends by pool, `a100=8` or `a10g=4,h100=2`.")
@TTFT
@TPOT
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
    fleet: str | None,
    ttft: float | None,
    tpot: float | None,
    policies: tuple[str, ...],
    across: bool,
    seeds: int,
    as_json: bool,
    **play: Any,
) -> None:
    """Compare dispatch policies by the load that one plan can use.

    The plan's shares are kept. Usable is the largest load at which the SLO's attainment holds, in
    fluid capacities of the fleet (the rate at which the mean load of its fullest pool is 1): found
    by bisection for each seed on the same draws for all. Requests that no pool can promise are left
    out.
    """
    console = Console(width=table_columns())
    try:
        loaded = with_targets(configured(path), ttft, tpot)
        chosen = policies or (CUVEE, *POLICIES)
        with Work("planning", seeds * len({RANDOM, *chosen})) as work:
            fixed = fix_fleet(
                loaded,
                read_trace(trace_path),
                backends=backend_counts(fleet) if fleet else None,
                **play,
            )
            loads = usable_loads(
                fixed,
                chosen,
                seeds=seeds,
                across=across,
                progress=work.step,
            )
    except PlannerError as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        click.echo(json.dumps(as_values(fixed, loads), indent=1))
    else:
        console.print(loads_table(loads, _title(fixed)))


def backend_counts(text: str) -> dict[str, int]:
    """Backends by pool, from `a10g=4,h100=2`. Raises UsageError."""
    try:
        pairs = [pair.split("=") for pair in text.split(",")]
        counts = {name: int(count) for name, count in pairs}
    except ValueError:
        raise click.UsageError(f"--fleet: not POOL=COUNT with commas: {text}") from None
    if min(counts.values()) < 1:
        raise click.UsageError(f"--fleet: at least one backend a pool: {text}")
    return counts


def as_values(fixed: FixedFleet, loads: list[UsableLoad]) -> dict[str, object]:
    """The result as plain JSON values; loads per seed."""
    return {
        "backends": dict(zip(fixed.plan.pools, fixed.plan.backends, strict=True)),
        "capacity_requests_per_s": fixed.capacity,
        "left_out": fixed.left_out,
        "requests": fixed.traffic.requests,
        "policies": [
            {"policy": row.policy, "usable_load": row.load, "over_random": row.ratio}
            for row in loads
        ],
    }


def loads_table(loads: list[UsableLoad], title: str) -> Table:
    """Medians over seeds for people, the least and the most beside them."""
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    table.add_column("policy")
    for heading in ("usable load", "min–max", "× random", "min–max"):
        table.add_column(heading, justify="right")
    for row in loads:
        ratios = [ratio for ratio in row.ratio if ratio is not None]
        table.add_row(row.policy, *_median_range(row.load, 3), *_median_range(ratios, 2))
    return table


def _median_range(values: Sequence[float], digits: int) -> tuple[str, str]:
    if not values:
        return "–", "–"
    least, most = min(values), max(values)
    return f"{median(values):.{digits}f}", f"{least:.{digits}f}–{most:.{digits}f}"


def _title(fixed: FixedFleet) -> str:
    plan, slo = fixed.plan, fixed.slo
    fleet = ", ".join(f"{p} {n}" for p, n in zip(plan.pools, plan.backends, strict=True) if n)
    return (
        f"{plan.buckets.classes[0].model} on {fleet}: fluid capacity {fixed.capacity:.1f} req/s; "
        f"TTFT {slo.ttft_s:g} s, TPOT {slo.tpot_s:g} s for {slo.attainment:.0%}; "
        f"{fixed.traffic.process}, {fixed.traffic.requests} requests a play; "
        f"{fixed.left_out:.1%} left out"
    )
