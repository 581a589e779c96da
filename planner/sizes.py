"""Request sizes and the grids that cut them into cells. Must not know rates, pools or SLOs."""

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from planner.cells import cell
from planner.errors import InvalidValue

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """A partition of the (input, output) plane into half-open cells `[edge, next edge)`.

    input_edges, output_edges: ascending token counts, I + 1 and O + 1 of them. Sizes below the
    first or above the last edge belong to the first or last cell: every request has a bucket.
    Cells are numbered `input_cell * O + output_cell`; only this class knows that they are 2-D.
    Raises InvalidValue if edges do not ascend.
    """

    input_edges: tuple[int, ...]
    output_edges: tuple[int, ...]

    def __post_init__(self) -> None:
        for name, edges in (("input", self.input_edges), ("output", self.output_edges)):
            if len(edges) < 2 or edges[0] < 0 or any(a >= b for a, b in pairwise(edges)):
                raise InvalidValue(f"{name}_edges must be two or more ascending counts: {edges}")

    @property
    def cells(self) -> int:
        """The number of cells, I · O."""
        return (len(self.input_edges) - 1) * (len(self.output_edges) - 1)

    def cell(self, input_tokens: int, output_tokens: int) -> int:
        """The cell of one size."""
        return cell(self.input_edges, self.output_edges, input_tokens, output_tokens)

    def cell_of(self, input_tokens: FloatArray, output_tokens: FloatArray) -> IntArray:
        """(N,) the cells of N sizes, from (N,) input and (N,) output tokens."""
        row = np.searchsorted(self.input_edges[1:-1], input_tokens, side="right")
        column = np.searchsorted(self.output_edges[1:-1], output_tokens, side="right")
        return np.asarray(row * (len(self.output_edges) - 1) + column, dtype=np.int64)

    def bounds(self, cell: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """The input range and the output range of a cell, each as (edge, next edge)."""
        row, column = divmod(cell, len(self.output_edges) - 1)
        return (
            (self.input_edges[row], self.input_edges[row + 1]),
            (self.output_edges[column], self.output_edges[column + 1]),
        )

    def centre(self, cell: int) -> tuple[int, int]:
        """A typical size of a cell: the geometric middle of both ranges, at least one token.

        Geometric, because edges are log-spaced.
        """
        inputs, outputs = self.bounds(cell)
        return _middle(*inputs), _middle(*outputs)


def log_edges(first: int, last: int, *, per_octave: int = 1) -> tuple[int, ...]:
    """Log-spaced edges from `first` to at least `last`, `per_octave` of them per doubling.

    Raises InvalidValue for an empty range.
    """
    if not 0 < first < last or per_octave < 1:
        raise InvalidValue(f"no log-spaced edges from {first} to {last}, {per_octave} per octave")
    edges, step = [first], 0
    while edges[-1] < last:
        step += 1
        edge = round(first * 2 ** (step / per_octave))
        if edge > edges[-1]:  # near 1 token several steps round to the same edge
            edges.append(edge)
    return tuple(edges)


def _middle(low: int, high: int) -> int:
    return max(1, round(math.sqrt(max(low, 1) * high)))
