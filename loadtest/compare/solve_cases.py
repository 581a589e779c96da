"""Made-up planning problems of several sizes, and how long the solver takes on one.

The demand comes from a fixed seed: every bucket has some, log-normal in both lengths. Nothing here
is read by the gateway. Knows nothing of commands and tables.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np

from planner.engine import profiles
from planner.engine.alternatives import Choices, alternatives
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

MODEL = "Llama-3-8B"
USD = {"L4": 0.80, "A10G": 1.01, "A100-80G": 3.43, "H100": 6.88}  # configs/prices.yaml, rounded
SECOND_ZONE = 1.07  # the second zone's prices, in times of the first one's
ZONE_STOCK = 24  # GPUs of each type that the first zone has
SIZES_PER_BUCKET = 4
CENTRE, WIDTH = (6.2, 4.8), (1.3, 1.0)  # of the logarithms of input and output tokens
MODELS = (
    "Llama-3-8B",
    "Qwen3-14B",
    "Mistral-Small-24B",
    "Qwen3-32B",
    "Mixtral-8x7B",
    "Llama-3-70B",
)
COLUMNS = 20  # engine configurations of each model
# GPUs for all models together, which at this rate want twice as many H100.
STOCK = {"L4": 48, "A10G": 48, "A100-80G": 48, "H100": 8}
MODELS_RATE = 100
# What each column may be. Of those that fit into the memory `COLUMNS` are taken: with the most
# sequences first, then with the fewest GPUs.
CHOICES = Choices(
    gpu=tuple(USD),
    tensor_parallel_size=(1, 2, 4, 8),
    dtype=("fp16", "fp8"),
    max_num_seqs=(256, 64),
)
START_USD = 1.0  # of a backend that is not running, when types are sold out
# Time limits that leave something for what comes before and after the search, of 3 s and of 2 s.
PLAN_S = 2.6
REPAIR_S = 1.4


@dataclass(frozen=True, slots=True, kw_only=True)
class SolveCase:
    """One problem: what is planned, within which limits, and within which time, if it has one of
    its own."""

    demand: Demand
    pools: tuple[Pool, ...]
    limits: Limits
    limit_s: float = np.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class SolveRun:
    """One solved problem. took_s, cpu_s: seconds on the clock, and of a core: other processes make
    only the first longer. gpus: of the plan's backends together."""

    took_s: float
    cpu_s: float
    plan: Plan
    gpus: int


def solve_case(case: SolveCase, *, limit_s: float, gap: float) -> SolveRun:
    """Solve a problem and time it. limit_s, gap: where the solver may stop."""
    start_s, start_cpu_s = time.perf_counter(), time.process_time()
    limit_s = min(limit_s, case.limit_s)
    plan = solve.provision(case.demand, case.pools, case.limits, time_limit_s=limit_s, gap=gap)
    took_s, cpu_s = time.perf_counter() - start_s, time.process_time() - start_cpu_s
    gpus = sum(pool.gpus * count for pool, count in zip(case.pools, plan.backends, strict=True))
    return SolveRun(took_s=took_s, cpu_s=cpu_s, plan=plan, gpus=gpus)


def unlimited(seed: int, *, rate: float, rows: int, columns: int, pools: int) -> SolveCase:
    """A problem of rows × columns buckets without limits. rate: requests/s."""
    demand = log_normal_demand(seed, rate, rows, columns)
    return SolveCase(demand=demand, pools=first_pools(pools), limits=UNLIMITED)


def two_zones(seed: int, *, rate: float) -> SolveCase:
    """The largest problem: two zones, and limited stock in the cheaper one only."""
    stock = tuple(Stock(gpu=gpu, most=ZONE_STOCK, zone="zone0") for gpu in USD)
    case = unlimited(seed, rate=rate, rows=20, columns=10, pools=48)
    return replace(case, limits=Limits(stock=stock))


def stock_out(seed: int) -> SolveCase:
    """A problem whose plan has just lost one of the GPU types that it uses."""
    case = unlimited(seed, rate=40, rows=10, columns=6, pools=12)
    plan = solve.provision(case.demand, case.pools)
    counts = zip(case.pools, plan.backends, strict=True)
    used = sorted({pool.gpu for pool, count in counts if count})
    lost = Stock(gpu=used[seed % len(used)], most=0)
    return replace(case, limits=Limits(stock=(lost,)))


def six_models(seed: int) -> SolveCase:
    """Six models, each with a choice of engine configurations, that share one stock of GPUs."""
    demand = log_normal_demand(seed, MODELS_RATE, 10, 6, models=MODELS)
    pools = tuple(pool for model in MODELS for pool in _columns(model))
    stock = tuple(Stock(gpu=gpu, most=most) for gpu, most in STOCK.items())
    return SolveCase(demand=demand, pools=pools, limits=Limits(stock=stock), limit_s=PLAN_S)


def sold_out(seed: int) -> SolveCase:
    """Six models whose fleet runs when two of the GPU types that it uses are sold out."""
    case = six_models(seed)
    plan = solve.provision(case.demand, case.pools, case.limits, time_limit_s=PLAN_S)
    counts = zip(case.pools, plan.backends, strict=True)
    used = sorted({pool.gpu for pool, count in counts if count})
    lost = {used[seed % len(used)], used[(seed + 1) % len(used)]}
    stock = tuple(replace(s, most=0) if s.gpu in lost else s for s in case.limits.stock)
    limits = replace(case.limits, stock=stock, running=plan.backends, start_usd=START_USD)
    return replace(case, limits=limits, limit_s=REPAIR_S)


# By name, which says buckets × pools and requests/s; each makes the problem of a seed.
CASES: dict[str, Callable[[int], SolveCase]] = {
    "60 × 4, 40/s": lambda seed: unlimited(seed, rate=40, rows=10, columns=6, pools=4),
    "60 × 12, 40/s": lambda seed: unlimited(seed, rate=40, rows=10, columns=6, pools=12),
    "60 × 12, stock-out": stock_out,
    "200 × 48, 100/s, zones": lambda seed: two_zones(seed, rate=100),
    "60 × 12, 1,000/s": lambda seed: unlimited(seed, rate=1e3, rows=10, columns=6, pools=12),
    "60 × 12, 5,000/s": lambda seed: unlimited(seed, rate=5e3, rows=10, columns=6, pools=12),
    "60 × 4, 100,000/s": lambda seed: unlimited(seed, rate=1e5, rows=10, columns=6, pools=4),
    "200 × 48, 5,000/s, zones": lambda seed: two_zones(seed, rate=5e3),
    "360 × 120, six models": six_models,
    "360 × 120, two sold out": sold_out,
}


def first_pools(count: int) -> tuple[Pool, ...]:
    """The first pools of zone × sequences × tensor parallelism × GPU; the GPU varies fastest."""
    variants = product((0, 1), (256, 64), (1, 2, 4), USD)
    return tuple(_pool(*variant) for variant in list(variants)[:count])


def log_normal_demand(
    seed: int, rate: float, rows: int, columns: int, *, models: tuple[str, ...] = (MODEL,)
) -> Demand:
    """Log-normal lengths over a grid of rows × columns in which no bucket is empty.

    Every model has the same part of the rate, up to chance.
    """
    grid = Grid(input_edges=_edges(16, 4096, rows), output_edges=_edges(8, 1024, columns))
    classes = tuple(SloClass(model=model, slo=Slo(ttft_s=2, tpot_s=0.08)) for model in models)
    buckets = Buckets(classes=classes, grid=grid)
    random = np.random.default_rng(seed)
    cells = np.repeat(np.arange(buckets.count), SIZES_PER_BUCKET)
    centres = np.array([grid.centre(int(cell) % grid.cells) for cell in cells], dtype=float)
    inputs, outputs = (centres * random.uniform(0.9, 1.1, centres.shape)).round().T
    logs = np.log(centres[::SIZES_PER_BUCKET])
    weight = np.exp(-(((logs - CENTRE) / WIDTH) ** 2).sum(axis=1) / 2)
    weight *= random.uniform(0.5, 1.5, buckets.count)
    demand = demand_from_samples(
        buckets, cells, inputs, outputs, duration_s=1.0, dispersion=(2.0,) * len(models)
    )
    return replace(demand, rate=weight).scaled_to(rate)


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
        usd_per_hour=USD[gpu] * parallel * (SECOND_ZONE if zone else 1.0),
        zone=f"zone{zone}",
    )


def _columns(model: str) -> tuple[Pool, ...]:
    """The pools of one model: `COLUMNS` of the engine configurations that fit."""
    largest = max(CHOICES.tensor_parallel_size)
    base = ProfileFile(
        format="cuvee-profile/1",
        origin="analytic",
        gpu="H100",
        model=model,
        tensor_parallel_size=largest,
    )
    fitting = [
        Pool(
            name=f"{model}/{one.label}",
            model=model,
            profile=one.profile,
            usd_per_hour=USD[one.profile.gpu] * one.profile.gpus,
        )
        for one in alternatives(base, CHOICES, Path())
        if one.profile is not None
    ]
    fitting.sort(key=lambda pool: (-pool.profile.max_num_seqs, pool.gpus))
    return tuple(fitting[:COLUMNS])
