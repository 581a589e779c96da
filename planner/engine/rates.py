"""The best rate of one backend by request size, as planners find it that fix the SLO first.

Owns the table and its lookup. Knows no engine and no SLO.
"""

import math
from itertools import pairwise

import msgspec
import numpy as np

from planner.sizes import FloatArray


class Rates(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """The best rate by size, as another planner found it under an SLO that stays baked in.

    input_to, output_to: upper edges of the cells. rate: requests/s, a row per input cell, a column
    per output cell; 0 where that SLO could not be held.
    """

    input_to: tuple[int, ...]
    output_to: tuple[int, ...]
    rate: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        for name, edges in (("input_to", self.input_to), ("output_to", self.output_to)):
            if not edges or edges[0] < 1 or any(a >= b for a, b in pairwise(edges)):
                raise ValueError(f"{name}: must be ascending counts: {list(edges)}")
        if len(self.rate) != len(self.input_to):
            raise ValueError(f"rate: {len(self.rate)} rows for {len(self.input_to)} input_to")
        for i, row in enumerate(self.rate):
            if len(row) != len(self.output_to):
                count = f"{len(row)} values for {len(self.output_to)} output_to"
                raise ValueError(f"rate[{i}]: a hole: {count}")
            for o, value in enumerate(row):
                if not 0 <= value < math.inf:
                    raise ValueError(f"rate[{i}][{o}]: must be finite and not negative: {value}")
        if not any(any(row) for row in self.rate):
            raise ValueError("rate: all are zero")

    def of(self, inputs: FloatArray, outputs: FloatArray) -> FloatArray:
        """The rate of each size: that of the cell it falls into; 0 beyond the last edges."""
        row = np.searchsorted(self.input_to, inputs)
        column = np.searchsorted(self.output_to, outputs)
        padded = np.pad(np.array(self.rate, dtype=float), ((0, 1), (0, 1)))
        return np.asarray(padded[row, column])
