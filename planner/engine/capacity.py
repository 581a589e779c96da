"""What a backend sustains by size, and the search for the largest batch that keeps a promise.

Must not know profiles, nor how long an iteration takes.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from planner.engine.roofline import Number
from planner.sizes import FloatArray

BoolArray = NDArray[np.bool_]
LEAST_BATCH = 1.0  # below one sequence in flight there is nothing to serve
BISECTIONS = 20  # n* to a millionth of its range


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Capacity:
    """What a backend sustains within an SLO, by size: n_star in flight, rate in requests/s.

    All arrays have the shape of the sizes. promised: where the SLO can hold. Of `Profile.capacity`
    the others are 0 elsewhere, of `Profile.takes` only where the size does not fit at all.
    """

    n_star: FloatArray
    rate: FloatArray
    promised: BoolArray


def hits(inputs: Number, cached: Number) -> Number:
    """The tokens of prompts that are not computed: all but one at most, which makes the first token
    of the answer, as `Engine.submit` has it."""
    return np.clip(cached, 0.0, np.maximum(np.asarray(inputs, dtype=float) - 1, 0.0))


def largest(holds: Callable[[FloatArray], BoolArray], high: FloatArray) -> FloatArray:
    """The largest batch in [1, high] for which `holds` is true; below it `holds` must be true."""
    low, top = np.full_like(high, LEAST_BATCH), high
    full = holds(high)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        right = holds(middle)
        low, high = np.where(right, middle, low), np.where(right, high, middle)
    return np.where(full, top, low)
