"""Where a size lies on a grid: the one lookup that every request pays for. Knows no numpy."""


def cell(
    input_edges: tuple[int, ...], output_edges: tuple[int, ...], inputs: int, outputs: int
) -> int:
    """The number of the cell: row by row, as `Grid` says."""
    return _place(input_edges, inputs) * (len(output_edges) - 1) + _place(output_edges, outputs)


def _place(edges: tuple[int, ...], value: int) -> int:
    """The interval that a value lies in; what is beyond either end lies in the outermost."""
    low, high = 0, len(edges) - 2
    while low < high:  # compiled, this costs a third of a call of `bisect`
        middle = (low + high + 1) >> 1
        if value < edges[middle]:
            high = middle - 1
        else:
            low = middle
    return low
