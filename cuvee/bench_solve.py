"""The subcommand `bench-solve`: how long plans take, by size of the problem, and plays of them.

Owns the options and the tables; the problems are in `loadtest/compare/solve_cases.py`, the play in
`play_speed.py` beside it.
"""

import statistics

import click
from rich.console import Console
from rich.table import Table

from cuvee.options import table_columns
from cuvee.progress import Work
from gateway.runtime import runtime
from loadtest.compare.play_speed import PlaySpeed, play_speed
from loadtest.compare.solve_cases import CASES, SolveRun, solve_case


@click.command("bench-solve")
@click.option("--runs", default=5, show_default=True, type=click.IntRange(1), help="Per line.")
@click.option("--limit-s", default=3.0, show_default=True, type=float, help="Of one solve.")
@click.option("--gap", default=0.0001, show_default=True, type=float, help="Good enough.")
@click.option(
    "--only", multiple=True, metavar="TEXT", help="Problems with this in their name; repeatable."
)
@click.option(
    "--play",
    type=click.IntRange(1000),
    metavar="REQUESTS",
    help="Instead of solving: play so many requests through a plan, 70 % of what it is for.",
)
def bench_solve(
    runs: int, limit_s: float, gap: float, only: tuple[str, ...], play: int | None
) -> None:
    """Time the planner on made-up problems of several sizes.

    Every run has a demand of its own. "stock-out" plans again after one GPU type in use has run
    out; "zones" has 24 GPUs of each type in the cheaper of two zones. "six models" has 20 engine
    configurations of each model and one stock of GPUs for all; "two sold out" plans again from the
    fleet that then runs, after two GPU types in use have run out. Seconds of CPU, gap and $/h are
    medians; the gap is what was left unproven, "worst" the largest of it.
    A play counts the CPU time of router, queue and simulated engines together.
    """
    if play is not None:
        plays = []
        with Work("playing", runs) as work:
            for seed in range(runs):
                work.step(f"play {seed + 1}")
                plays.append(play_speed(play, seed))
        _print_plays(plays)
        return
    chosen = [name for name in CASES if not only or any(text in name for text in only)]
    table = Table(
        "problem", "median s", "min s", "max s", "CPU s", "gap", "worst", "GPUs", "$/h", "unserved"
    )
    with Work("solving", len(chosen) * runs) as work:
        for name in chosen:
            solved = []
            for seed in range(runs):
                work.step(name)
                solved.append(solve_case(CASES[name](seed), limit_s=limit_s, gap=gap))
            table.add_row(name, *_cells(solved))
    Console(width=table_columns()).print(table)


def _print_plays(plays: list[PlaySpeed]) -> None:
    """The speed of plays, and what they ran on."""
    speeds = [play.requests_per_cpu_s for play in plays]
    backends, attained = plays[0].backends, min(play.attainment for play in plays)
    click.echo(
        f"{statistics.median(speeds):,.0f} requests per CPU second, {min(speeds):,.0f} to "
        f"{max(speeds):,.0f} in {len(plays)} plays; {backends} backends, "
        f"{attained:.2%} attained or more; {runtime()}"
    )


def _cells(solved: list[SolveRun]) -> list[str]:
    took_s = [run.took_s for run in solved]
    times = (statistics.median(took_s), min(took_s), max(took_s))
    return [
        *(f"{value:.3f}" for value in times),
        f"{statistics.median(run.cpu_s for run in solved):.3f}",
        f"{statistics.median(run.plan.gap for run in solved):.2%}",
        f"{max(run.plan.gap for run in solved):.2%}",
        f"{statistics.median(run.gpus for run in solved):,.0f}",
        f"{statistics.median(run.plan.usd_per_hour for run in solved):,.2f}",
        f"{max(sum(u.rate for u in run.plan.unserved) for run in solved):.3g}/s",
    ]
