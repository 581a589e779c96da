"""More work than capacity, in virtual time: what is admitted, what attains, and who is refused.

The gateway's own admission and router are played on modelled engines. Owns the cases and how they
are counted; chance is a seed.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gateway.rehearsal.play import LEFTOVER, Rehearsal, rehearse
from planner.engine.profiles import find_profile
from planner.model.buckets import BEST_EFFORT, DEFAULT, Buckets, SloClass
from planner.model.demand import Demand
from planner.model.plan import Plan
from planner.model.pool import Pool
from planner.program import solve
from planner.sizes import FloatArray, Grid, IntArray, log_edges
from planner.slo import Slo
from planner.traffic.trace import Trace

BoolArray = NDArray[np.bool_]

MODEL = "llama-3-8b"
GRID = Grid(input_edges=log_edges(16, 32768), output_edges=log_edges(16, 4096))
INTERACTIVE = Slo(ttft_s=2.0, tpot_s=0.12)
FAST = Slo(ttft_s=1.0, tpot_s=0.08)
BATCH = Slo(ttft_s=30.0, tpot_s=0.5, attainment=0.95)
ONE_SIZE: Mapping[tuple[int, int], float] = {(512, 128): 1.0}
MIXED: Mapping[tuple[int, int], float] = {
    (200, 64): 0.3, (512, 128): 0.3, (1500, 256): 0.2, (4000, 128): 0.1, (300, 700): 0.1,
}  # fmt: skip
# Of mixed sizes the answers are as long as estimated, times a lognormal factor of mean 1 and this
# deviation.
SPREAD = 0.5
P90_FACTOR = 1 + 1.3 * SPREAD
GREEDY, POLITE = "greedy", "polite"
POLITE_SHARE = 0.1  # of all requests
SETTLED_S = 10.0  # after the load falls, a phase is counted from here on


@dataclass(frozen=True, slots=True, kw_only=True)
class OverloadCase:
    """A fleet, its classes, the sizes of requests, and the load over time.

    backends: number by GPU type. classes: each class by name, with its share of the requests and
    its promise; `best-effort` has none. phases: (load, seconds), load in capacities of the fleet.
    workers: gateway processes; the requests of the polite caller all reach the first one.
    """

    name: str
    backends: Mapping[str, int]
    phases: tuple[tuple[float, float], ...]
    classes: Mapping[str, tuple[float, Slo | None]] = field(
        default_factory=lambda: {DEFAULT: (1.0, INTERACTIVE)}
    )
    sizes: Mapping[tuple[int, int], float] = field(default_factory=lambda: ONE_SIZE)
    workers: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseResult:
    """What became of the requests of one phase, or of a part of them.

    group: "all", the name of a class, or of a caller. load: offered, in capacities. admitted: share
    of the requests. attained: share of the admitted that kept their promise; one without a promise
    keeps it. goodput: requests that did, over the lesser of offered and capacity. refused_s: median
    wait until a refusal, `None` without any.
    """

    group: str
    load: float
    requests: int
    admitted: float
    attained: float
    goodput: float
    refused_s: float | None


TWO = {DEFAULT: (0.4, INTERACTIVE), "batch": (0.6, BATCH)}
STRICTER = {DEFAULT: (0.2, INTERACTIVE), "batch": (0.8, BATCH)}
THREE = {
    DEFAULT: (0.4, INTERACTIVE), "fast": (0.2, FAST), "batch": (0.2, BATCH),
    BEST_EFFORT: (0.2, None),
}  # fmt: skip
SMALL, MIX = {"A10G": 2}, {"A10G": 4, "A100-80G": 2}
WIDE = {"L4": 4, "A10G": 3, "H100": 1}
AFTER = (0.7, 120.0)
CASES = (
    OverloadCase(name="2 ×", backends=SMALL, phases=((2.0, 60.0), AFTER)),
    OverloadCase(name="4 ×", backends=SMALL, phases=((4.0, 60.0), AFTER)),
    OverloadCase(name="4 ×, 4 workers", backends=SMALL, phases=((4.0, 60.0), AFTER), workers=4),
    OverloadCase(name="1.0 ×", backends=SMALL, phases=((1.0, 300.0),)),
    OverloadCase(name="1.1 ×", backends=SMALL, phases=((1.1, 300.0),)),
    OverloadCase(name="1.2 ×", backends=SMALL, phases=((1.2, 300.0),)),
    OverloadCase(name="2 classes, 2 ×", backends=SMALL, phases=((2.0, 100.0), AFTER), classes=TWO),
    OverloadCase(
        name="2 classes, 4 ×", backends=SMALL, phases=((4.0, 100.0), AFTER), classes=STRICTER
    ),
    OverloadCase(
        name="2 classes, 2 ×, 4 workers",
        backends=SMALL, phases=((2.0, 100.0), AFTER), classes=TWO, workers=4,
    ),
    OverloadCase(name="mixed, 1.2 ×", backends=MIX, phases=((1.2, 200.0),), sizes=MIXED),
    OverloadCase(name="mixed, 4 ×", backends=MIX, phases=((4.0, 60.0), AFTER), sizes=MIXED),
    OverloadCase(
        name="mixed, 4 classes, 1.2 ×",
        backends=MIX, phases=((1.2, 200.0),), classes=THREE, sizes=MIXED,
    ),
    OverloadCase(
        name="mixed, 4 classes, 2 ×",
        backends=MIX, phases=((2.0, 60.0), AFTER), classes=THREE, sizes=MIXED,
    ),
    OverloadCase(
        name="3 GPU types, 2 classes, 2 ×",
        backends=WIDE, phases=((2.0, 60.0), AFTER), classes=TWO, sizes=MIXED,
    ),
)  # fmt: skip


def play(case: OverloadCase, seed: int = 0) -> list[list[PhaseResult]]:
    """The results of each phase: of all requests, then of each class and of each caller."""
    rng = np.random.default_rng(seed)
    pools, buckets = _pools(case), _buckets(case)
    plan, capacity = _plan(case, pools, buckets)
    arrival_s, phase = _arrivals(case, capacity, rng)
    names, shares = list(case.classes), np.array([share for share, _ in case.classes.values()])
    numbers = [LEFTOVER if name == BEST_EFFORT else names.index(name) for name in names]
    which = rng.choice(len(names), size=len(arrival_s), p=shares / shares.sum())
    slo_class = np.array(numbers)[which]
    trace, estimated = _requests(case, arrival_s, rng)
    polite = np.array(trace.key) == POLITE
    workers = np.where(polite, 0, rng.integers(0, case.workers, len(arrival_s)))
    played = rehearse(trace, plan, pools, slo_class=slo_class, estimated=estimated, workers=workers)
    groups = {"all": np.ones(len(arrival_s), dtype=np.bool_)}
    groups |= {name: which == k for k, name in enumerate(names)} if len(names) > 1 else {}
    groups |= {GREEDY: ~polite, POLITE: polite}
    starts = np.cumsum([0.0, *(seconds for _, seconds in case.phases)])
    results = []
    for number, (_, seconds) in enumerate(case.phases):
        settled_s = 0.0 if number == 0 else SETTLED_S
        rows = (phase == number) & (arrival_s >= starts[number] + settled_s)
        results.append(list(_counted(played, buckets, groups, rows, seconds - settled_s, capacity)))
    return results


def _counted(
    played: Rehearsal,
    buckets: Buckets,
    groups: Mapping[str, BoolArray],
    rows: BoolArray,
    seconds: float,
    capacity: float,
) -> Iterator[PhaseResult]:
    served, met = played.result.backend >= 0, played.met(buckets)
    for group, members in groups.items():
        mine = rows & members
        offered = mine.sum() / seconds / capacity
        refused_s = played.waited_s[mine & ~served]
        yield PhaseResult(
            group=group,
            load=float(offered),
            requests=int(mine.sum()),
            admitted=float(served[mine].mean()),
            attained=float(met[mine & served].mean()) if served[mine].any() else 1.0,
            goodput=float(met[mine].sum() / seconds / capacity / min(1.0, offered)),
            refused_s=float(np.median(refused_s)) if len(refused_s) else None,
        )


def _pools(case: OverloadCase) -> tuple[Pool, ...]:
    return tuple(
        Pool(
            name=gpu,
            model=MODEL,
            profile=find_profile(f"{MODEL}/{gpu}", Path()),
            usd_per_hour=1.0,
            max_backends=count,
        )
        for gpu, count in case.backends.items()
    )


def _buckets(case: OverloadCase) -> Buckets:
    classes = tuple(
        SloClass(model=MODEL, slo=slo, name=name)
        for name, (_, slo) in case.classes.items()
        if slo is not None
    )
    return Buckets(classes=classes, grid=GRID)


def _plan(case: OverloadCase, pools: tuple[Pool, ...], buckets: Buckets) -> tuple[Plan, float]:
    """The plan of the fleet for its capacity, and that capacity: the requests/s of this mix at
    which the mean load of the fullest pool is 1. Requests without a promise count as of the default
    class."""
    shares = {k: share for k, (share, slo) in enumerate(case.classes.values()) if slo is not None}
    shares[0] += sum(share for share, slo in case.classes.values() if slo is None)
    rows = [
        (k * GRID.cells + GRID.cell(*size), *size, share * part)
        for k, share in shares.items()
        for size, part in case.sizes.items()
    ]
    bucket, inputs, outputs, parts = (np.array(column) for column in zip(*rows, strict=True))
    rate = np.bincount(bucket, weights=parts, minlength=buckets.count).astype(float)
    demand = Demand(
        buckets=buckets,
        rate=rate,
        bucket=bucket,
        input_tokens=inputs.astype(float),
        output_tokens=outputs.astype(float),
        share=parts / rate[bucket],
        dispersion=(1.0,) * len(buckets.classes),
    )
    counts = tuple(case.backends.values())
    # Planned twice: the shares depend on the demand, so the second plan is for about the capacity
    # that the first one shows.
    for _ in range(2):
        plan = solve.assign(demand, pools, counts)
        fullest = max(m / y for m, y in zip(plan.load, plan.backends, strict=True))
        demand = demand.scaled_to(demand.total_rate / fullest)
    return plan, demand.total_rate


def _arrivals(
    case: OverloadCase, capacity: float, rng: np.random.Generator
) -> tuple[FloatArray, IntArray]:
    """(N,) Poisson arrivals over all phases, and the number of the phase of each."""
    times, phases, start_s = [], [], 0.0
    for number, (load, seconds) in enumerate(case.phases):
        count = int(2 * load * capacity * seconds) + 100
        gaps = np.cumsum(rng.exponential(1 / (load * capacity), count))
        inside = start_s + gaps[gaps < seconds]
        times.append(inside)
        phases.append(np.full(len(inside), number))
        start_s += seconds
    return np.concatenate(times), np.concatenate(phases)


def _requests(
    case: OverloadCase, arrival_s: FloatArray, rng: np.random.Generator
) -> tuple[Trace, FloatArray]:
    """The requests, and (N, 3) their estimates."""
    sizes = np.array(list(case.sizes), dtype=float)
    which = rng.choice(len(sizes), size=len(arrival_s), p=list(case.sizes.values()))
    inputs, expected = sizes[which].T
    spread = SPREAD if len(sizes) > 1 else 0.0
    factor = rng.lognormal(-(spread**2) / 2, spread, len(arrival_s))
    trace = Trace(
        arrival_s=arrival_s,
        input_tokens=inputs,
        output_tokens=np.maximum(2.0, np.rint(expected * factor)),
        key=tuple(POLITE if x < POLITE_SHARE else GREEDY for x in rng.random(len(arrival_s))),
    )
    estimated = np.stack([inputs, expected, np.rint(expected * P90_FACTOR)], axis=1)
    return trace, estimated
