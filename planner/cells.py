"""Where a size lies on a grid: the one lookup that every request pays for. Knows no numpy."""

from bisect import bisect_right


def cell(
    input_edges: tuple[int, ...], output_edges: tuple[int, ...], inputs: int, outputs: int
) -> int:
    """The number of the cell: row by row, as `Grid` says."""
    rows, columns = len(input_edges) - 1, len(output_edges) - 1
    row = bisect_right(input_edges, inputs, 1, rows) - 1
    return row * columns + bisect_right(output_edges, outputs, 1, columns) - 1
