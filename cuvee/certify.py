"""The subcommand `certify`: options in, a table or JSON out. Computes nothing itself."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from cuvee.options import ARRIVALS_HELP, CONFIG, JSON, configured
from cuvee.progress import Work
from gateway.config.load import Loaded
from gateway.rehearsal.certify import Certified, certified
from gateway.rehearsal.history import TraceSource
from gateway.rehearsal.trial import Trial, halves, trials
from planner.errors import InvalidValue, PlannerError
from planner.model.buckets import SloClass
from planner.model.plan import Certificate, Plan
from planner.proof.certify import SEEDS
from planner.proof.length import REQUESTS
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
    help=f"{ARRIVALS_HELP}; daily: gamma at a rate that follows a day, and a plan for its peak.",
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
    default=REQUESTS,
    show_default=True,
    help="That one play counts at least; five minutes (a day: 15), and three of the longest stays "
    "of a request, are counted anyway.",
)
@click.option(
    "--margin",
    type=click.FloatRange(0, 1),
    help="Certify the fleet for engines that much slower, and demand that much higher, than is "
    "believed.  [default: the measured error of each profile; of demand the largest of them]",
)
@click.option(
    "--seeds",
    type=click.IntRange(min=1),
    default=SEEDS,
    show_default=True,
    help="Rehearsals of one certificate.",
)
@click.option(
    "--trials",
    "tried",
    is_flag=True,
    help="Plan from the first half of the traces, and then play the fleet on what it does not "
    "know: fresh seeds, plays five times as long, the later half, engines 10 % slower.",
)
@JSON
def certify(
    path: Path, traces: tuple[str, ...], tried: bool, as_json: bool, **rehearsals: Any
) -> None:
    """Find the cheapest plan whose SLO attainment is proven by simulation.

    Plays the traffic through the gateway's own router onto modelled engines, once per seed: for the
    planner's own plan, for the smallest fleet of every single GPU type, and for cheaper fleets near
    them. Certificates are over seeds that were not used to choose. With several models or SLO
    classes a plan's certificate is that of the class that is worst off.
    """
    loaded = configured(path).to_rent()
    console = Console()
    try:
        with Work("planning") as work:
            given = sources(traces, loaded)
            first, second = halves(given) if tried else (given, [])
            result = certified(loaded, first, **rehearsals, progress=work.say)
            found = []
            if tried:
                process, seeds = rehearsals["process"], rehearsals["seeds"]
                for trial in trials(result, loaded, first, second, process=process, seeds=seeds):
                    work.say(f"{trial.name}: {trial.certificate.attainment:.2%}")
                    found.append(trial)
    except PlannerError as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        click.echo(json.dumps(as_values(result) | {"trials": trial_values(found)}, indent=1))
    else:
        console.print(certificates_table(result))
        if found:
            console.print(trials_table(found))


def sources(traces: Sequence[str], loaded: Loaded) -> list[TraceSource]:
    """The traces that the options name, each with its model and SLO class.

    Raises InvalidValue for an unknown or repeated name, InvalidFile for a trace that is not one.
    """
    first = loaded.buckets.classes[0]
    known = {slo_class.model: slo_class for slo_class in reversed(loaded.buckets.classes)}
    known |= {
        f"{slo_class.model}:{slo_class.name}": slo_class for slo_class in loaded.buckets.classes
    }
    named: dict[SloClass, TraceSource] = {}
    for text in traces:
        name, equals, file = text.partition("=")
        # A file name may hold an equals sign: what is no known name but a file is a file.
        if not equals or (name not in known and Path(text).exists()):
            name, equals, file = first.model, "", text
        if name not in known:
            raise InvalidValue(f"--trace: unknown `{name}`; known are {', '.join(known)}")
        slo_class = known[name]
        if slo_class in named:
            raise InvalidValue(f"--trace: `{slo_class}` is given twice")
        # Of a gateway's own trace: with a name its class, else whatever the model was asked for.
        taken = slo_class.name if equals else None
        trace = read_trace(Path(file), model=slo_class.model, slo_class=taken)
        named[slo_class] = TraceSource(trace=trace, model=slo_class.model, slo_class=slo_class.name)
    return list(named.values())


def as_values(result: Certified) -> dict[str, Any]:
    """The result as plain JSON values."""

    def entry(plan: Plan, certificate: Certificate) -> dict[str, Any]:
        return {
            "plan_id": plan.plan_id,
            "usd_per_hour": plan.usd_per_hour,
            "backends": dict(zip(plan.pools, plan.backends, strict=True)),
            "certificate": asdict(certificate) | {"holds": certificate.holds},
        }

    singles = {gpu: entry(plan, certificate) for gpu, plan, certificate in result.singles}
    return {
        "requests_per_s": result.demand.total_rate,
        "margin": result.margin,
        "counted_s": result.length.counted_s,
        "dispersion": list(result.demand.dispersion),
        "plan": entry(*result.first),
        "single_types": singles,
        "refined": entry(result.refined.plan, result.refined.certificate)
        | {"fleets_played": result.refined.played},
    }


def trial_values(found: Sequence[Trial]) -> list[dict[str, Any]]:
    """Trials as plain JSON values."""
    return [{"name": trial.name} | asdict(trial.certificate) for trial in found]


def trials_table(found: Sequence[Trial]) -> Table:
    """What the refined fleet does where it was not chosen."""
    table = Table(title="the refined fleet, tried", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("on")
    for heading in ("attainment", "95 % interval", "worst minute", "requests"):
        table.add_column(heading, justify="right")
    for trial in found:
        certificate = trial.certificate
        worst = certificate.worst_window
        table.add_row(
            trial.name,
            f"{certificate.attainment:.2%}",
            f"{certificate.low:.2%}–{certificate.high:.2%}",
            "–" if worst is None else f"{worst:.1%}",
            f"{certificate.requests:,}",
        )
    return table


def certificates_table(result: Certified) -> Table:
    """Every fleet with its certificate, for people."""
    rates = result.demand.rate.reshape(len(result.demand.dispersion), -1).sum(axis=1)
    dispersions = [d for d, rate in zip(result.demand.dispersion, rates, strict=True) if rate > 0]
    table = Table(
        title=f"certified for {result.demand.total_rate:.1f} req/s, dispersion "
        + ", ".join(f"{dispersion:.1f}" for dispersion in dispersions),
        title_justify="left",
        box=SIMPLE_HEAD,
    )
    table.add_column("fleet")
    # With one class there is one target, which the caption has.
    by_class = ["target", "of the class"] if len(dispersions) > 1 else []
    for heading in ["$/h", "attainment", "95 % interval", "worst minute", "", *by_class]:
        table.add_column(heading, justify="right")
    rows = [("the program's plan", *result.first)]
    rows += [(f"{gpu} only", plan, certificate) for gpu, plan, certificate in result.singles]
    rows.append(("refined", result.refined.plan, result.refined.certificate))
    for name, plan, certificate in rows:
        table.add_row(*_cells(name, plan, certificate)[: 6 + len(by_class)])
    table.caption = (
        f"{result.refined.played} fleets played, {result.length.counted_s / 60:.0f} minutes each "
        f"time, on demand {result.margin:.0%} higher and engines as much slower"
    )
    if not by_class:
        table.caption += f"; target {result.first[1].target:.1%}"
    return table


def _cells(name: str, plan: Plan, certificate: Certificate) -> list[str]:
    fleet = ", ".join(f"{n} {c}" for n, c in zip(plan.pools, plan.backends, strict=True) if c)
    return [
        f"{name}: {fleet}",
        f"{plan.usd_per_hour:.2f}",
        f"{certificate.attainment:.2%}",
        f"{certificate.low:.2%}–{certificate.high:.2%}",
        "–" if certificate.worst_window is None else f"{certificate.worst_window:.1%}",
        "holds" if certificate.holds else "grows" if certificate.grows else "fails",
        f"{certificate.target:.1%}",
        f"{certificate.model} {certificate.slo_class}",
    ]
