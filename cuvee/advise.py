"""The subcommand `advise`: what Cuvée would save of a fleet that exists, which it only watches."""

import asyncio
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from cuvee.fleetless import alone_table, fleet_table, model_of, price_list, rental_json
from cuvee.options import API_KEY, EXISTING_FILE, JSON, POSITIVE, TPOT, TTFT, table_columns
from cuvee.progress import Work
from cuvee.trace import summary
from gateway.advice.present_fleet import PresentEngines, bill, present_engines
from gateway.advice.seen_trace import hit_share, kept_now, seen_traffic
from gateway.advice.watch import Watch, WatchedTraffic
from gateway.rehearsal.rental import SEEDS, Rental, RentalRequest, cheapest_rental
from planner import shipped
from planner.engine import catalogue
from planner.errors import InvalidValue, PlannerError
from planner.model.plan import Certificate
from planner.slo import Slo
from planner.traffic.formats import ReadingChoices
from planner.traffic.trace import Trace
from planner.traffic.trace_import import import_trace

ATTAINMENT = 0.99
OF_LOG = "what engines do now: a log has no TTFT and no TPOT, so the promise is yours"
OF_PROFILES = (
    "your machines: capacities are of the profiles that ship or are computed from data sheets; "
    "`cuvee profile measure` measures yours"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundTraffic:
    """The traffic that is advised on. model: its name as requests or metrics have it, `None` if
    they do not say. kept: TTFT and TPOT as they are now. seen: lines about it. unknown: what it
    does not tell."""

    trace: Trace
    model: str | None
    kept: tuple[float | None, float | None]
    seen: Sequence[str]
    unknown: Sequence[str]


@click.command()
@click.option(
    "--url", "urls", multiple=True, help="An engine that runs: vLLM, SGLang or TGI. Repeat it."
)
@click.option("--log", type=EXISTING_FILE, help="A log or trace, as `cuvee trace import` reads it.")
@click.option(
    "--for", "minutes", type=POSITIVE, default=10.0, show_default=True,
    help="Minutes to watch engines.",
)  # fmt: skip
@click.option(
    "--every", "every_s", type=click.FloatRange(0.05, 60), default=10.0, show_default=True,
    help="Seconds between two readings of their metrics.",
)  # fmt: skip
@click.option(
    "--gpu", "gpus", multiple=True, metavar="[N×]GPU[=ENGINES]",
    help="What runs now: A10G, 2xH100, or A10G=3 where there are several kinds. Repeat it.",
)  # fmt: skip
@click.option("--log-model", help="Only the log's requests that name this model.")
@click.option("--model", help="Built-in name, or the path of a config.json; default: of the URLs.")
@TTFT
@TPOT
@click.option(
    "--attainment", type=click.FloatRange(0, 1, min_open=True, max_open=True), default=ATTAINMENT,
    show_default=True, help="Share of the requests that keep both.",
)  # fmt: skip
@click.option(
    "--prices", "prices_name",
    help="Price list, a built-in name or a file; default: of all lists that ship the lowest.",
)  # fmt: skip
@API_KEY
@click.option(
    "--seeds", type=click.IntRange(min=2), default=SEEDS, show_default=True,
    help="Rehearsals of one certificate.",
)  # fmt: skip
@click.option(
    "--requests", type=click.IntRange(min=1),
    help="Of one rehearsal; default: five minutes of them, 3,000 at least.",
)  # fmt: skip
@JSON
def advise(
    urls: tuple[str, ...],
    log: Path | None,
    minutes: float,
    every_s: float,
    gpus: tuple[str, ...],
    log_model: str | None,
    model: str | None,
    ttft: float | None,
    tpot: float | None,
    attainment: float,
    prices_name: str | None,
    key: str | None,
    seeds: int,
    requests: int | None,
    as_json: bool,
) -> None:
    """Say what Cuvée would save of the engines that run today. It touches nothing.

    Watches the metrics of engines (--url), or reads a log (--log), and finds the cheapest fleet
    that is certified to keep the promise for such traffic: beside what runs now, if --gpu says what
    that is. Without --ttft and --tpot the promise is what the engines keep now. It also says what
    the metrics or the log do not tell. Ctrl-C ends the watching early.
    """
    if bool(urls) == (log is not None):
        raise click.UsageError("--url or --log is needed, one of them")
    # What can be wrong in words is found before ten minutes are watched.
    try:
        present = present_engines(gpus, len(dict.fromkeys(urls)) if urls else None)
    except InvalidValue as error:
        raise click.UsageError(str(error)) from error
    try:
        usd = price_list(prices_name)
        now_usd = bill(present, usd) if present else None
        if log is None:
            found = _watched(urls, minutes * 60, every_s, key, attainment)
        else:
            found = _logged(log, log_model)
        promise = _promise(found, ttft, tpot, attainment)
        request = RentalRequest(
            model=model_of(_name(model, found)), slo=promise, trace=found.trace, rate=None, usd=usd
        )
        with Work("searching") as work:
            rental = cheapest_rental(request, seeds=seeds, requests=requests, progress=work.say)
    except (PlannerError, OSError) as error:
        raise click.ClickException(str(error)) from error
    unknown = (*found.unknown, OF_PROFILES)
    if as_json:
        body = _advice_json(rental, request, present, now_usd, found, unknown)
        click.echo(json.dumps(body, indent=1, ensure_ascii=False))
    else:
        _show(rental, request, present, now_usd, found, unknown)


def _watched(
    urls: Sequence[str], for_s: float, every_s: float, token: str | None, share: float
) -> FoundTraffic:
    watch = Watch(urls, every_s=every_s, token=token)
    with Work("watching") as work:

        def progress(traffic: WatchedTraffic) -> None:
            work.say(f"watching, {traffic.requests:,} requests")
            work.reach(traffic.seconds, for_s)

        with suppress(KeyboardInterrupt):  # then what was seen so far must do
            asyncio.run(watch.run(for_s, progress))
    traffic = watch.traffic
    seen = seen_traffic(traffic, every_s=every_s)
    kept, engines = kept_now(traffic, share), traffic.served.values()
    models = sorted({model for engine in engines for model in engine.models})
    if len(models) > 1:
        names = ", ".join(models)
        raise InvalidValue(f"the engines serve several models ({names}): advise on one at a time")
    return FoundTraffic(
        trace=seen.trace,
        model=models[0] if models else None,
        kept=kept,
        seen=(_of(traffic, seen.trace), _now(kept, share, hit_share(traffic))),
        unknown=seen.unknown,
    )


def _logged(path: Path, named: str | None) -> FoundTraffic:
    """named: only the requests that name this model."""
    imported = import_trace(path, ReadingChoices(), model=named)
    if imported.trace.rate is None:
        raise InvalidValue(f"{path}: all requests arrive at once, so their rate is not known")
    hours = imported.trace.duration_s / 3600
    of_day = f"the day: the log has {hours:.1f} hours; a fleet must hold the busiest one"
    return FoundTraffic(
        trace=imported.trace,
        model=None,
        kept=(None, None),
        seen=summary(imported),
        unknown=(of_day, OF_LOG),
    )


def _promise(found: FoundTraffic, ttft: float | None, tpot: float | None, attainment: float) -> Slo:
    """The promise: as asked for, or what is kept now. Raises InvalidValue if neither is known."""
    ttft_s, tpot_s = ttft or found.kept[0], tpot or found.kept[1]
    if ttft_s is None or tpot_s is None:
        lacking = " and ".join(
            name for name, value in (("--ttft", ttft_s), ("--tpot", tpot_s)) if value is None
        )
        raise InvalidValue(f"{lacking}: needed, since nothing tells what is kept now")
    return Slo(ttft_s=ttft_s, tpot_s=tpot_s, attainment=attainment)


def _name(model: str | None, found: FoundTraffic) -> str:
    """The model that is served. Raises InvalidValue where that is not known."""
    if model is not None:
        return model
    if found.model is None:
        raise InvalidValue("--model is needed: nothing says which model is served")
    bare = found.model.rpartition("/")[2]
    for name in (found.model, bare):
        if shipped.lookup(name, catalogue.models()) is not None:
            return name
    near = shipped.unknown(bare, catalogue.models())
    raise InvalidValue(f"--model is needed: the engines call theirs {found.model}. {near}")


def _of(traffic: WatchedTraffic, trace: Trace) -> str:
    rate = traffic.requests / traffic.seconds if traffic.seconds else 0.0
    engines = ", ".join(sorted({engine.engine for engine in traffic.served.values()}))
    return (
        f"{len(traffic.served)} engines ({engines}), {traffic.requests:,} requests in "
        f"{traffic.seconds:.0f} s: {rate:.3g}/s of {trace.input_tokens.mean():.0f} tokens in and "
        f"{trace.output_tokens.mean():.0f} out"
    )


def _now(kept: tuple[float | None, float | None], share: float, hits: float | None) -> str:
    words = ["unknown" if value is None else f"{value:g} s at most" for value in kept]
    found = "" if hits is None else f"; prefix hits {hits:.0%}"
    return f"now, for {share:.0%} of the requests: TTFT {words[0]}, TPOT {words[1]}{found}"


def _saved(rental: Rental, now_usd: float | None) -> float | None:
    """The share of what runs now that the certified fleet saves; `None` where one is unknown."""
    if not now_usd or not rental.certificate.holds:
        return None
    return 1 - rental.plan.usd_per_hour / now_usd


def _advice_json(
    rental: Rental,
    request: RentalRequest,
    present: Sequence[PresentEngines],
    now_usd: float | None,
    found: FoundTraffic,
    unknown: Sequence[str],
) -> dict[str, Any]:
    return {
        "now": {"engines": [one.words for one in present], "usd_per_hour": now_usd},
        "saving_against_now": _saved(rental, now_usd),
        "seen": list(found.seen),
        "unknown": list(unknown),
    } | rental_json(rental, request)


def _show(
    rental: Rental,
    request: RentalRequest,
    present: Sequence[PresentEngines],
    now_usd: float | None,
    found: FoundTraffic,
    unknown: Sequence[str],
) -> None:
    console, slo = Console(width=table_columns(), highlight=False, markup=False), request.slo
    for line in found.seen:
        console.print(line)
    console.print(
        f"promise for {request.model.name}: TTFT {slo.ttft_s:g} s and TPOT "
        f"{1000 * slo.tpot_s:g} ms for {slo.attainment:.1%} of the requests"
    )
    console.print(fleet_table(rental))
    console.print(_proof(rental.certificate))
    for line in _beside(rental, present, now_usd):
        console.print(line)
    console.print(alone_table(rental))
    console.print("What this does not know:")
    for line in unknown:
        console.print(f"- {line}")


def _proof(certificate: Certificate) -> str:
    kept = (
        f"{certificate.attainment:.2%} keep the promise ({certificate.low:.2%}–"
        f"{certificate.high:.2%}, {certificate.seeds} plays, {certificate.requests:,} requests)"
    )
    if certificate.holds:
        return f"certified: {kept}"
    return f"NOT CERTIFIED: no fleet was found that keeps the promise; of this one {kept}"


def _beside(rental: Rental, present: Sequence[PresentEngines], now_usd: float | None) -> list[str]:
    """The certified fleet beside what runs now."""
    if now_usd is None:
        return ["what runs now is not known: --gpu says it, and what would be saved"]
    words = " and ".join(one.words for one in present)
    line = f"now: {words}, ${now_usd:.2f}/h"
    saved = _saved(rental, now_usd)
    if saved is None:
        return [line]
    if saved <= 0:
        return [f"{line}: Cuvée would save nothing of it at this promise"]
    year = (now_usd - rental.plan.usd_per_hour) * 8766
    return [f"{line}: Cuvée would save {saved:.1%}, ${year:,.0f} a year at this load"]
