"""The cell of a grid that one size lies in, looked up for every request.

A file of its own because mypyc compiles it for the data path. Must not know NumPy, which would cost
more than the lookup.
"""


def cell(
    input_edges: tuple[int, ...], output_edges: tuple[int, ...], inputs: int, outputs: int
) -> int:
    """The number of the cell of one size: row by row, as in `Grid`."""
    return _index(input_edges, inputs) * (len(output_edges) - 1) + _index(output_edges, outputs)


def _index(edges: tuple[int, ...], value: int) -> int:
    """The interval that a value lies in; values beyond an end belong to the outermost interval."""
    low, high = 0, len(edges) - 2
    # Compiled, this loop costs a third of a call of `bisect`.
    while low < high:
        middle = (low + high + 1) >> 1
        if value < edges[middle]:
            high = middle - 1
        else:
            low = middle
    return low
