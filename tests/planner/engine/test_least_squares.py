"""Least squares within bounds."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.engine.least_squares import bounded


def test_without_a_bound_in_the_way_it_is_plain_least_squares():
    """The same as NumPy's."""
    random = np.random.default_rng(2)
    matrix, target = random.random((30, 4)), random.random(30)

    found = bounded(matrix, np.full(4, -100.0), np.full(4, np.inf), target=target)

    assert found == pytest.approx(np.linalg.lstsq(matrix, target, rcond=None)[0])


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 8), st.sampled_from([0.0, 0.01]))
def test_nothing_within_the_bounds_is_nearer(seed: int, size: int, ridge: float):
    """Moving any unknown inwards, or a free one either way, makes it worse: the optimum, since the
    problem is convex. Columns may differ by many orders of magnitude."""
    random = np.random.default_rng(seed)
    matrix = random.random((20, size)) * random.lognormal(0, 3, size)
    low, high = np.zeros(size), np.where(random.random(size) < 0.5, 0.3, np.inf)

    found = bounded(matrix, low, high, ridge=ridge)

    assert np.all(found >= low)
    assert np.all(found <= high * (1 + 1e-12))
    length = np.sqrt((matrix**2).sum(axis=0) + ridge)
    pull = (matrix.T @ (1 - matrix @ found) + ridge * (1 - found)) / length
    at_low, at_high = found <= low, found >= high * (1 - 1e-12)
    assert np.all(np.abs(pull[~at_low & ~at_high]) < 1e-6)
    assert np.all(pull[at_low & ~at_high] < 1e-6)
    assert np.all(pull[at_high & ~at_low] > -1e-6)


def test_a_column_of_zeros_stays_at_its_lower_bound():
    """What the rows say nothing about moves nowhere."""
    matrix = np.array([[1.0, 0.0], [2.0, 0.0]])

    found = bounded(matrix, np.array([0.0, 0.25]), np.array([np.inf, np.inf]))

    assert found == pytest.approx([0.6, 0.25])
