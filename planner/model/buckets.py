"""What the router can tell apart at arrival: SLO class × cell of the estimated size.

Must not know how many requests arrive, nor where they go.
"""

from dataclasses import dataclass

from planner.sizes import Grid
from planner.slo import Slo

DEFAULT = "default"  # the SLO class of a request that names none
MOST_CLASSES = 8  # SLO classes that one model may have
BEST_EFFORT = "best-effort"  # the class of requests without a promise; it has no buckets


@dataclass(frozen=True, slots=True, kw_only=True)
class SloClass:
    """The promise that is made to one class of a model's requests."""

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
        """B, the number of buckets."""
        return len(self.classes) * self.grid.cells

    def numbered_as(self, other: "Buckets") -> bool:
        """Whether the numbers of both mean the same: grid and names are equal, whatever is
        promised."""
        return self.grid == other.grid and [(c.model, c.name) for c in self.classes] == [
            (c.model, c.name) for c in other.classes
        ]

    @property
    def class_numbers(self) -> list[int]:
        """(B,) the number of the SLO class of each bucket."""
        return [bucket // self.grid.cells for bucket in range(self.count)]

    def class_of(self, bucket: int) -> SloClass:
        """The SLO class of a bucket."""
        return self.classes[bucket // self.grid.cells]

    def describe(self, bucket: int) -> str:
        """A bucket in words: `llama-3-8b in 256–512 out 64–128`, or `out 1024+`, as the last cells
        have no upper edge; a named class stands with it."""
        grid = self.grid
        inputs, outputs = grid.bounds(bucket % grid.cells)
        sizes = f"in {_range(inputs, grid.input_edges)} out {_range(outputs, grid.output_edges)}"
        return f"{self.class_of(bucket)} {sizes}"


def _range(bounds: tuple[int, int], edges: tuple[int, ...]) -> str:
    """The sizes between two edges in words."""
    low, high = bounds
    return f"{low}+" if high == edges[-1] else f"{low}–{high}"
