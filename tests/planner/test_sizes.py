"""Grids of request sizes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.errors import InvalidValue
from planner.sizes import Grid, log_edges

GRID = Grid(input_edges=(16, 64, 256, 1024), output_edges=(8, 32, 128))


@given(st.integers(16, 1023), st.integers(8, 127))
def test_a_size_lies_within_the_bounds_of_its_cell(inputs: int, outputs: int):
    """Cells are half-open: every size inside the grid lies in [edge, next edge)."""
    (i0, i1), (o0, o1) = GRID.bounds(GRID.cell(inputs, outputs))

    assert i0 <= inputs < i1
    assert o0 <= outputs < o1


@given(st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 5000)), min_size=1, max_size=20))
def test_many_sizes_fall_where_each_falls_alone(sizes: list[tuple[int, int]]):
    """The vectorised cell agrees with the scalar one, outside the grid as well."""
    inputs, outputs = np.array(sizes, dtype=float).T

    assert GRID.cell_of(inputs, outputs).tolist() == [GRID.cell(i, o) for i, o in sizes]


def test_the_centre_of_a_cell_lies_in_it():
    """A cell never seen is represented by a size that it contains."""
    assert [GRID.cell(*GRID.centre(cell)) for cell in range(GRID.cells)] == list(range(GRID.cells))


@pytest.mark.parametrize("edges", [(), (1,), (2, 1), (1, 1), (-1, 4)])
def test_edges_that_do_not_ascend_are_refused_by_name(edges: tuple[int, ...]):
    """The message says which axis is wrong."""
    with pytest.raises(InvalidValue, match="output_edges"):
        Grid(input_edges=(1, 2), output_edges=edges)


@given(st.integers(1, 1000), st.integers(1, 10), st.integers(1, 8))
def test_log_edges_ascend_and_cover_the_range(first: int, octaves: int, per_octave: int):
    """Edges start at the first, reach the last and never repeat."""
    edges = log_edges(first, first * 2**octaves, per_octave=per_octave)

    assert edges[0] == first
    assert edges[-1] >= first * 2**octaves
    assert list(edges) == sorted(set(edges))


def test_log_edges_need_a_range():
    """An empty range is an error, not an empty grid."""
    with pytest.raises(InvalidValue):
        log_edges(8, 8)
