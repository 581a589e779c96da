"""The table of best rates that another planner found."""

import math
from typing import Any

import numpy as np
import pytest

from planner.engine.rates import Rates


def test_rates_hold_up_to_the_corner_of_their_cell():
    """A size has the rate of the cell it falls into, edges included; beyond the last there is 0."""
    rates = Rates(input_to=(100, 200), output_to=(10, 20), rate=((4.0, 3.0), (2.0, 1.0)))

    found = rates.of(np.array([1, 100, 101, 200, 201, 5]), np.array([10, 11, 10, 20, 5, 21]))

    assert found.tolist() == [4.0, 3.0, 2.0, 1.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rate": ((1.0, 2.0), (1.0,))}, r"rate\[1\]: a hole"),
        ({"rate": ((1.0, 2.0),)}, "1 rows for 2 input_to"),
        ({"rate": ((1.0, math.nan), (1.0, 1.0))}, r"rate\[0\]\[1\]"),
        ({"rate": ((1.0, 1.0), (-1.0, 1.0))}, r"rate\[1\]\[0\]"),
        ({"rate": ((0.0, 0.0), (0.0, 0.0))}, "all are zero"),
        ({"input_to": (200, 100)}, "input_to: must be ascending"),
    ],
)
def test_a_table_of_rates_without_sense_is_refused(change: dict[str, Any], words: str):
    """Holes, NaN, negative rates and overlapping edges are named by row and column."""
    good: dict[str, Any] = {
        "input_to": (100, 200),
        "output_to": (10, 20),
        "rate": ((1.0, 1.0), (1.0, 1.0)),
    }

    with pytest.raises(ValueError, match=words):
        Rates(**(good | change))
