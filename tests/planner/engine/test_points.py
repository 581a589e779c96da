"""Measured points: each of them is checked before anything is fitted to it."""

import math
from typing import Any

import pytest

from planner.engine.points import Point, checked
from planner.errors import InvalidValue

GOOD: dict[str, Any] = {"input_tokens": 100, "output_tokens": 50, "rate": 2.0, "tpot_s": 0.02}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rate": 0}, r"points\[1\].rate: must be above 0"),
        ({"rate": -1}, r"points\[1\].rate"),
        ({"tpot_s": math.nan}, r"points\[1\].tpot_s"),
        ({"ttft_s": math.inf}, r"points\[1\].ttft_s"),
        ({"input_tokens": 0}, r"points\[1\].input_tokens"),
        ({"rate": None}, r"points\[1\]: a hole: its load"),
        ({"tpot_s": None}, r"points\[1\]: a hole: give tpot_s"),
        ({}, r"points\[1\]: the same size and load as points\[0\]"),
    ],
)
def test_an_unusable_point_is_named(change: dict[str, Any], words: str):
    """Holes, NaN, zero, negative and double points: the message says which point and key."""
    with pytest.raises(InvalidValue, match=words):
        checked([Point(**GOOD), Point(**(GOOD | change))])


def test_no_points_are_no_measurement():
    """Nothing to fit is an error."""
    with pytest.raises(InvalidValue, match="at least one"):
        checked([])


def test_requests_in_flight_follow_from_the_rate():
    """By Little's law from rate and TPOT, unless they are stated; else unknown."""
    stated = Point(input_tokens=100, output_tokens=50, rate=2.0, batch=9.0, tpot_s=0.02)

    assert Point(**GOOD).in_flight == pytest.approx(2.0 * 50 * 0.02)
    assert stated.in_flight == 9.0
    assert Point(input_tokens=100, output_tokens=50, rate=2.0, ttft_s=0.1).in_flight is None
