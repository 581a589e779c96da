"""The result tables of Mélange's paper, and the instances behind them: the format `cuvee-paper/1`.

Throughputs are the published ones for the tables that they are taken for, and where they end those
of the analytic profiles under the table's TPOT. Must not know how an instance is solved.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np

from planner.engine import profiles
from planner.engine.profile_file import FORMAT, ProfileFile
from planner.errors import InvalidFile, InvalidValue
from planner.files import decoded
from planner.model.pool import Pool
from planner.program import baselines
from planner.program.baselines import Instance
from planner.program.published import Published, read_published
from planner.sizes import FloatArray
from planner.slo import Slo


class PaperGpu(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """One GPU type of the paper: its row in the shipped GPUs, and its price.

    longer_inputs: requests/s, rows of input tops after those of the published instance; `None`
    where none was published.
    """

    gpu: str
    usd_per_hour: float
    longer_inputs: tuple[tuple[float | None, ...], ...] = ()


class PaperDataset(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """Requests by input × output, in the cells of `baselines.GRID`; rows that are not given are
    empty."""

    source: str
    requests: tuple[tuple[float, ...], ...]


class ResultTable(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """One table as it was printed: $/h by rate, of the mix and of each GPU type alone.

    published: whether the published throughputs are those under its TPOT.
    """

    number: int
    dataset: str
    tpot_s: float
    melange: tuple[float, ...]
    alone: dict[str, tuple[float, ...]]
    published: bool = False


class PaperFile(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """The file format. mixtures: datasets that are made of shares of others. maps: the file of the
    published instance, whose throughputs are taken."""

    format: Literal["cuvee-paper/1"]
    source: str
    model: str
    engine: str
    maps: str
    rates: tuple[float, ...]
    gpus: dict[str, PaperGpu]
    datasets: dict[str, PaperDataset]
    mixtures: dict[str, dict[str, float]]
    tables: tuple[ResultTable, ...]

    def histogram(self, dataset: str) -> FloatArray:
        """(B,) the share of the requests in each cell of `baselines.GRID`. Raises InvalidValue."""
        if dataset in self.mixtures:
            parts = self.mixtures[dataset].items()
            shares = [share * self.histogram(part) for part, share in parts]
            return np.asarray(np.sum(shares, axis=0))
        if dataset not in self.datasets:
            raise InvalidValue(f"unknown dataset `{dataset}`; known are {', '.join(self.datasets)}")
        counts = np.zeros((len(baselines.INPUT_TOPS), len(baselines.OUTPUT_TOPS)))
        rows = self.datasets[dataset].requests
        if len(rows) > len(counts) or any(len(row) != counts.shape[1] for row in rows):
            raise InvalidValue(
                f"datasets.{dataset}.requests: at most {len(counts)} rows of {counts.shape[1]}"
            )
        counts[: len(rows)] = rows
        return np.asarray(counts.ravel() / counts.sum())


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TableInstance:
    """A table and its instance. published: by GPU the share of the requests that are of a size
    whose throughput is a published one."""

    table: ResultTable
    instance: Instance
    published: dict[str, float]


def read_paper(path: Path) -> PaperFile:
    """Read the tables. Raises InvalidFile, naming the file and the key."""
    paper = decoded(path, PaperFile)
    for table in paper.tables:
        for key, row in {"melange": table.melange, **table.alone}.items():
            if len(row) != len(paper.rates):
                raise InvalidFile(
                    f"{path}: tables: {table.number}: {key}: must be {len(paper.rates)} numbers"
                )
            if key != "melange" and key not in paper.gpus:
                raise InvalidFile(f"{path}: tables: {table.number}: alone: unknown GPU `{key}`")
    return paper


def instances(path: Path) -> Iterator[TableInstance]:
    """Every table of a file with the instance to solve, of one request/s.

    Raises InvalidFile for a file that is none, or from which no instance can be made.
    """
    paper = read_paper(path)
    published = read_published(path.parent / paper.maps)
    for table in paper.tables:
        try:
            instance = _analytic(paper, table)
            maps = _maps(paper, published)
        except InvalidValue as error:
            raise InvalidFile(f"{path}: tables: {table.number}: {error}") from error
        known = np.isfinite(maps) & table.published
        instance = replace(instance, tput=np.where(known, maps, instance.tput))
        shares = (instance.rate @ known).tolist()
        yield TableInstance(
            table=table,
            instance=instance,
            published=dict(zip(instance.gpus, shares, strict=True)),
        )


def _maps(paper: PaperFile, published: Published) -> FloatArray:
    """(B, P) published requests/s of one GPU in the cells of `baselines.GRID`; NaN where there is
    none. Raises InvalidValue."""
    shape = (len(baselines.INPUT_TOPS), len(baselines.OUTPUT_TOPS))
    columns = []
    for name, row in paper.gpus.items():
        if name not in published.gpus:
            raise InvalidValue(f"maps: no throughputs of {name}")
        rows = (*published.gpus[name].requests_per_s, *row.longer_inputs)
        if len(rows) > shape[0] or any(len(cells) != shape[1] for cells in rows):
            raise InvalidValue(f"gpus.{name}: at most {shape[0]} rows of {shape[1]} throughputs")
        column = np.full(shape, np.nan)
        column[: len(rows)] = np.array(rows, dtype=float)  # None becomes NaN
        columns.append(column.ravel())
    return np.array(columns).T


def _analytic(paper: PaperFile, table: ResultTable) -> Instance:
    """The instance with the throughputs of analytic profiles; TTFT is unbounded, as in Mélange."""
    pools = tuple(
        Pool(
            name=name,
            model=paper.model,
            profile=profiles.build(
                ProfileFile(
                    format=FORMAT,
                    origin="analytic",
                    gpu=row.gpu,
                    model=paper.model,
                    engine=paper.engine,
                )
            ),
            usd_per_hour=row.usd_per_hour,
        )
        for name, row in paper.gpus.items()
    )
    slo = Slo(ttft_s=baselines.UNBOUND_S, tpot_s=table.tpot_s)
    return baselines.instance_of_pools(pools, slo, paper.histogram(table.dataset))
