"""Published instances: Mélange's inputs and reported results, in the format `cuvee-instance/1`.

Must not know how an instance is solved.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from planner.errors import InvalidFile, InvalidValue
from planner.files import decoded
from planner.program.baselines import Instance


class PublishedGpu(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """Price and throughput of one GPU type; requests_per_s: input × output."""

    usd_per_hour: float
    requests_per_s: tuple[tuple[float, ...], ...]


class Reported(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """What the paper reports, by rate: the cost of the mix, and the counts of each type alone."""

    rates: tuple[float, ...]
    melange_usd_per_hour: tuple[float, ...]
    single_types: dict[str, tuple[int, ...]]


class Published(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """The file format: an instance that was published, and the results reported for it."""

    format: Literal["cuvee-instance/1"]
    source: str
    input_edges: tuple[int, ...]
    output_edges: tuple[int, ...]
    slice_factor: int
    requests: tuple[tuple[float, ...], ...]
    gpus: dict[str, PublishedGpu]
    reported: Reported

    def instance(self, rate: float) -> Instance:
        """The instance at a total rate (requests/s)."""
        tputs = [np.array(gpu.requests_per_s, dtype=float).ravel() for gpu in self.gpus.values()]
        return Instance(
            gpus=tuple(self.gpus),
            usd=np.array([gpu.usd_per_hour for gpu in self.gpus.values()]),
            rate=np.array(self.requests, dtype=float).ravel(),
            tput=np.array(tputs).T,
        ).at(rate)


def read_published(path: Path) -> Published:
    """Read a published instance. Raises InvalidFile, naming the file and the key."""
    published = decoded(path, Published)
    shape = (len(published.input_edges), len(published.output_edges))
    tables: Mapping[str, Any] = {"requests": published.requests} | {
        f"gpus.{name}.requests_per_s": gpu.requests_per_s for name, gpu in published.gpus.items()
    }
    for key, table in tables.items():
        if len(table) != shape[0] or any(len(row) != shape[1] for row in table):
            raise InvalidFile(f"{path}: {key}: must be {shape[0]} rows of {shape[1]} numbers")
    try:
        published.instance(1.0)
    except InvalidValue as error:
        raise InvalidFile(f"{path}: {error}") from error
    return published
