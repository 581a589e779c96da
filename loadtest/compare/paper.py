"""The instance that Mélange's authors published, solved in both formulations and timed.

Owns what is put beside the paper's own figures. Knows no trace, no engine and no table.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

from planner.program import baselines
from planner.program.baselines import Allocation
from planner.program.published import read_published

RUNS = 5  # of a solver, for its median time


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperRow:
    """The published instance at one rate (requests/s).

    singles, reported: counts of each GPU type alone, here and in the paper. melange, melange_usd,
    reported_usd: Mélange's mix by slices, in GPU order, its cost here and in the paper. optimum,
    optimum_usd, gap: the mix with continuous shares, and what of its cost is not proven.
    melange_s, optimum_s: median seconds to solve.
    """

    rate: float
    singles: dict[str, int]
    reported: dict[str, int]
    melange: tuple[int, ...]
    melange_usd: float
    reported_usd: float
    optimum: tuple[int, ...]
    optimum_usd: float
    gap: float
    melange_s: float
    optimum_s: float

    @property
    def faster(self) -> float:
        return self.melange_s / self.optimum_s


def solve_paper(path: Path, *, runs: int = RUNS) -> list[PaperRow]:
    """Solve the instance in the file at every published rate. Raises InvalidFile."""
    published = read_published(path)
    rows = []
    for column, rate in enumerate(published.reported.rates):
        instance = published.instance(rate)
        slices = published.slice_factor
        melange, melange_s = _timed(partial(baselines.melange, instance, slices=slices), runs)
        optimum, optimum_s = _timed(partial(baselines.optimum, instance), runs)
        singles = {gpu: baselines.single_type(instance, gpu) for gpu in instance.gpus}
        reported = published.reported
        rows.append(
            PaperRow(
                rate=rate,
                singles={gpu: sum(single.counts) for gpu, single in singles.items() if single},
                reported={gpu: counts[column] for gpu, counts in reported.single_types.items()},
                melange=melange.counts,
                melange_usd=melange.usd_per_hour,
                reported_usd=reported.melange_usd_per_hour[column],
                optimum=optimum.counts,
                optimum_usd=optimum.usd_per_hour,
                gap=optimum.gap or 0.0,
                melange_s=melange_s,
                optimum_s=optimum_s,
            )
        )
    return rows


def _timed(solve: Callable[[], Allocation], runs: int) -> tuple[Allocation, float]:
    """The last allocation, and the median seconds of a run, building the program included."""
    took_s = []
    for _ in range(runs):
        start_s = time.perf_counter()
        allocation = solve()
        took_s.append(time.perf_counter() - start_s)
    return allocation, median(took_s)
