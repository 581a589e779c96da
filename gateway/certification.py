"""Plans certified by the gateway's own router, and refined; the command `certify`.

Owns the rehearsal stand and the order of the search. Knows no HTTP and no live object.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from math import ceil
from pathlib import Path
from typing import Any

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from gateway.commands import CONFIG, configured
from gateway.config import Loaded
from gateway.history import demand_of
from gateway.rehearsal import rehearse
from gateway.routing.lengths import Lengths
from gateway.traffic import Process, Replayed, Traffic
from planner import economics, solve, workload
from planner.certify import SEEDS, Certificate, Rehearse, Score, certify
from planner.errors import PlannerError
from planner.model import Demand, Plan, Pool
from planner.refine import Refined, refine
from planner.sizes import FloatArray
from planner.workload import Trace

REQUESTS = 3000  # of one rehearsal, its first tenth not counted
SKIP = 0.1


class Stand:
    """Rehearses plans on one kind of traffic; every plan meets the same draws."""

    def __init__(self, traffic: Traffic, pools: tuple[Pool, ...], model: str) -> None:
        self._traffic = traffic
        self._pools = pools
        self._model = model
        self._drawn: dict[int, tuple[Trace, FloatArray]] = {}

    def play(self, plan: Plan, seed: int) -> Score:
        """One rehearsal of a plan, without its first tenth: the fleet fills up."""
        if seed not in self._drawn:
            self._drawn[seed] = self._traffic.draw(seed)
        trace, believed = self._drawn[seed]
        slo = next(c.slo for c in plan.space.classes if c.model == self._model)
        played = rehearse(trace, plan, self._pools, model=self._model, believed=believed)
        met = played.result.met(slo)[ceil(SKIP * len(trace)) :]
        return Score(met=int(met.sum()), requests=len(met))


@dataclass(frozen=True, slots=True, kw_only=True)
class Certified:
    """The program's own plan, the single types, and what refinement made of them."""

    demand: Demand
    first: tuple[Plan, Certificate]
    singles: tuple[tuple[str, Plan, Certificate], ...]
    refined: Refined


def certified(
    loaded: Loaded,
    trace: Trace,
    *,
    rate: float | None = None,
    process: Process = "gamma",
    requests: int = REQUESTS,
    seeds: int = SEEDS,
    told: Callable[[str], None] = lambda _: None,
) -> Certified:
    """Plans for a trace, certifies, and refines. told: hears what is being done.

    The demand is that of the trace for the first model configured; a Poisson test plans for
    Poisson arrivals, every other for the trace's own dispersion.
    """
    model = next(iter(loaded.config.models))
    lengths = Lengths()
    demand = demand_of(trace, loaded, lengths=lengths, model=model)
    demand = demand if rate is None else demand.scaled_to(rate)
    if process == "poisson":
        demand = replace(demand, dispersion=(1.0,) * len(demand.space.classes))
    traffic = Replayed(
        trace=trace,
        rate=demand.total_rate,
        process=process,
        dispersion=demand.dispersion[0],
        requests=requests,
        lengths=lengths,
        model=model,
    )
    stand = Stand(traffic, loaded.pools, model)
    target = loaded.space.classes[0].slo.attainment
    first = solve.provision(demand, loaded.pools, loaded.limits)
    seal = _seal(first, stand.play, target, seeds)
    told(f"plan {first.plan_id}: ${first.usd_per_hour:.2f}/h, {seal.attainment:.2%}")
    singles = tuple(_singles(demand, loaded.pools, stand.play, target, seeds))
    for gpu, plan, held in singles:
        told(f"{gpu} only: ${plan.usd_per_hour:.2f}/h, {held.attainment:.2%}")
    refined = refine(
        [first, *(plan for _, plan, _ in singles)],
        shares=lambda counts: solve.assign(demand, loaded.pools, counts),
        usd=[pool.usd_per_hour for pool in loaded.pools],
        least=[pool.min_backends for pool in loaded.pools],
        most=[pool.max_backends for pool in loaded.pools],
        rehearse=stand.play,
        target=target,
        seeds=seeds,
    )
    return Certified(demand=demand, first=(first, seal), singles=singles, refined=refined)


def _seal(plan: Plan, rehearse: Rehearse, target: float, seeds: int) -> Certificate:
    return certify(plan, rehearse, target=target, seeds=range(seeds, 2 * seeds))


def _singles(
    demand: Demand, pools: tuple[Pool, ...], rehearse: Rehearse, target: float, seeds: int
) -> Any:
    """Every type that can serve all of the demand: its smallest certified fleet within bounds."""
    for gpu, single in economics.single_types(demand, pools).items():
        if single.unserved:
            continue
        own = dict(zip(single.pools, single.backends, strict=True))
        found = None
        counts = tuple(own.get(pool.name, 0) for pool in pools)
        while any(counts):
            plan = solve.assign(demand, pools, counts)
            seal = _seal(plan, rehearse, target, seeds)
            if not seal.holds or plan.unserved:
                break
            found = plan, seal
            counts = tuple(max(0, count - 1) for count in counts)
        if found is not None:
            yield gpu, *found


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
@click.option("--requests", default=REQUESTS, show_default=True, help="Of one rehearsal.")
@click.option("--seeds", default=SEEDS, show_default=True, help="Rehearsals of one certificate.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def certify_command(
    path: Path,
    path_: Path,
    rate: float | None,
    process: Process,
    requests: int,
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
