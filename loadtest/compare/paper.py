"""The instances of Mélange's paper, solved again: the published one in both formulations and timed,
and those of its six tables.

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
from planner.program.published_tables import TableInstance, instances, read_paper

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


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperSaving:
    """One GPU type alone beside the mix: GPUs and $/h here, and what the mix saves of that.

    usd_per_hour, gpus, saving: `None` if the type cannot serve all sizes. paper_usd_per_hour,
    paper_saving: as printed in the paper; `None` where it has no such row.
    """

    gpus: int | None
    usd_per_hour: float | None
    saving: float | None
    paper_usd_per_hour: float | None
    paper_saving: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperTableRow:
    """One rate (requests/s) of one table: the cheapest mix here, its cost in the paper, and every
    GPU type alone. published: by GPU the share of the requests that are of a size whose throughput
    is the paper's; those of the others are analytic."""

    table: int
    dataset: str
    tpot_s: float
    published: dict[str, float]
    rate: float
    counts: dict[str, int]
    usd_per_hour: float
    paper_usd_per_hour: float
    alone: dict[str, PaperSaving]


def solve_tables(path: Path) -> list[PaperTableRow]:
    """Solve every table of the file at every rate, with continuous shares. Raises InvalidFile."""
    rates = read_paper(path).rates
    return [
        _table_row(made, rate, column)
        for made in instances(path)
        for column, rate in enumerate(rates)
    ]


def _table_row(made: TableInstance, rate: float, column: int) -> PaperTableRow:
    table, scaled = made.table, made.instance.at(rate)
    mix, paper_usd = baselines.optimum(scaled), table.melange[column]
    return PaperTableRow(
        table=table.number,
        dataset=table.dataset,
        tpot_s=table.tpot_s,
        published=made.published,
        rate=rate,
        counts=dict(zip(mix.gpus, mix.counts, strict=True)),
        usd_per_hour=mix.usd_per_hour,
        paper_usd_per_hour=paper_usd,
        alone={
            gpu: _saving(
                mix,
                baselines.single_type(scaled, gpu),
                paper_usd,
                table.alone[gpu][column] if gpu in table.alone else None,
            )
            for gpu in scaled.gpus
        },
    )


def _saving(
    mix: Allocation, single: Allocation | None, paper_mix_usd: float, paper_usd: float | None
) -> PaperSaving:
    return PaperSaving(
        gpus=None if single is None else sum(single.counts),
        usd_per_hour=None if single is None else single.usd_per_hour,
        saving=None if single is None else 1 - mix.usd_per_hour / single.usd_per_hour,
        paper_usd_per_hour=paper_usd,
        paper_saving=None if paper_usd is None else 1 - paper_mix_usd / paper_usd,
    )


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
