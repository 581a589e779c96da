"""The subcommand `trace import`: other people's files in, a trace out.

Owns options and what is printed; formats are the planner's.
"""

from pathlib import Path

import click

from cuvee.options import EXISTING_FILE, OUTPUT_FILE, POSITIVE
from planner.errors import PlannerError
from planner.traffic.formats import ReadingChoices
from planner.traffic.request_record import UNITS_S
from planner.traffic.trace import Trace, dispersion, write_trace
from planner.traffic.trace_import import NAMES, ImportedTrace, import_trace

BURST_WINDOW_S = 10.0


@click.group()
def trace() -> None:
    """Make traces from the traffic that you have."""


@trace.command("import")
@click.argument("path", metavar="FILE", type=EXISTING_FILE)
@click.option("--out", type=OUTPUT_FILE, required=True, help="The trace, a CSV file.")
@click.option(
    "--from", "name", type=click.Choice(NAMES), help="Format; default: recognised by its fields."
)
@click.option("--model", help="Only the requests for this model, where the file names models.")
@click.option(
    "--rate",
    type=POSITIVE,
    help="Poisson arrivals of so many requests/s instead of the file's own times.",
)
@click.option("--seed", default=1, show_default=True, help="Of the arrivals drawn with --rate.")
@click.option("--time-unit", type=click.Choice(tuple(UNITS_S)), help="Of times that are numbers.")
@click.option(
    "--bytes-per-token",
    type=POSITIVE,
    default=4.0,
    show_default=True,
    help="Where a file has texts and no token counts.",
)
@click.option(
    "--prefix-hits",
    is_flag=True,
    help="Count blocks that an earlier prompt had as hits, as a cache without a limit would.",
)
def import_(
    path: Path,
    out: Path,
    name: str | None,
    model: str | None,
    rate: float | None,
    seed: int,
    time_unit: str | None,
    bytes_per_token: float,
    prefix_hits: bool,
) -> None:
    """Make a trace of a log or a public data set, as CSV or JSON.

    Reads LiteLLM's spend logs, vLLM's request logs, the Azure traces of 2023 and 2024, BurstGPT,
    Mooncake, ServeGen, Alibaba's traces with hashes, and conversations as in ShareGPT. Texts are
    counted and not kept; senders become digests. docs/traces.md says what each format must have.
    """
    choices = ReadingChoices(unit=time_unit, bytes_per_token=bytes_per_token)
    try:
        imported = import_trace(
            path,
            choices,
            name=name,
            model=model,
            rate=rate,
            seed=seed,
            prefix_hits=prefix_hits,
        )
        with out.open("w", encoding="utf-8", newline="") as file:
            write_trace(imported.trace, file)
    except (PlannerError, OSError) as error:
        raise click.ClickException(str(error)) from error
    for line in summary(imported):
        click.echo(line)


def summary(imported: ImportedTrace) -> list[str]:
    """What was read, and what a reader must know of it; one line each."""
    made = imported.trace
    lines = [f"{imported.format}: {len(made)} requests, {_rate(made)}, {_sizes(made)}"]
    bursts = dispersion(made.arrival_s, BURST_WINDOW_S, made.duration_s)
    if bursts is not None and imported.timed:
        lines.append(f"bursts: index of dispersion {bursts:.1f} at {BURST_WINDOW_S:g} s")
    senders = len(set(made.key) - {""})
    if senders:
        lines.append(f"{senders} senders, as digests")
    if not imported.timed:
        lines.append("arrivals are drawn: the file's own times are not in the trace")
    if imported.estimated:
        how = "as the gateway did" if imported.format == "cuvee" else "from the length of texts"
        lines.append(f"{imported.estimated} sizes are estimated {how}")
    hits = made.cached_tokens.sum()
    if hits:
        lines.append(f"prefix hits: {hits / made.input_tokens.sum():.0%} of the input")
    for reason, count in sorted(imported.left_out.items(), key=lambda item: -item[1]):
        lines.append(f"left out: {count} × {reason}")
    return lines


def _rate(made: Trace) -> str:
    if made.rate is None:
        return "all at once"
    return f"{made.rate:.3g}/s for {made.duration_s:.0f} s"


def _sizes(made: Trace) -> str:
    return f"{made.input_tokens.mean():.0f} tokens in and {made.output_tokens.mean():.0f} out"
