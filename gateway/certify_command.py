"""The command `certify`: options in, a table or JSON out."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from gateway.certification import Certified, certified
from gateway.commands import CONFIG, configured
from gateway.traffic import Process
from planner import workload
from planner.certify import SEEDS
from planner.errors import PlannerError
from planner.model import Certificate, Plan


@click.command(name="certify")
@CONFIG
@click.option(
    "--trace",
    "path_",
    required=True,
    type=click.Path(path_type=Path),
    help="Trace CSV to plan for.",
)
@click.option("--rate", type=float, help="Requests/s to scale the trace to; default: its own rate.")
@click.option(
    "--arrivals",
    "process",
    type=click.Choice(["own", "poisson", "gamma"]),
    default="gamma",
    show_default=True,
    help="own: the trace's bursts; gamma: gaps of its measured dispersion; poisson: no bursts.",
)
@click.option(
    "--requests",
    type=int,
    help="Of one rehearsal.  [default: five minutes of them, 3,000 at least]",
)
@click.option("--seeds", default=SEEDS, show_default=True, help="Rehearsals of one certificate.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def certify_command(
    path: Path,
    path_: Path,
    rate: float | None,
    process: Process,
    requests: int | None,
    seeds: int,
    as_json: bool,
) -> None:
    """Find the cheapest plan whose SLO attainment is proven by simulation.

    Plays the traffic through the gateway's own router onto modelled engines, once per seed: for the
    planner's own plan, for the smallest fleet of every single GPU type, and for cheaper fleets near
    them. Certificates are over seeds that were not used to choose.
    """
    loaded = configured(path)
    console = Console()
    try:
        with console.status("planning") as status:
            found = certified(
                loaded, workload.read(path_), rate=rate, process=process, requests=requests,
                seeds=seeds, told=status.update,
            )  # fmt: skip
    except PlannerError as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        click.echo(json.dumps(as_values(found), indent=1))
    else:
        console.print(table(found))


def as_values(found: Certified) -> dict[str, Any]:
    """The outcome as plain JSON values."""

    def entry(plan: Plan, seal: Certificate) -> dict[str, Any]:
        return {
            "plan_id": plan.plan_id,
            "usd_per_hour": plan.usd_per_hour,
            "backends": dict(zip(plan.pools, plan.backends, strict=True)),
            "certificate": asdict(seal) | {"holds": seal.holds},
        }

    return {
        "requests_per_s": found.demand.total_rate,
        "dispersion": list(found.demand.dispersion),
        "plan": entry(*found.first),
        "single_types": {gpu: entry(plan, seal) for gpu, plan, seal in found.singles},
        "refined": entry(found.refined.plan, found.refined.certificate)
        | {"fleets_played": found.refined.played},
    }


def table(found: Certified) -> Table:
    """The outcome for people."""
    rate, burst = found.demand.total_rate, found.demand.dispersion[0]
    grid = Table(
        title=f"certified for {rate:.1f} req/s, dispersion {burst:.1f}",
        title_justify="left",
        box=SIMPLE_HEAD,
    )
    grid.add_column("fleet")
    for heading in ("$/h", "attainment", "95 % interval", "worst", ""):
        grid.add_column(heading, justify="right")
    rows = [("the program's plan", *found.first)]
    rows += [(f"{gpu} only", plan, seal) for gpu, plan, seal in found.singles]
    rows.append(("refined", found.refined.plan, found.refined.certificate))
    for name, plan, seal in rows:
        fleet = ", ".join(f"{n} {c}" for n, c in zip(plan.pools, plan.backends, strict=True) if c)
        grid.add_row(
            f"{name}: {fleet}",
            f"{plan.usd_per_hour:.2f}",
            f"{seal.attainment:.2%}",
            f"{seal.low:.2%}–{seal.high:.2%}",
            f"{seal.worst:.1%}",
            "holds" if seal.holds else "fails",
        )
    grid.caption = f"{found.refined.played} fleets played; target {found.first[1].target:.1%}"
    return grid
