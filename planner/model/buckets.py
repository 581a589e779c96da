"""What the router can tell apart at arrival: SLO class × cell of the estimated size."""

from dataclasses import dataclass

from planner.sizes import Grid
from planner.slo import Slo

DEFAULT = "default"  # the SLO class of a request that names none


@dataclass(frozen=True, slots=True, kw_only=True)
class SloClass:
    """The promise made to one kind of request for one model."""

    model: str
    slo: Slo
    name: str = DEFAULT

    def __str__(self) -> str:
        return self.model if self.name == DEFAULT else f"{self.model} {self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Buckets:
    """All buckets: SLO class × cell of the estimated size, numbered `class * grid.cells + cell`."""

    classes: tuple[SloClass, ...]
    grid: Grid

    @property
    def count(self) -> int:
        return len(self.classes) * self.grid.cells

    def class_of(self, bucket: int) -> SloClass:
        return self.classes[bucket // self.grid.cells]

    def describe(self, bucket: int) -> str:
        """A bucket in words: `llama-3-8b in 256–512 out 64–128`; with its class if not default."""
        (i0, i1), (o0, o1) = self.grid.bounds(bucket % self.grid.cells)
        return f"{self.class_of(bucket)} in {i0}–{i1} out {o0}–{o1}"
