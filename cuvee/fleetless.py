"""`cuvee plan` without a configuration: the cheapest fleet to rent, for a model and a promise.

Owns its options and what is printed. The search is in `gateway/rehearsal/rental.py`.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import wraps
from pathlib import Path
from typing import Any

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from cuvee.options import TPOT, TTFT
from cuvee.progress import Work
from gateway.rehearsal.rental import SEEDS, AloneFleet, Rental, RentalRequest, cheapest_rental
from planner import shipped
from planner.costs import prices
from planner.engine import catalogue
from planner.engine.hardware import Model
from planner.errors import InvalidValue
from planner.model.plan import Certificate, Plan
from planner.model.plan_json import plan_figures
from planner.slo import Slo
from planner.traffic.trace import Trace, read_trace


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetlessOptions:
    """What stands in place of a configuration; `None`: not given."""

    ttft_s: float | None
    tpot_s: float | None
    attainment: float | None
    workload: str | None
    prices: str | None
    seeds: int | None
    requests: int | None

    def given(self) -> list[str]:
        """The names of the options that are given."""
        options = {
            "--ttft": self.ttft_s,
            "--tpot": self.tpot_s,
            "--attainment": self.attainment,
            "--workload": self.workload,
            "--prices": self.prices,
            "--seeds": self.seeds,
            "--requests": self.requests,
        }
        return [name for name, value in options.items() if value is not None]

    @property
    def slo(self) -> Slo:
        """The promise. Raises UsageError without both targets."""
        if self.ttft_s is None or self.tpot_s is None:
            raise click.UsageError("without a configuration --ttft and --tpot are needed")
        attainment = {} if self.attainment is None else {"attainment": self.attainment}
        return Slo(ttft_s=self.ttft_s, tpot_s=self.tpot_s, **attainment)


def fleetless_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of planning without a configuration; the command gets them as `fleetless`."""

    @TTFT
    @TPOT
    @click.option("--attainment", type=float, help="Share of requests that keep both; 0.99.")
    @click.option(
        "--workload",
        help="Sizes to plan for, in place of --trace: "
        f"{', '.join(shipped.shelf('workloads', '.csv'))}.",
    )
    @click.option(
        "--prices",
        "prices_name",
        help="Price list, a built-in name or a file; default: of all lists that ship the lowest.",
    )
    @click.option(
        "--seeds",
        type=click.IntRange(min=2),
        help=f"Rehearsals of one certificate; default: {SEEDS}.",
    )
    @click.option(
        "--requests",
        type=click.IntRange(min=1),
        help="Of one rehearsal; default: five minutes of them, 3,000 at least.",
    )
    @wraps(command)
    def with_fleetless(
        ttft: float | None,
        tpot: float | None,
        attainment: float | None,
        workload: str | None,
        prices_name: str | None,
        seeds: int | None,
        requests: int | None,
        **options: Any,
    ) -> None:
        fleetless = FleetlessOptions(
            ttft_s=ttft,
            tpot_s=tpot,
            attainment=attainment,
            workload=workload,
            prices=prices_name,
            seeds=seeds,
            requests=requests,
        )
        command(fleetless=fleetless, **options)

    return with_fleetless


def plan_rental(
    options: FleetlessOptions,
    *,
    model: str | None,
    trace_path: Path | None,
    rate: float | None,
    as_json: bool,
) -> None:
    """Find and print the cheapest fleet. Raises UsageError, and PlannerError of what it reads."""
    if model is None:
        raise click.UsageError("without a configuration --model is needed")
    if (trace_path is None) == (options.workload is None):
        raise click.UsageError(
            "without a configuration --trace or --workload is needed, one of them"
        )
    slo, console = options.slo, Console()
    request = RentalRequest(
        model=model_of(model),
        slo=slo,
        trace=_trace(trace_path, options.workload),
        rate=rate,
        usd=price_list(options.prices),
    )
    with Work("planning") as work:
        rental = cheapest_rental(
            request,
            seeds=options.seeds or SEEDS,
            requests=options.requests,
            progress=work.say,
        )
    if as_json:
        click.echo(json.dumps(rental_json(rental, request), indent=1))
    else:
        show_rental(rental, request, console)


def rental_json(rental: Rental, request: RentalRequest) -> dict[str, Any]:
    """The answer as plain JSON values; what cannot be served stands first."""
    best = rental.best_alone
    return {
        "served": rental.certificate.holds,
        "model": request.model.name,
        "slo": asdict(request.slo),
        "requests_per_s": rental.demand.total_rate,
        "dispersion": list(rental.demand.dispersion),
        "fleet": _fleet(rental.plan),
        "usd_per_hour": rental.plan.usd_per_hour,
        "certificate": asdict(rental.certificate) | {"holds": rental.certificate.holds},
        "best_single_type": None if best is None else best.gpu,
        "saving": rental.saving,
        "cost": asdict(rental.cost),
        "single_types": {one.gpu: _alone_json(one) for one in rental.alone},
        "left_out": {one.name: one.reason for one in rental.left_out},
        "plan": plan_figures(rental.plan),
    }


def show_rental(rental: Rental, request: RentalRequest, console: Console) -> None:
    """Print the answer for people, what cannot be served first."""
    slo = request.slo
    if not rental.certificate.holds:
        kept, played = rental.certificate.attainment, rental.played
        console.print(
            "NOT SERVED: no fleet was found that keeps the promise. "
            f"The nearest of {played} that were played keeps it for {kept:.2%} of the requests:",
            highlight=False,
        )
        for unserved in rental.plan.unserved:
            what = rental.plan.buckets.describe(unserved.bucket)
            console.print(
                f"  {what}, {unserved.rate:.3g} req/s: {unserved.reason}", highlight=False
            )
    console.print(
        f"{request.model.name}, {rental.demand.total_rate:g} req/s: TTFT {slo.ttft_s:g} s and TPOT "
        f"{slo.tpot_s * 1e3:g} ms for {slo.attainment:.1%} of the requests",
        highlight=False,
    )
    console.print(fleet_table(rental))
    console.print("\n".join(_sentences(rental)), highlight=False)
    console.print(alone_table(rental))
    if rental.left_out:
        console.print(_left_out(rental), highlight=False)


def fleet_table(rental: Rental) -> Table:
    """The pools of the fleet."""
    plan = rental.plan
    table = Table(title=f"fleet: ${plan.usd_per_hour:.2f}/h", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("pool")
    for heading in ("backends", "$/h", "mean load", "used"):
        table.add_column(heading, justify="right")
    rows = zip(rental.pools, plan.backends, plan.load, strict=True)
    for pool, count, load in rows:
        if count:
            usd = f"{count * pool.usd_per_hour:.2f}"
            table.add_row(pool.name, str(count), usd, f"{load:.2f}", f"{load / count:.0%}")
    return table


def alone_table(rental: Rental) -> Table:
    """Every GPU type alone: certified, or what the planner says of it."""
    table = Table(title="one GPU type alone", title_justify="left", box=SIMPLE_HEAD)
    for heading in ("GPU", "fleet"):
        table.add_column(heading)
    for heading in ("$/h", "attainment", "saving"):
        table.add_column(heading, justify="right")
    for one in rental.alone:
        plan, certificate = one.plan, one.certificate
        if certificate is None and plan.unserved:
            why = f"cannot serve {plan.unserved_share:.1%}: {plan.unserved[0].reason}"
            table.add_row(one.gpu, why, "–", "–", "–")
        elif certificate is None:
            least = f"≥ {one.lower_bound_usd_per_hour:.2f}"
            played = "none certified" if one.played else "not played"
            table.add_row(one.gpu, played, least, "–", "–")
        else:
            usd = plan.usd_per_hour
            share = 1 - rental.plan.usd_per_hour / usd if rental.certificate.holds and usd else None
            saved = "–" if share is None else f"{share:.1%}"
            attained = f"{certificate.attainment:.2%}"
            table.add_row(one.gpu, _words(plan), f"{usd:.2f}", attained, saved)
    return table


def _sentences(rental: Rental) -> list[str]:
    """What a buyer wants to know, a line each."""
    cost, best = rental.cost, rental.best_alone
    lines = [_certificate(rental.certificate)]
    if rental.certificate.holds and rental.plan.unserved:
        share = rental.plan.unserved_share
        lines.append(
            f"{share:.1%} of the requests are of sizes that no pool promises; all were played"
        )
    if best is not None and rental.saving is not None:
        lines.append(
            f"best certified single type: {_words(best.plan)}, ${best.plan.usd_per_hour:.2f}/h; "
            f"saving {rental.saving:.1%}"
        )
    lines.append(
        f"${cost.usd_per_million:.3f} per million tokens, prompts and answers; "
        f"${cost.usd_per_million_output:.3f} per million output tokens"
    )
    lines.append(
        f"used to {cost.utilisation:.0%}; at full use ${cost.usd_per_million_full:.3f} per million"
    )
    return lines


def _left_out(rental: Rental) -> str:
    """The GPU types that could not be used at all, with the reason for their largest backend, and
    how many backends of other types could not."""
    used = {one.gpu for one in rental.alone}
    reasons = {one.gpu: one.reason for one in rental.left_out}
    whole = [f"{gpu}: {reason}" for gpu, reason in reasons.items() if gpu not in used]
    rest = sum(one.gpu in used for one in rental.left_out)
    if rest:
        whole.append(f"{rest} backends of other types (--json has the reasons)")
    return "not considered: " + "; ".join(whole)


def _certificate(certificate: Certificate) -> str:
    verdict = "certified" if certificate.holds else "not certified"
    return (
        f"{verdict}: {certificate.attainment:.2%} keep the promise "
        f"({certificate.low:.2%}–{certificate.high:.2%}, {certificate.seeds} plays, "
        f"{certificate.requests:,} requests)"
    )


def _alone_json(one: AloneFleet) -> dict[str, Any]:
    certificate = one.certificate
    return {
        "fleet": _fleet(one.plan),
        "usd_per_hour": one.plan.usd_per_hour,
        "unserved_share": one.plan.unserved_share,
        "lower_bound_usd_per_hour": one.lower_bound_usd_per_hour,
        "certificate": None
        if certificate is None
        else asdict(certificate) | {"holds": certificate.holds},
    }


def _fleet(plan: Plan) -> dict[str, int]:
    """The pools in use, with their backends."""
    counts = zip(plan.pools, plan.backends, strict=True)
    return {name: count for name, count in counts if count}


def _words(plan: Plan) -> str:
    return " + ".join(f"{count} {name}" for name, count in _fleet(plan).items()) or "none"


def model_of(value: str) -> Model:
    model = catalogue.find_model(value, Path())
    if model is None:
        text = shipped.unknown(value, catalogue.models())
        raise InvalidValue(f"--model: {text} Or give the path of its config.json.")
    return model


def _trace(path: Path | None, workload: str | None) -> Trace:
    return read_trace(shipped.workload(workload or "") if path is None else path)


def price_list(value: str | None) -> Mapping[str, float]:
    """$ per GPU-hour of a price list, or the lowest of all that ship."""
    if value is not None:
        return prices.read_prices(shipped.located(value, Path(), "prices"))
    lowest: dict[str, float] = {}
    for path in shipped.shelf("prices").values():
        for gpu, usd in prices.read_prices(path).items():
            lowest[gpu] = min(usd, lowest.get(gpu, usd))
    return lowest
