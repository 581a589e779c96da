"""The subcommand `scaling`: days in, a table of who was short and at which cost out."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from typing import TypeVar

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from cuvee.options import JSON, table_columns
from cuvee.progress import Work
from loadtest.compare.ramp import RampResult, play_ramps, ramp_needs
from loadtest.compare.rates import DAY
from loadtest.compare.scaling import (
    QUANTILE,
    ScalingScore,
    fleet_needs,
    scaling_days,
    scores,
)
from loadtest.compare.sleeping import SleepScore, sleep_scores

KINDS = ("made", "recorded", "recorded-smooth")
POOLS = ("a10g", "a100", "h100")
RAMPS = 6  # plays of `play_ramps`
Row = TypeVar("Row", ScalingScore, RampResult, SleepScore)


@click.command()
@click.option(
    "--days",
    "kind",
    type=click.Choice(KINDS),
    default="made",
    show_default=True,
    help="14 days of ServeGen's m-large, as its windows have them or with straight lines between "
    "them, or made ones.",
)
@click.option(
    "--pool",
    "names",
    multiple=True,
    type=click.Choice(POOLS),
    default=("a100",),
    show_default=True,
    help="Of configs/demo.yaml; several: the mix is planned at each look.",
)
@click.option(
    "--backends",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    help="That the mean rate needs, about; rates are scaled to it.",
)
@click.option(
    "--startup",
    "startup_s",
    type=click.FloatRange(min=1.0),
    default=180.0,
    show_default=True,
    help="Median of the start-up time, seconds.",
)
@click.option(
    "--quantile",
    "quantiles",
    multiple=True,
    type=click.FloatRange(0.5, 0.995),
    default=(QUANTILE,),
    show_default=True,
    help="That ours provides for; several: one row each.",
)
@click.option("--first-days", type=click.IntRange(1, 14), default=14, help="Only the first ones.")
@click.option(
    "--ramp",
    is_flag=True,
    help="Instead: the step of llm-d's autoscaler test, request by request on modelled engines.",
)
@click.option(
    "--asleep",
    "asleep",
    multiple=True,
    type=click.IntRange(min=0),
    help="Instead: ours alone, with so many backends that may sleep; several: one row each.",
)
@click.option(
    "--asleep-price",
    type=click.FloatRange(0.0, 1.0),
    default=0.0,
    show_default=True,
    help="Of a backend that sleeps, over that of one that is awake.",
)
@click.option(
    "--wake",
    "wake_s",
    type=click.FloatRange(min=1.0),
    default=10.0,
    show_default=True,
    help="Median of the time to wake one, seconds.",
)
@click.option("--seed", type=int, default=2, show_default=True, help="Of all chance.")
@JSON
def scaling(
    kind: str,
    names: tuple[str, ...],
    backends: int,
    startup_s: float,
    quantiles: tuple[float, ...],
    first_days: int,
    ramp: bool,
    asleep: tuple[int, ...],
    asleep_price: float,
    wake_s: float,
    seed: int,
    as_json: bool,
) -> None:
    """Compare autoscalers on 14 days of demand.

    Time below the required headroom, changes of the fleet, and cost. Required is what the planner
    asks for at the rate that really came. Backends are paid from their order on. Clairvoyant knows
    all rates and start-up times beforehand. Every policy begins knowing nothing.
    """
    if asleep and (len(names) > 1 or len(quantiles) > 1 or ramp):
        raise click.UsageError("--asleep takes one --pool and one --quantile, and no --ramp")
    console = Console(width=table_columns())
    if ramp:
        with Work("playing", RAMPS) as work:
            ramps = list(counted(play_ramps(ramp_needs(), seed), work))
        show(ramps, as_json, ramps_table(ramps), console)
        return
    needs = fleet_needs(names)
    days = scaling_days(kind, needs, backends=backends, startup_s=startup_s, seed=seed)
    played = replace(days, rate=days.rate[: first_days * DAY])
    title = (
        f"{kind} days, seed {seed}: {'+'.join(pool.name for pool in needs.pools)}, "
        f"mean {played.rate.mean():.0f} req/s, start-up {startup_s:g} s"
    )
    if asleep:
        (quantile,) = quantiles
        with Work("playing", len(asleep)) as work:
            plays = sleep_scores(
                played, asleep, price=asleep_price, wake_s=wake_s, quantile=quantile
            )
            slept = list(counted(plays, work))
        title += f", wake-up {wake_s:g} s, asleep at {asleep_price:g} of the price"
        show(slept, as_json, sleep_table(slept, sum(played.clairvoyant()), title), console)
        return
    policies = len(quantiles) + (4 if len(needs.pools) == 1 else 3)
    with Work("playing", policies) as work:
        rows = list(counted(scores(played, quantiles), work))
    show(rows, as_json, scores_table(rows, title), console)


def counted(rows: Iterable[Row], work: Work) -> Iterator[Row]:
    """The same rows; each is a step of the work, which is over when the row comes."""
    work.step("playing")
    for number, row in enumerate(rows, 1):
        work.step(f"{number} played")
        yield row


def show(
    rows: Sequence[ScalingScore | RampResult | SleepScore],
    as_json: bool,
    table: Table,
    console: Console,
) -> None:
    """Print rows as JSON or as a table."""
    if as_json:
        click.echo(json.dumps([asdict(row) for row in rows], indent=1))
    else:
        console.print(table)


def scores_table(rows: list[ScalingScore], title: str) -> Table:
    """Scores for people; hours and dollars over those of the first row."""
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    table.add_column("policy")
    for heading in ("short of", "changes/day", "starts/day", "doubled/day", "GPU-h ×", "$ ×"):
        table.add_column(heading, justify="right")
    first = rows[0]
    for row in rows:
        table.add_row(
            row.policy,
            f"{row.short:.2%}",
            f"{row.changes:.0f}",
            f"{row.starts:.0f}",
            f"{row.doubled:.1f}",
            f"{sum(row.hours) / sum(first.hours):.3f}",
            f"{row.usd / first.usd:.3f}",
        )
    return table


def sleep_table(rows: Sequence[SleepScore], clairvoyant_h: float, title: str) -> Table:
    """Scores for people; hours over those of who knows all and has none that sleep, dollars over
    those of the first row."""
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    headings = (
        "may sleep", "short of", "starts/day", "wakings/day", "awake h ×", "asleep h ×", "$", "$ ×"
    )  # fmt: skip
    for heading in headings:
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(
            str(row.most),
            f"{row.short:.2%}",
            f"{row.starts:.0f}",
            f"{row.wakings:.0f}",
            f"{row.awake_h / clairvoyant_h:.3f}",
            f"{row.asleep_h / clairvoyant_h:.3f}",
            f"{row.usd:,.0f}",
            f"{row.usd / rows[0].usd:.3f}",
        )
    return table


def ramps_table(rows: Sequence[RampResult]) -> Table:
    """The ramp for people."""
    title = "llm-d's ramp: 2, then 10 req/s of 4,000 + 1,000 tokens, start-up 180 s"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    table.add_column("policy")
    headings = ("refused", "TTFT p50", "p95", "p99 s", "TPOT p95 ms", "GPUs ready", "and starting")
    for heading in headings:
        table.add_column(heading, justify="right")
    for row in rows:
        ttft = [f"{value:.2f}" for value in row.ttft_s]
        table.add_row(
            row.policy,
            f"{row.errors:.2%}",
            *ttft,
            f"{row.tpot_s[1] * 1e3:.0f}",
            f"{row.served_gpus:.2f}",
            f"{row.gpus:.2f}",
        )
    return table
