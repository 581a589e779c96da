"""The subcommand `affinity`: options in, a table of hits and attainment out. Computes nothing."""

import json
from pathlib import Path

import click
import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from cuvee.dispatch import backend_counts
from cuvee.options import CONFIG, FILE, JSON, POSITIVE, TPOT, TTFT, configured, table_columns
from cuvee.progress import Work
from loadtest.compare.affinity import LOOKS, WAYS, AffinityPlay, affinity_plays
from loadtest.compare.dispatch import with_targets
from loadtest.compare.prefixes import MADE, PrefixTrace, read_prefixes
from planner.errors import PlannerError

SECONDS = 300.0


@click.command()
@CONFIG
@click.option("--trace", "trace_path", type=FILE, help="Trace CSV with a column `hash_ids`.")
@click.option("--made", type=click.Choice(list(MADE)), help="Instead of a trace: such traffic.")
@click.option("--rate", type=POSITIVE, help="Of made traffic, requests/s.")
@click.option(
    "--seconds", type=POSITIVE, default=SECONDS, show_default=True, help="Of made traffic."
)
@click.option("--seed", type=int, default=1, show_default=True, help="Of made traffic.")
@click.option(
    "--speed", type=POSITIVE, default=1.0, show_default=True, help="How much faster than the trace."
)
@click.option("--fleet", required=True, help="Backends by pool, `h100=8`.")
@TTFT
@TPOT
@click.option(
    "--cache-share",
    type=click.FloatRange(0.0, 1.0, min_open=True),
    default=1.0,
    show_default=True,
    help="Of its KV cache, what an engine has for prompts that no request uses; nobody is told.",
)
@click.option(
    "--way", "ways", multiple=True, type=click.Choice(WAYS), help="Only this one; default: all."
)
@JSON
def affinity(
    path: Path,
    trace_path: Path | None,
    made: str | None,
    rate: float | None,
    seconds: float,
    seed: int,
    speed: float,
    fleet: str,
    ttft: float | None,
    tpot: float | None,
    cache_share: float,
    ways: tuple[str, ...],
    as_json: bool,
) -> None:
    """Compare ways to choose a backend by hits of prefix caches.

    Every simulated engine has a prefix cache of its own, as large as its KV cache leaves it.
    `none`: the gateway without affinity; `cuvee`: with it; `cuvee-events`: and with the engines'
    KV events; `longest-prefix`: the engine that has
    most of the prompt, which nobody could know; `hashing`: by a hash of its beginning.
    """
    console = Console(width=table_columns())
    try:
        loaded = with_targets(configured(path), ttft, tpot)
        traffic = _traffic(trace_path, made, rate, seconds, seed).at(speed)
        names = ways or WAYS
        with Work("playing", len(names) * (1 + LOOKS)) as work:
            plays, left_out = affinity_plays(
                loaded,
                traffic,
                backend_counts(fleet),
                names,
                cache_share=cache_share,
                progress=work.step,
            )
    except PlannerError as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        click.echo(json.dumps(as_values(plays, left_out), indent=1))
    else:
        console.print(plays_table(plays, f"{len(traffic.trace)} requests, {left_out:.1%} left out"))


def _traffic(
    trace_path: Path | None, made: str | None, rate: float | None, seconds: float, seed: int
) -> PrefixTrace:
    """The traffic that is asked for. Raises UsageError, and InvalidFile."""
    if (trace_path is None) == (made is None):
        raise click.UsageError("either --trace or --made")
    if trace_path is not None:
        return read_prefixes(trace_path)
    if rate is None:
        raise click.UsageError("--made needs a --rate")
    return MADE[made or ""](np.random.default_rng(seed), rate=rate, duration_s=seconds)


def as_values(plays: list[AffinityPlay], left_out: float) -> dict[str, object]:
    """The result as plain JSON values."""
    return {
        "left_out": left_out,
        "ways": [
            {
                "way": play.way,
                "attainment": play.attainment,
                "hit_share": play.hit_share,
                "refused": play.refused,
                "swayed": play.swayed,
                "planned_over_actual_prefill": play.planned_over_actual,
            }
            for play in plays
        ],
    }


def plays_table(plays: list[AffinityPlay], title: str) -> Table:
    """One row for each way. The share of the best hits is that of affinity alone."""
    pure = max((play.hit_share for play in plays if play.pure), default=0.0)
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    table.add_column("way")
    for heading in ("attained", "hit tokens", "of pure", "refused", "swayed", "planned prefill"):
        table.add_column(heading, justify="right")
    for play in plays:
        table.add_row(
            play.way,
            f"{play.attainment:.2%}",
            f"{play.hit_share:.1%}",
            f"{play.hit_share / pure:.0%}" if pure else "–",
            f"{play.refused:.2%}",
            f"{play.swayed:.1%}",
            f"{play.planned_over_actual:.3f} ×",
        )
    return table
