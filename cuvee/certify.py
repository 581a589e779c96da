"""The subcommand `certify`: options in, a table or JSON out."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from cuvee.options import CONFIG, JSON, configured
from gateway.config.load import Loaded
from gateway.rehearsal.certify import Certified, certified
from gateway.rehearsal.history import TraceSource
from gateway.rehearsal.traffic import Process
from planner.errors import InvalidValue, PlannerError
from planner.model.buckets import SloClass
from planner.model.plan import Certificate, Plan
from planner.proof.certify import SEEDS
from planner.traffic.trace import read_trace

SWING = 0.6  # a day of interactive traffic: its peak is some four times its trough


@click.command()
@CONFIG
@click.option(
    "--trace",
    "traces",
    required=True,
    multiple=True,
    metavar="[MODEL[:CLASS]=]FILE",
    help="Trace CSV to plan for; without MODEL for the first one configured, without CLASS under "
    "its `slo`. May be repeated: all come at the same time.",
)
@click.option(
    "--rate",
    type=float,
    help="Requests/s to scale the traces to, all together; default: their own rates.",
)
@click.option(
    "--arrivals",
    "process",
    type=click.Choice(["own", "poisson", "gamma", "daily"]),
    default="gamma",
    show_default=True,
    help="own: the trace's bursts; gamma: gaps of its measured dispersion; poisson: no bursts; "
    "daily: gamma at a rate that follows a day, and a plan for its peak.",
)
@click.option(
    "--swing",
    type=click.FloatRange(0, 1),
    default=SWING,
    show_default=True,
    help="With --arrivals daily: how far the peak lies above the mean rate, as a share of it.",
)
@click.option(
    "--requests",
    type=click.IntRange(min=1),
    help="Of one rehearsal.  [default: five minutes of them, 3,000 at least; for a day 15 minutes]",
)
@click.option(
    "--seeds",
    type=click.IntRange(min=1),
    default=SEEDS,
    show_default=True,
    help="Rehearsals of one certificate.",
)
@JSON
def certify(
    path: Path,
    traces: tuple[str, ...],
    rate: float | None,
    process: Process,
    swing: float,
    requests: int | None,
    seeds: int,
    as_json: bool,
) -> None:
    """Find the cheapest plan whose SLO attainment is proven by simulation.

    Plays the traffic through the gateway's own router onto modelled engines, once per seed: for the
    planner's own plan, for the smallest fleet of every single GPU type, and for cheaper fleets near
    them. Certificates are over seeds that were not used to choose. With several models or SLO
    classes a plan's certificate is that of the class that is worst off.
    """
    loaded = configured(path)
    console = Console()
    try:
        with console.status("planning") as status:
            found = certified(
                loaded, sources(traces, loaded), rate=rate, process=process, requests=requests,
                swing=swing, seeds=seeds, told=status.update,
            )  # fmt: skip
    except PlannerError as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        click.echo(json.dumps(as_values(found), indent=1))
    else:
        console.print(table(found))


def sources(traces: Sequence[str], loaded: Loaded) -> list[TraceSource]:
    """The traces that the options name. Raises InvalidValue, or InvalidFile for what is in one."""
    first = loaded.buckets.classes[0]
    known = {kind.model: kind for kind in reversed(loaded.buckets.classes)}
    known |= {f"{kind.model}:{kind.name}": kind for kind in loaded.buckets.classes}
    found: dict[SloClass, TraceSource] = {}
    for text in traces:
        name, equals, file = text.partition("=")
        if not equals or (name not in known and Path(text).exists()):
            name, file = first.model, text
        if name not in known:
            raise InvalidValue(f"--trace: unknown `{name}`; known are {', '.join(known)}")
        kind = known[name]
        if kind in found:
            raise InvalidValue(f"--trace: `{kind}` is given twice")
        trace = read_trace(Path(file))
        found[kind] = TraceSource(trace=trace, model=kind.model, slo_class=kind.name)
    return list(found.values())


def as_values(found: Certified) -> dict[str, Any]:
    """The outcome as plain JSON values."""

    def entry(plan: Plan, certificate: Certificate) -> dict[str, Any]:
        return {
            "plan_id": plan.plan_id,
            "usd_per_hour": plan.usd_per_hour,
            "backends": dict(zip(plan.pools, plan.backends, strict=True)),
            "certificate": asdict(certificate) | {"holds": certificate.holds},
        }

    return {
        "requests_per_s": found.demand.total_rate,
        "dispersion": list(found.demand.dispersion),
        "plan": entry(*found.first),
        "single_types": {gpu: entry(plan, certificate) for gpu, plan, certificate in found.singles},
        "refined": entry(found.refined.plan, found.refined.certificate)
        | {"fleets_played": found.refined.played},
    }


def table(found: Certified) -> Table:
    """The outcome for people."""
    rates = found.demand.rate.reshape(len(found.demand.dispersion), -1).sum(axis=1)
    bursts = [b for b, rate in zip(found.demand.dispersion, rates, strict=True) if rate > 0]
    grid = Table(
        title=f"certified for {found.demand.total_rate:.1f} req/s, dispersion "
        + ", ".join(f"{burst:.1f}" for burst in bursts),
        title_justify="left",
        box=SIMPLE_HEAD,
    )
    grid.add_column("fleet")
    whose = ["target", "of the class"] if len(bursts) > 1 else []
    for heading in ["$/h", "attainment", "95 % interval", "worst", "", *whose]:
        grid.add_column(heading, justify="right")
    rows = [("the program's plan", *found.first)]
    rows += [(f"{gpu} only", plan, certificate) for gpu, plan, certificate in found.singles]
    rows.append(("refined", found.refined.plan, found.refined.certificate))
    for name, plan, certificate in rows:
        grid.add_row(*_cells(name, plan, certificate)[: 6 + len(whose)])
    grid.caption = f"{found.refined.played} fleets played"
    if not whose:
        grid.caption += f"; target {found.first[1].target:.1%}"
    return grid


def _cells(name: str, plan: Plan, certificate: Certificate) -> list[str]:
    fleet = ", ".join(f"{n} {c}" for n, c in zip(plan.pools, plan.backends, strict=True) if c)
    return [
        f"{name}: {fleet}",
        f"{plan.usd_per_hour:.2f}",
        f"{certificate.attainment:.2%}",
        f"{certificate.low:.2%}–{certificate.high:.2%}",
        f"{certificate.worst:.1%}",
        "holds" if certificate.holds else "fails",
        f"{certificate.target:.1%}",
        f"{certificate.model} {certificate.slo_class}",
    ]
