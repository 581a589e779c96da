"""Tables that fit a terminal of 80 columns: texts fold, and no figure is ever cut.

Knows nothing of what stands in them.
"""

from rich.box import SIMPLE_HEAD
from rich.table import Table


def close_table() -> Table:
    """A table whose columns stand close together."""
    return Table(box=SIMPLE_HEAD, collapse_padding=True, pad_edge=False)


def add_texts(table: Table, *headings: str) -> None:
    """Columns of words, which fold where there is no room."""
    for heading in headings:
        table.add_column(heading, overflow="fold")


def add_figures(table: Table, *headings: str) -> None:
    """Columns of figures: they keep their width, for half a figure is a wrong one. A heading that
    is wider than its figures is best written in two lines."""
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
