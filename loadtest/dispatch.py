"""What dispatch alone is worth: one plan with its shares kept, policies swapped, load rising.

Owns the search for the largest load at which a fleet keeps its promise under each policy, and the
command that prints it. Which pool serves a request is the plan's word for everybody, unless asked
otherwise; the policies are in `loadtest/policies.py`, the gateway's own is its router, rehearsed.
"""

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from statistics import median

import click
import msgspec
import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from gateway.certification import SKIP
from gateway.commands import configured
from gateway.config import Loaded
from gateway.rehearsal import rehearse
from gateway.routing.table import compile_table
from gateway.traffic import Process, Replayed, Stretch
from loadtest.compare import ARRIVALS, CONFIG, JSON, TRACE, WIDTH
from loadtest.contest import FRESH, Say, bout
from loadtest.policies import POLICIES, Scene, simulated
from planner import solve, workload
from planner.errors import InvalidValue, PlannerError
from planner.model import Demand, Plan, Pool
from planner.profiles import Profile
from planner.sizes import IntArray
from planner.slo import Slo
from planner.workload import Trace

CUVEE, CHANCE = "cuvee", "random"
STEP = 0.005  # of the fluid capacity: how finely loads are told apart
STEPS = 256  # a power of two, so that loads up to 1.28 are told apart by eight plays
PLAY_S = 300.0  # of traffic at the fluid capacity
REQUESTS = 3000  # of one play at the least
SEEDS = 3


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fixed:
    """One fleet with the shares of one plan, and the traffic that it meets.

    capacity: requests/s at which the mean load `M/y` of its fullest pool is 1. left_out: the share
    of the trace's requests whose promise no pool of the fleet can keep, which are not played.
    """

    plan: Plan
    pools: tuple[Pool, ...]
    traffic: Replayed
    capacity: float
    left_out: float

    @property
    def slo(self) -> Slo:
        return self.plan.space.classes[0].slo


@dataclass(frozen=True, slots=True, kw_only=True)
class Usable:
    """The largest load under one policy, in fluid capacities: (S,) one per seed, 0 if there is
    none. ratio: (S,) the same over that of random dispatch, `None` where that is 0."""

    policy: str
    load: tuple[float, ...]
    ratio: tuple[float | None, ...]


def fixed(
    loaded: Loaded,
    trace: Trace,
    *,
    rate: float | None = None,
    fleet: Mapping[str, int] | None = None,
    process: Process = "poisson",
    requests: int | None = None,
) -> Fixed:
    """The cheapest fleet for a rate, or a given one with shares for as much as it can take.

    fleet: backends by pool name. Raises InvalidValue if a pool is unknown, or the fleet can serve
    nothing.
    """
    model, slo = loaded.space.classes[0].model, loaded.space.classes[0].slo
    pools = tuple(p for p in loaded.pools if p.model == model and (not fleet or p.name in fleet))
    if fleet and len(pools) < len(fleet):
        raise InvalidValue(f"the pools of {model} are {', '.join(_names(loaded, model))}")
    kept = _promised(trace, pools, slo)
    loaded = msgspec.structs.replace(loaded, pools=pools)
    asked = bout(loaded, kept, rate=rate, process=process, requests=1)
    demand, pools = asked.demand, asked.loaded.pools
    if fleet:
        counts = tuple(fleet[pool.name] for pool in pools)
        full = _capacity(solve.assign(demand, pools, counts), demand)
        demand = demand.scaled_to(full)
        plan = solve.assign(demand, pools, counts)
    else:
        plan = solve.provision(demand, pools)
    capacity = _capacity(plan, demand)
    long = requests or max(REQUESTS, round(PLAY_S * capacity))
    return Fixed(
        plan=plan,
        pools=pools,
        traffic=replace(asked.traffic, rate=capacity, requests=long),
        capacity=capacity,
        left_out=1 - len(kept) / len(trace),
    )


def usable(
    given: Fixed,
    policies: Sequence[str],
    *,
    seeds: int,
    across: bool = False,
    told: Say = lambda _: None,
) -> list[Usable]:
    """Every policy's usable load on the same fresh draws, and over random dispatch's.

    across: the others choose among all backends; their shares are then their own.
    """
    found: dict[str, tuple[float, ...]] = {}
    for policy in dict.fromkeys((CHANCE, *policies)):
        loads = []
        for seed in range(FRESH, FRESH + seeds):
            told(f"{policy}, seed {seed - FRESH + 1} of {seeds}")
            drawn = given.traffic.draw(seed)
            loads.append(edge(_attained(given, policy, drawn, seed, across), given.slo.attainment))
        found[policy] = tuple(loads)
    chance = found[CHANCE]
    return [
        Usable(
            policy=policy,
            load=found[policy],
            ratio=tuple(a / b if b else None for a, b in zip(found[policy], chance, strict=True)),
        )
        for policy in policies
    ]


def edge(attained: Callable[[float], float], target: float) -> float:
    """The largest load below `STEP·STEPS`, to a `STEP`, that attains the target; 0 if none does.

    attained: attainment by load, which falls.
    """
    low, high = 0, STEPS
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if attained(middle * STEP) >= target else (low, middle)
    return low * STEP


def turns(plan: Plan, pools: tuple[Pool, ...], drawn: Stretch) -> IntArray:
    """(N,) the pool of each request by the plan's shares of its bucket, in turn as the router's:
    smooth weighted round robin."""
    slices = compile_table(plan, pools).slices
    credit = np.zeros((plan.space.buckets, len(pools)))
    grid, found = plan.space.grid, []
    for inputs, outputs, _ in drawn.believed.tolist():
        bucket = grid.cell(int(inputs), int(outputs))
        for pool, weight in slices[bucket]:
            credit[bucket, pool] += weight
        best = max((p for p, _ in slices[bucket]), key=lambda p: float(credit[bucket, p]))
        credit[bucket, best] -= 1.0
        found.append(best)
    return np.array(found, dtype=np.int64)


def _attained(
    given: Fixed, policy: str, drawn: Stretch, seed: int, across: bool
) -> Callable[[float], float]:
    """Attainment by load: the draw's own arrivals, faster or slower."""
    if policy == CUVEE:
        groups = []
    elif across:
        groups = [(np.arange(len(drawn.trace)), given.plan.backends)]
    else:
        groups = list(_groups(given, drawn))

    def attained(load: float) -> float:
        trace = replace(drawn.trace, arrival_s=drawn.trace.arrival_s / load)
        if policy == CUVEE:
            played = rehearse(trace, given.plan, given.pools, believed=drawn.believed)
            return played.attainment(given.slo, skip=SKIP)
        met = np.zeros(len(trace), dtype=np.bool_)
        for rows, counts in groups:
            scene = Scene(
                trace=_rows(trace, rows),
                engines=_engines(given.pools, counts),
                slo=given.slo,
                output_tokens=drawn.believed[rows, 1],
            )
            met[rows] = simulated(policy, scene, seed).met(given.slo)
        return float(met[ceil(SKIP * len(met)) :].mean())

    return attained


def _groups(given: Fixed, drawn: Stretch) -> Iterator[tuple[IntArray, tuple[int, ...]]]:
    """Every pool's requests, by row, with the backends that it has: its own only."""
    pool = turns(given.plan, given.pools, drawn)
    for p in np.unique(pool).tolist():
        counts = tuple(n if k == p else 0 for k, n in enumerate(given.plan.backends))
        yield np.flatnonzero(pool == p), counts


def _engines(pools: tuple[Pool, ...], counts: tuple[int, ...]) -> tuple[Profile, ...]:
    return tuple(p.profile for p, n in zip(pools, counts, strict=True) for _ in range(n))


def _capacity(plan: Plan, demand: Demand) -> float:
    """Requests/s at which the fullest pool's mean load is 1, the shares as they are."""
    if plan.unserved:
        raise InvalidValue(f"the fleet cannot serve it all: {plan.unserved[0].reason}")
    fullest = max(m / y for m, y in zip(plan.load, plan.backends, strict=True) if y)
    return demand.total_rate / fullest


def _promised(trace: Trace, pools: tuple[Pool, ...], slo: Slo) -> Trace:
    """The requests whose size some pool can serve within the promise."""
    held = [p.profile.capacity(trace.input_tokens, trace.output_tokens, slo).rate for p in pools]
    rows = np.flatnonzero(np.array(held).max(axis=0) > 0)
    if not len(rows):
        raise InvalidValue("no pool can keep the promise of any request")
    return _rows(trace, rows)


def _rows(trace: Trace, rows: IntArray) -> Trace:
    return Trace(
        arrival_s=trace.arrival_s[rows],
        input_tokens=trace.input_tokens[rows],
        output_tokens=trace.output_tokens[rows],
        key=tuple(trace.key[row] for row in rows.tolist()),
    )


def _names(loaded: Loaded, model: str) -> list[str]:
    return [pool.name for pool in loaded.pools if pool.model == model]


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
    path: Path | None,
    trace_path: Path | None,
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
    if path is None or trace_path is None:
        raise click.UsageError("--config and --trace are needed")
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    chosen = policies or (CUVEE, *POLICIES)
    try:
        loaded = promised(configured(path), ttft, tpot)
        with console.status("planning") as status:
            given = fixed(
                loaded,
                workload.read(trace_path),
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


def promised(loaded: Loaded, ttft_s: float | None, tpot_s: float | None) -> Loaded:
    """The configuration with other targets for the first model's first class, where given."""
    first, *others = loaded.space.classes
    slo = replace(first.slo, ttft_s=ttft_s or first.slo.ttft_s, tpot_s=tpot_s or first.slo.tpot_s)
    space = replace(loaded.space, classes=(replace(first, slo=slo), *others))
    return msgspec.structs.replace(loaded, space=space)


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
        f"{plan.space.classes[0].model} on {fleet}: fluid capacity {given.capacity:.1f} req/s; "
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
