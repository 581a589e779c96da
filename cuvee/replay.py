"""The command `cuvee replay`: options in, tables and an exit code out. Computes nothing itself."""

import json
import sys
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Protocol

import aiohttp
import click
import uvloop
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from loadtest.replay import report, send
from loadtest.replay.record import Record
from loadtest.replay.send import PATHS, TIMEOUT_S, Endpoint
from planner.errors import PlannerError
from planner.slo import Slo
from planner.traffic.trace import Trace, read_trace


class Load(Protocol):
    """A replay that only lacks its audience."""

    def __call__(
        self, *, on_record: Callable[[Record], None]
    ) -> Coroutine[object, object, tuple[Record, ...]]: ...


@click.command()
@click.option("--url", required=True, help="The server, such as http://127.0.0.1:8080.")
@click.option(
    "--trace",
    "trace_path",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="CSV with arrival_s,input_tokens,output_tokens[,key]; key is sent as the API key.",
)
@click.option("--duration", type=click.FloatRange(0, min_open=True), help="Seconds of sending.")
@click.option(
    "--rate-scale",
    type=click.FloatRange(0, min_open=True),
    default=1.0,
    show_default=True,
    help="Compress time: 2 sends twice as fast as recorded.",
)
@click.option("--model", help="Model name.  [default: the first of /v1/models]")
@click.option("--endpoint", type=click.Choice(list(PATHS)), default="chat", show_default=True)
@click.option("--ttft", type=click.FloatRange(0, min_open=True), help="SLO: TTFT in seconds.")
@click.option("--tpot", type=click.FloatRange(0, min_open=True), help="SLO: TPOT in seconds.")
@click.option("--exact-output", is_flag=True, help="Force output lengths (max_tokens, ignore_eos).")
@click.option("--max-tokens", type=click.IntRange(1), help="Cap on every request's output.")
@click.option(
    "--timeout",
    type=click.FloatRange(0, min_open=True),
    default=TIMEOUT_S,
    show_default=True,
    help="Seconds for one exchange.",
)
@click.option(
    "--json",
    "json_path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Also write the summary to this file.",
)
def replay(
    url: str,
    trace_path: Path,
    duration: float | None,
    rate_scale: float,
    model: str | None,
    endpoint: Endpoint,
    ttft: float | None,
    tpot: float | None,
    exact_output: bool,
    max_tokens: int | None,
    timeout: float,
    json_path: Path | None,
) -> None:
    """Send a trace to a server, open loop and streaming, and measure TTFT, TPOT and errors.

    Every request leaves at its recorded time, whatever came back. Exits with 1 if any failed.
    """
    slo = _slo(ttft, tpot)
    trace, model = _prepared(url, trace_path, model)
    if duration is not None:
        trace = trace.slice(0.0, duration * rate_scale)
    console = Console()
    load = partial(
        send.replay,
        url,
        trace,
        model=model,
        rate_scale=rate_scale,
        endpoint=endpoint,
        exact_output=exact_output,
        max_tokens=max_tokens,
        timeout_s=timeout,
    )
    records = _watched(load, len(trace), console)
    summary = report.summarise(records, slo)
    console.print(*report.tables(summary), sep="\n")
    if json_path:
        json_path.write_text(json.dumps(report.to_json(summary), indent=2) + "\n")
    sys.exit(1 if summary.failed else 0)


def _watched(load: Load, total: int, console: Console) -> tuple[Record, ...]:
    """Runs a replay of `total` requests and shows how far it is."""
    failed = 0
    with _progress(console) as bar:
        task = bar.add_task("requests", total=total, failed=0)

        def on_record(record: Record) -> None:
            nonlocal failed
            failed += record.error is not None
            bar.update(task, advance=1, failed=failed)

        return uvloop.run(load(on_record=on_record))


def _slo(ttft_s: float | None, tpot_s: float | None) -> Slo | None:
    if ttft_s is None and tpot_s is None:
        return None
    if ttft_s is None or tpot_s is None:
        raise click.UsageError("--ttft and --tpot make an SLO together: give both or neither")
    return Slo(ttft_s=ttft_s, tpot_s=tpot_s)


def _prepared(url: str, path: Path, model: str | None) -> tuple[Trace, str]:
    try:
        return read_trace(path), model or _first(uvloop.run(send.models(url)), url)
    except PlannerError as error:
        raise click.UsageError(str(error)) from error
    except (aiohttp.ClientError, TimeoutError) as error:
        raise click.ClickException(f"{url}/v1/models: {error or 'no answer'}") from error


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total} done, {task.fields[failed]} failed"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    )


def _first(names: tuple[str, ...], url: str) -> str:
    if not names:
        raise click.ClickException(f"{url}/v1/models lists no model: give --model")
    return names[0]
