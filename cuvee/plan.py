"""The subcommand `plan`: options in, tables, JSON or a picture of one plan out."""

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console

from cuvee import pictures
from cuvee.fleetless import FleetlessOptions, fleetless_options, plan_rental
from cuvee.options import (
    DEFAULT_CONFIG,
    EXISTING_FILE,
    FILE,
    JSON,
    OPTIONAL_CONFIG,
    OPTIONAL_TRACE,
    RATE,
    TOKEN,
    configured,
)
from cuvee.plan_change import (
    DIFF_FAILED,
    FAILED,
    ComparingCommand,
    apply_index,
    diff_running,
    show,
)
from cuvee.terminal import show_diff, show_plan, show_shared
from gateway.config.load import Loaded
from gateway.rehearsal.fleet_diff import FleetDiff, compare_fleet, limits_of_change
from gateway.rehearsal.history import TraceSource, demand_of, estimated_buckets
from gateway.routing.estimator import Estimator
from planner import shipped
from planner.costs import curves, prices
from planner.costs.explain import Explanation, SentRequests, explain, with_single_types
from planner.costs.plan_change import PlanJson, plan_change, plan_of, read_plan
from planner.costs.report import plan_json
from planner.costs.whatif import alternative
from planner.errors import PlannerError
from planner.model.demand import Demand
from planner.model.plan import Plan
from planner.model.plan_json import plan_figures
from planner.model.pool import Pool
from planner.program import solve
from planner.traffic.trace import Trace, read_trace

CURVE_RATES = tuple(2.0**octave for octave in range(-3, 4))  # times the demand's own rate
CURVE_TPOTS = (0.5, 0.625, 0.75, 1.0, 1.25, 1.5, 2.0)  # times the promised target


@click.command(cls=ComparingCommand)
@OPTIONAL_CONFIG
@OPTIONAL_TRACE
@RATE
@click.option(
    "--model",
    help="Model that the trace's requests are for; default: the first configured. Without a "
    "configuration a built-in name, or the path of a Hugging Face config.json.",
)
@fleetless_options
@click.option(
    "--what-if",
    "changes",
    multiple=True,
    metavar="CHANGE",
    help="Plan again under a change: tpot_s=0.06, ttft_s=1, attainment=0.999, rate=40, "
    "price.H100=5, without=A10G, with=L4 or with=L4:0.80 ($/h); joined by commas if together. "
    "May be repeated.",
)
@click.option("--explain", "whole", is_flag=True, help="Print every bucket and the bill by key.")
@click.option("--plot", type=FILE, help="Draw the plan to this PNG or SVG.")
@click.option(
    "--diff",
    is_flag=True,
    help="Compare with the backends that the configuration has. Exit code 0: they hold and stay; "
    "1: would change; 2: not all can be served; 3: an error. With --url or --against, compare with "
    "that plan instead. Exit code 0: no change; 1: an error; 2: a change.",
)
@click.option(
    "--against",
    type=EXISTING_FILE,
    help="With --diff: a plan that was saved as JSON, of --json or of a gateway's /cuvee/plan.",
)
@click.option(
    "--url",
    help="Admin port of a running gateway: with --diff, compare its plan with the one that it "
    "would make now; with --apply, put that in force.",
)
@click.option(
    "--apply",
    "index",
    metavar="INDEX",
    help="Put the plan in force that a diff has shown, by the index that it ends with. It is "
    "refused if the plan in force or the fleet has moved since.",
)
@click.option("--why", default="", help="With --apply: the reason, for the journal.")
@TOKEN
@JSON
def plan(
    path: Path | None,
    trace_path: Path | None,
    rate: float | None,
    model: str | None,
    fleetless: FleetlessOptions,
    changes: tuple[str, ...],
    whole: bool,
    plot: Path | None,
    diff: bool,
    against: Path | None,
    url: str | None,
    index: str | None,
    why: str,
    token: str | None,
    as_json: bool,
) -> None:
    """Find the cheapest fleet for a workload.

    Prints the backends per pool, the share of each request size that each pool serves, why it costs
    what it does, and what the same demand costs on every single GPU type. Sizes are bucketed as the
    gateway's router would have believed them at arrival; loads are those of the actual sizes.

    Without a configuration, for --model, --ttft and --tpot: the cheapest certified fleet of all GPU
    types that have a price, on 1, 2, 4 or 8 GPUs for each backend.
    """
    if index is not None:
        apply_index(url, token, index, why, as_json)
        return
    if url is not None:
        if not diff:
            raise click.ClickException("--url needs --diff or --apply")
        diff_running(url, token, as_json=as_json)
    saved = None if against is None else _saved(against, diff)
    if path is None and not DEFAULT_CONFIG.exists() and (model or fleetless.given()):
        if changes or whole or plot or diff:
            raise click.UsageError("--what-if, --explain, --plot and --diff need a configuration")
        try:
            plan_rental(fleetless, model=model, trace_path=trace_path, rate=rate, as_json=as_json)
        except PlannerError as error:
            raise click.ClickException(str(error)) from error
        return
    if trace_path is None or fleetless.given():
        raise click.UsageError(_unfit(fleetless, path or DEFAULT_CONFIG))
    if saved is not None:
        diff = False  # of the fleet that there is nothing is asked
    failed = DIFF_FAILED if diff else FAILED if saved is not None else None
    loaded = _configured(path or DEFAULT_CONFIG, failed)
    loaded = loaded if diff else loaded.to_rent()  # the fleet that there is has no alternatives
    pools, limits = loaded.pools, limits_of_change(loaded) if diff else loaded.limits
    try:
        model = model or next(iter(loaded.config.models))
        trace, estimator = read_trace(trace_path, model=model), Estimator()
        demand = demand_of(trace, loaded, estimator=estimator, model=model)
        sent = sent_requests(trace, loaded, estimator, model)
        demand = demand if rate is None else demand.scaled_to(rate)
        plan = with_single_types(solve.provision(demand, pools, limits), demand, pools)
        explanation = explain(plan, demand, pools, sent=sent, limits=limits)
        usd = _prices(path or DEFAULT_CONFIG, loaded)
        alternatives = [alternative(change, demand, pools, usd=usd) for change in changes]
        compared = compare_fleet(plan, demand, loaded) if diff else None
        if plot is not None:
            _draw(plan, explanation, demand, pools, plot)
    except (PlannerError, pictures.NoPicture, OSError, ValueError) as error:  # see pictures.draw
        raise _failure(str(error), diff) from error
    if saved is not None:
        show(plan_change(saved, plan_of(plan_figures(plan))), as_json=as_json)
    if as_json:
        body = plan_json(plan, explanation, alternatives)
        click.echo(json.dumps(body | ({} if compared is None else diff_json(compared)), indent=1))
    elif compared is None or whole:
        show_plan(plan, explanation, alternatives, Console(), whole=whole)
        show_shared(plan, pools, Console())
    if compared is not None:
        if not as_json:
            show_diff(compared, Console(), unserved=not whole)
        sys.exit(compared.verdict)


def _saved(path: Path, diff: bool) -> PlanJson:
    if not diff:
        raise click.ClickException("--against needs --diff")
    try:
        return read_plan(path)
    except PlannerError as error:
        raise click.ClickException(str(error)) from error


def diff_json(compared: FleetDiff) -> dict[str, Any]:
    """A comparison with the present fleet as plain values, under the key `diff`."""
    certificate = compared.present.certificate
    return {
        "diff": {
            "exit_code": int(compared.verdict),
            "verdict": compared.verdict.name.lower(),
            "backends": dict(zip(compared.plan.pools, compared.present.backends, strict=True)),
            "start": {name: then - now for name, now, then in compared.steps if then > now},
            "stop": {name: now - then for name, now, then in compared.steps if then < now},
            "usd_per_hour": compared.usd_per_hour,
            "saving": compared.saving,
            "certificate": None
            if certificate is None
            else asdict(certificate) | {"holds": certificate.holds},
        }
    }


def sent_requests(
    trace: Trace, loaded: Loaded, estimator: Estimator, model: str | None
) -> SentRequests:
    """The trace's requests with their keys and buckets, for the bill by key.

    Call it after `demand_of` has taught the estimator, so that both have the same buckets.
    """
    model = model or next(iter(loaded.config.models))
    source = TraceSource(trace=trace, model=model)
    return SentRequests(
        bucket=estimated_buckets(source, loaded.buckets, estimator),
        input_tokens=trace.input_tokens,
        output_tokens=np.maximum(trace.output_tokens, 1.0),
        key=trace.key,
        cached_tokens=trace.cached_tokens,
    )


def _unfit(fleetless: FleetlessOptions, path: Path) -> str:
    """Why options do not go together with a configuration."""
    names = fleetless.given()
    if not names:
        return "--trace is needed; or, without a configuration, --model, --ttft and --tpot"
    away = "; run it in another folder" if path == DEFAULT_CONFIG else ""
    return f"{', '.join(names)}: for planning without a configuration, and there is {path}{away}"


def _configured(path: Path, failed: int | None) -> Loaded:
    """The configuration. failed: the exit code if it cannot be used, where 2 means something else;
    `None`: as of all commands."""
    try:
        return configured(path)
    except SystemExit as end:
        sys.exit(end.code if failed is None else failed)


class DiffFailed(click.ClickException):
    """An error under --diff, where exit code 1 means that the fleet would change."""

    exit_code = DIFF_FAILED


def _failure(text: str, diff: bool) -> click.ClickException:
    return DiffFailed(text) if diff else click.ClickException(text)


def _prices(path: Path, loaded: Loaded) -> Mapping[str, float]:
    """Prices of GPU types, for `--what-if with=GPU`; the configuration names the file."""
    file = loaded.config.prices
    if file is None:
        return {}
    return prices.read_prices(shipped.located(file, path.parent, "prices"))


def _draw(
    plan: Plan, explanation: Explanation, demand: Demand, pools: tuple[Pool, ...], to: Path
) -> None:
    rates = tuple(demand.total_rate * times for times in CURVE_RATES)
    tpot_s = demand.buckets.classes[0].slo.tpot_s
    pictures.draw(
        plan,
        explanation,
        to,
        gpus={pool.name: pool.gpu for pool in pools},
        over_rate=curves.over_rate(demand, pools, rates),
        over_tpot=curves.over_tpot(demand, pools, tuple(tpot_s * t for t in CURVE_TPOTS)),
    )
