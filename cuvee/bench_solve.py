"""The subcommand `bench-solve`: how long plans take, by size of the problem.

The demand is made up, from a fixed seed: every bucket has some, log-normal in both lengths. Nothing
here is read by the gateway.
"""

import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import product

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from planner.engine import profiles
from planner.engine.profiles import ProfileFile
from planner.model.buckets import Buckets, SloClass
from planner.model.demand import Demand
from planner.model.plan import Plan
from planner.model.pool import Pool
from planner.program import solve
from planner.program.limits import UNLIMITED, Limits, Stock
from planner.sizes import Grid
from planner.slo import Slo
from planner.traffic.size_histogram import demand_from_samples

TABLE = 120  # columns of a table that goes into a file
MODEL = "Llama-3-8B"
USD = {"L4": 0.80, "A10G": 1.01, "A100-80G": 3.43, "H100": 6.88}
DEARER = 1.07  # the second zone's price
CHEAP = 24  # GPUs of each type that the first zone has
EACH = 4  # actual sizes per bucket
CENTRE, WIDTH = (6.2, 4.8), (1.3, 1.0)  # of the logarithms of input and output tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class SolveCase:
    """One problem: what is planned, and within which limits."""

    demand: Demand
    pools: tuple[Pool, ...]
    limits: Limits


@click.command("bench-solve")
@click.option("--runs", default=5, show_default=True, type=click.IntRange(1), help="Per line.")
@click.option("--limit-s", default=3.0, show_default=True, type=float, help="Of one solve.")
@click.option("--gap", default=0.0001, show_default=True, type=float, help="Good enough.")
@click.option(
    "--only", multiple=True, metavar="TEXT", help="Problems with this in their name; repeatable."
)
def bench_solve(runs: int, limit_s: float, gap: float, only: tuple[str, ...]) -> None:
    """Time the planner on made-up problems of several sizes.

    Every run has a demand of its own. "stock-out" plans again after one GPU type in use has run
    out; "zones" has 24 GPUs of each type in the cheaper of two zones. The gap is the worst that was
    left unproven.
    """
    table = Table("problem", "median s", "min s", "max s", "gap", "GPUs", "$/h", "unserved")
    wanted = {n: make for n, make in CASES.items() if not only or any(part in n for part in only)}
    for name, make in wanted.items():
        solved = [_timed(make(seed), limit_s, gap) for seed in range(runs)]
        table.add_row(name, *_row(solved))
    Console(width=None if sys.stdout.isatty() else TABLE).print(table)


def plain(seed: int, *, rate: float, rows: int, columns: int, pools: int) -> SolveCase:
    """A problem of rows × columns buckets without limits."""
    return SolveCase(demand=demand(seed, rate, rows, columns), pools=fleet(pools), limits=UNLIMITED)


def zones(seed: int, *, rate: float) -> SolveCase:
    """The largest problem: two zones, and stock in the cheaper one only."""
    stock = tuple(Stock(gpu=gpu, most=CHEAP, zone="zone0") for gpu in USD)
    whole = plain(seed, rate=rate, rows=20, columns=10, pools=48)
    return replace(whole, limits=Limits(stock=stock))


def stock_out(seed: int) -> SolveCase:
    """A problem whose plan has just lost one of the GPU types it uses."""
    whole = plain(seed, rate=40, rows=10, columns=6, pools=12)
    plan = solve.provision(whole.demand, whole.pools)
    counts = zip(whole.pools, plan.backends, strict=True)
    used = sorted({pool.gpu for pool, count in counts if count})
    gone = Stock(gpu=used[seed % len(used)], most=0)
    return replace(whole, limits=Limits(stock=(gone,)))


CASES: dict[str, Callable[[int], SolveCase]] = {
    "60 × 4, 40/s": lambda seed: plain(seed, rate=40, rows=10, columns=6, pools=4),
    "60 × 12, 40/s": lambda seed: plain(seed, rate=40, rows=10, columns=6, pools=12),
    "60 × 12, stock-out": stock_out,
    "200 × 48, 100/s, zones": lambda seed: zones(seed, rate=100),
    "60 × 12, 1,000/s": lambda seed: plain(seed, rate=1e3, rows=10, columns=6, pools=12),
    "60 × 12, 5,000/s": lambda seed: plain(seed, rate=5e3, rows=10, columns=6, pools=12),
    "60 × 4, 100,000/s": lambda seed: plain(seed, rate=1e5, rows=10, columns=6, pools=4),
    "200 × 48, 5,000/s, zones": lambda seed: zones(seed, rate=5e3),
}


def _timed(case: SolveCase, limit_s: float, gap: float) -> tuple[float, SolveCase, Plan]:
    start_s = time.perf_counter()
    plan = solve.provision(case.demand, case.pools, case.limits, time_limit_s=limit_s, gap=gap)
    return time.perf_counter() - start_s, case, plan


def _row(solved: list[tuple[float, SolveCase, Plan]]) -> list[str]:
    seconds = [took_s for took_s, *_ in solved]
    taken = [
        sum(p.gpus * count for p, count in zip(case.pools, plan.backends, strict=True))
        for _, case, plan in solved
    ]
    times = [f"{value:.3f}" for value in (statistics.median(seconds), min(seconds), max(seconds))]
    return [
        *times,
        f"{max(plan.gap for *_, plan in solved):.2%}",
        f"{statistics.median(taken):,.0f}",
        f"{statistics.median(plan.usd_per_hour for *_, plan in solved):,.2f}",
        f"{max(sum(u.rate for u in plan.unserved) for *_, plan in solved):.3g}/s",
    ]


def fleet(size: int) -> tuple[Pool, ...]:
    """The first so many of GPU × zone × sequences × tensor parallelism, the GPU fastest."""
    kinds = product((0, 1), (256, 64), (1, 2, 4), USD)
    return tuple(_pool(*kind) for kind in list(kinds)[:size])


def demand(seed: int, rate: float, rows: int, columns: int) -> Demand:
    """Log-normal lengths over a grid in which no bucket is empty."""
    grid = Grid(input_edges=_edges(16, 4096, rows), output_edges=_edges(8, 1024, columns))
    random = np.random.default_rng(seed)
    cells = np.repeat(np.arange(grid.cells), EACH)
    centres = np.array([grid.centre(int(cell)) for cell in cells], dtype=float)
    inputs, outputs = (centres * random.uniform(0.9, 1.1, centres.shape)).round().T
    logs = np.log(centres[::EACH])
    weight = np.exp(-(((logs - CENTRE) / WIDTH) ** 2).sum(axis=1) / 2)
    weight *= random.uniform(0.5, 1.5, grid.cells)
    buckets = Buckets(classes=(SloClass(model=MODEL, slo=Slo(ttft_s=2, tpot_s=0.08)),), grid=grid)
    made = demand_from_samples(buckets, cells, inputs, outputs, duration_s=1.0, dispersion=(2.0,))
    return replace(made, rate=weight).scaled_to(rate)


def _edges(first: int, last: int, count: int) -> tuple[int, ...]:
    edges = np.geomspace(first, last, count + 1).round().astype(int)
    return tuple(edges.tolist())


def _pool(zone: int, sequences: int, parallel: int, gpu: str) -> Pool:
    spec = ProfileFile(
        format="cuvee-profile/1",
        origin="analytic",
        gpu=gpu,
        model=MODEL,
        tensor_parallel_size=parallel,
        max_num_seqs=sequences,
    )
    return Pool(
        name=f"{parallel}x{gpu}-{sequences}-zone{zone}",
        model=MODEL,
        profile=profiles.build(spec),
        usd_per_hour=USD[gpu] * parallel * (DEARER if zone else 1.0),
        zone=f"zone{zone}",
    )
