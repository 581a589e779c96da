"""The subcommand `explain`: where a request would go and why, or what became of one."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cuvee.asking import ask
from cuvee.options import CONFIG, EXISTING_FILE, JSON, TOKEN, configured, table_columns
from cuvee.progress import Work
from cuvee.tables import add_figures, add_texts, close_table
from gateway.config.serving import serving
from gateway.errors import GatewayError
from gateway.explanation.explanation import asked, explained
from gateway.explanation.question import ExplainQuestion, read
from gateway.rehearsal.virtual_fleet import virtual_fleet
from gateway.routing.endpoints import BY_PATH, ENDPOINTS
from planner.errors import PlannerError
from planner.traffic.trace import read_trace

PATH = "/cuvee/explain"
STDIN = "-"
CHOSEN = Text("chosen", "bold")
UNASKED = "no running gateway was asked (--url)"


@click.command()
@click.argument("what", metavar="FILE|REQUEST-ID")
@CONFIG
@click.option(
    "--url",
    help="Admin port of a running gateway, to ask it. Default for a REQUEST-ID: that of the "
    "configuration; for a FILE: no gateway is asked.",
)
@TOKEN
@click.option("--endpoint", help="Path that the body is for; default: by its fields.")
@click.option("--slo-class", help="SLO class that the request names.")
@click.option("--caller", default="", help="Id of the caller, as receipts and bills have it.")
@click.option(
    "--trace", "trace_path", type=EXISTING_FILE,
    help="Without --url: the workload to plan for; default: planner.workload.",
)  # fmt: skip
@click.option(
    "--load", type=click.FloatRange(0), default=1.0, show_default=True,
    help="Without --url: how much of the workload is in the fleet; 0: it is idle.",
)  # fmt: skip
@click.option(
    "--certify", is_flag=True,
    help="Without --url: by the cheapest certified plan, which takes a minute to find.",
)  # fmt: skip
@JSON
def explain(
    what: str,
    path: Path,
    url: str | None,
    token: str | None,
    endpoint: str | None,
    slo_class: str | None,
    caller: str,
    trace_path: Path | None,
    load: float,
    certify: bool,
    as_json: bool,
) -> None:
    """Say where a request would go and why; or what became of one.

    FILE is the body of a request, `-` for standard input. With --url a running gateway says what it
    would decide now; it sends nothing and reserves nothing. Without, no gateway is asked: the plan
    of the configuration is played on a made-up fleet, as full as the plan expects.

    REQUEST-ID is the `x-request-id` of a request that a running gateway has served: what was
    estimated beside what came.
    """
    if endpoint is not None and endpoint not in BY_PATH and endpoint not in ENDPOINTS:
        raise click.BadParameter(f"there is no endpoint {endpoint}", param_hint="--endpoint")
    if what != STDIN and not Path(what).is_file():
        if "/" in what or what.endswith(".json"):
            raise click.ClickException(f"no such file: {what}")
        told = ask(PATH, {"request_id": what}, config=path, url=url, token=token)
    else:
        question = ExplainQuestion(
            body=_body(what), endpoint=endpoint, slo_class=slo_class, caller=caller
        )
        if url is not None:
            told = ask(PATH, question, config=path, url=url, token=token)
        else:
            told = _offline(question, path, trace_path, load=load, certify=certify)
    if as_json:
        click.echo(json.dumps(told, indent=1, ensure_ascii=False))
    else:
        console = Console(width=table_columns(), highlight=False, markup=False)
        for part in outcome(told) if told.get("recorded") else prospect(told):
            console.print(part, soft_wrap=isinstance(part, str))


def _body(what: str) -> msgspec.Raw:
    text = sys.stdin.buffer.read() if what == STDIN else Path(what).read_bytes()
    try:
        msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise click.ClickException(f"{what} is not a JSON object: {error}") from error
    return msgspec.Raw(text)


def _offline(
    question: ExplainQuestion, path: Path, trace_path: Path | None, *, load: float, certify: bool
) -> dict[str, Any]:
    """The explanation by the plan of a configuration, on a fleet that does not run."""
    loaded = configured(path)
    trace_path = trace_path or loaded.workload
    model = next(iter(loaded.config.models))
    try:
        trace = None if trace_path is None else read_trace(trace_path, model=model)
        with Work("planning"):
            fleet = virtual_fleet(loaded, trace, model=model, load=load, certify=certify)
        one = read(question, serving(loaded), fleet.at.table, fleet.estimator)
        about = asked(one.request, one.estimate, fleet.at, caller=one.caller)
        return explained(about, fleet.at, notes=[*one.notes, _virtual(trace_path, load)])
    except (PlannerError, GatewayError, OSError) as error:
        raise click.ClickException(str(error)) from error


def _virtual(trace_path: Path | None, load: float) -> str:
    """That no gateway was asked, and which fleet is meant instead."""
    if trace_path is None:
        return (
            f"{UNASKED}; the fleet is that of the configuration, idle, because the workload is not "
            "known (--trace)"
        )
    full = "idle" if not load else f"as full as {load:g} × the workload of {trace_path} makes it"
    return f"{UNASKED}; the fleet is that of the plan, {full}"


def prospect(told: dict[str, Any]) -> Iterator[str | Table]:
    """What would become of a request, for people."""
    request, believed, promise = told["request"], told["believed"], told["promise"]
    how = "as a stream" if request["stream"] else "as a whole answer"
    many = "" if request["sequences"] == 1 else f", {request['sequences']} sequences"
    yield f"Asked     {request['endpoint']} of {request['model']} {how}{many}"
    yield (
        f"Believed  {believed['input_tokens']:,} tokens in, {believed['output_tokens']:,} out "
        f"(half of such answers are shorter; one in ten is longer than "
        f"{believed['output_p90']:,})"
    )
    yield (
        f"Bucket    {believed['bucket']}: {believed['what']}, planned for "
        f"{believed['planned_rate']:.3g} requests/s"
    )
    yield f"Promise   {_promise(promise)}"
    yield f"Plan      {told['plan']}: {_shares(told['pools'])}"
    if told["queued"]:
        yield f"Queue     {told['queued']} requests wait; this one may have to wait for them"
    for turn in told["turns"]:
        yield f"Decision  {_turn(turn)}"
    yield _pool_table(told["pools"])
    yield _backend_table(told["pools"])
    for note in told["notes"]:
        yield f"Note: {note}."


def _promise(promise: dict[str, Any] | None) -> str:
    if promise is None:
        return "none"
    text = (
        f"the first token within {promise['ttft_s']:g} s, then {1000 * promise['tpot_s']:g} ms a "
        f"token, for {promise['attainment']:.1%} of the requests"
    )
    if not promise["kept"]:
        return f"{text}; no pool can keep it for this one, which is served without"
    return f"{text}; {promise['slack_s']:.2f} s are left for its prompt and those before it"


def _shares(pools: list[dict[str, Any]]) -> str:
    shares = [f"{row['pool']} {row['share']:.0%}" for row in pools if row["share"] > 0]
    return f"this size goes to {', '.join(shares)}" if shares else "this size has no pool"


def _turn(turn: dict[str, Any]) -> str:
    whose = "" if turn["turn"] is None else f"at {turn['turn']}'s turn ({turn['share']:.0%}): "
    if turn["backend"] is None:
        return f"{whose}{turn['decision']}: {turn['why']}"
    return f"{whose}{turn['backend']}, {turn['decision']}: {turn['why']}"


def _pool_table(pools: list[dict[str, Any]]) -> Table:
    table = close_table()
    add_texts(table, "pool", "GPU")
    add_figures(table, "share", "backends", "at once", "prompt s", "$ for\n1,000")
    add_texts(table, "why not")
    for row in pools:
        usd, n_star = row["usd_per_1000"], row["n_star"]
        table.add_row(
            row["pool"],
            row["gpu"],
            f"{row['share']:.0%}",
            f"{row['backends_planned']} of {len(row['backends'])}",
            "–" if usd is None or n_star is None else f"{n_star:.1f}",
            f"{row['prefill_s']:.2f}",
            "–" if usd is None else f"{usd:.3f}",
            row["lost"] or CHOSEN,
        )
    return table


def _backend_table(pools: list[dict[str, Any]]) -> Table:
    table = close_table()
    add_texts(table, "backend", "state")
    add_figures(table, "in\nflight", "load", "memory", "prompts\ns", "has\nof it", "pressure")
    add_texts(table, "why not")
    for row in pools:
        for one in row["backends"]:
            pressure = one["pressure"]
            lost = one["lost"] or ("see the pool" if row["lost"] else CHOSEN)
            table.add_row(
                one["name"],
                one["state"],
                str(one["in_flight"]),
                f"{one['load']:.2f}",
                f"{one['memory']:.2f}",
                f"{one['prefill_s']:.2f}",
                f"{one['known']:.0%}",
                "–" if pressure is None else f"{pressure:.2f}",
                lost,
            )
    return table


def outcome(told: dict[str, Any]) -> Iterator[str | Table]:
    """What became of a request, for people."""
    yield f"Request   {told['id']}"
    for subject, words in told["words"]:
        yield f"{subject:9} {words}"
    table = close_table()
    add_texts(table, "")
    add_figures(table, "estimated or promised", "actual", "actual / expected")
    for row in told["compared"]:
        ratio = row["ratio"]
        table.add_row(
            row["what"],
            _cell(row["expected"]),
            _cell(row["actual"]),
            "" if ratio is None else f"{ratio:.2f}",
        )
    yield table


def _cell(value: Any) -> str:
    if value is None:
        return "unknown"
    return f"{value:,}" if isinstance(value, int) else str(value)
