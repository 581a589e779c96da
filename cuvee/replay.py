"""The subcommand `replay`: options in, tables and an exit code out. Computes nothing itself."""

import json
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import click
import uvloop
from rich.console import Console

from cuvee.options import EXISTING_FILE, JSON_FILE, POSITIVE, TPOT, TTFT, printable
from cuvee.progress import Work
from loadtest.replay import report, send
from loadtest.replay.record import Record
from loadtest.replay.send import PATHS, TIMEOUT_S, ReplayOptions
from planner.errors import PlannerError
from planner.slo import Slo
from planner.traffic.trace import Trace, read_trace

KEY_HINT = "give a key (CUVEE_API_KEY), or name the model (--model)"


def _server(_: click.Context, __: click.Parameter, value: str) -> str:
    """The URL of a server, which has a scheme and a host."""
    try:
        parts = urlsplit(value)
        if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0:
            return value
    except ValueError:
        pass
    raise click.BadParameter(f"`{value}` is no URL, such as http://127.0.0.1:8080")


@click.command()
@click.option(
    "--url", required=True, callback=_server, help="The server, such as http://127.0.0.1:8080."
)
@click.option(
    "--trace",
    "trace_path",
    required=True,
    type=EXISTING_FILE,
    help="CSV with arrival_s,input_tokens,output_tokens[,key][,cached_tokens]; key is sent as the "
    "API key, and so many tokens are the beginning of other prompts too.",
)
@click.option("--duration", "duration_s", type=POSITIVE, help="Seconds of sending.")
@click.option(
    "--rate-scale",
    type=POSITIVE,
    default=1.0,
    show_default=True,
    help="Compress time: 2 sends twice as fast as recorded.",
)
@click.option("--model", help="Model name.  [default: the first of /v1/models]")
@click.option(
    "--api-key", "api_key", envvar="CUVEE_API_KEY", show_envvar=True, callback=printable,
    help="Without --model: the key that /v1/models asks for. Requests have those of the trace.",
)  # fmt: skip
@click.option("--endpoint", type=click.Choice(list(PATHS)), default="chat", show_default=True)
@TTFT
@TPOT
@click.option("--exact-output", is_flag=True, help="Force output lengths (max_tokens, ignore_eos).")
@click.option("--max-tokens", type=click.IntRange(1), help="Cap on every request's output.")
@click.option(
    "--timeout",
    "timeout_s",
    type=POSITIVE,
    default=TIMEOUT_S,
    show_default=True,
    help="Seconds for one exchange.",
)
@JSON_FILE
def replay(
    url: str,
    trace_path: Path,
    model: str | None,
    api_key: str | None,
    ttft: float | None,
    tpot: float | None,
    json_path: Path | None,
    **options: Any,
) -> None:
    """Send a trace to a server, and measure TTFT, TPOT and errors.

    Open loop and streaming. Every request leaves at its recorded time, whatever came back. Exits
    with 1 if any failed.
    """
    slo = _slo(ttft, tpot)
    trace, model = _trace_and_model(url, trace_path, model, api_key)
    console = Console()
    records = _replayed(url, trace, ReplayOptions(model=model, **options))
    summary = report.summarise(records, slo)
    console.print(*report.tables(summary), sep="\n")
    if json_path:
        json_path.write_text(json.dumps(report.to_json(summary), indent=2) + "\n")
    sys.exit(1 if summary.failed else 0)


def _replayed(url: str, trace: Trace, options: ReplayOptions) -> tuple[Record, ...]:
    """Run a replay and show how far it is."""
    done = failed = 0
    every = len(options.select(trace))
    with Work(f"0 of {every:,} requests") as work:

        def on_record(record: Record) -> None:
            nonlocal done, failed
            done += 1
            failed += record.error is not None
            work.say(f"{done:,} of {every:,} requests, {failed:,} failed")
            work.reach(done, every)

        return uvloop.run(send.replay(url, trace, options, on_record=on_record))


def _slo(ttft_s: float | None, tpot_s: float | None) -> Slo | None:
    if ttft_s is None and tpot_s is None:
        return None
    if ttft_s is None or tpot_s is None:
        raise click.UsageError("--ttft and --tpot make an SLO together: give both or neither")
    return Slo(ttft_s=ttft_s, tpot_s=tpot_s)


def _trace_and_model(url: str, path: Path, model: str | None, key: str | None) -> tuple[Trace, str]:
    """The trace, and the model to name: as given, or the first that the server lists.

    A trace that cannot be read is a usage error (2): 1 says that requests were sent and failed, or
    that the server did not answer.
    """
    try:
        return read_trace(path), model or _first_model(uvloop.run(send.models(url, key)), url)
    except PlannerError as error:
        raise click.UsageError(str(error)) from error
    except aiohttp.ClientResponseError as error:
        hint = f"; {KEY_HINT}" if error.status in (401, 403) else ""
        raise click.ClickException(f"{url}/v1/models answered {error.status}{hint}") from error
    except (aiohttp.ClientError, TimeoutError) as error:
        raise click.ClickException(f"{url}/v1/models: {error or 'no answer'}") from error


def _first_model(names: tuple[str, ...], url: str) -> str:
    if not names:
        raise click.ClickException(f"{url}/v1/models lists no model: give --model")
    return names[0]
