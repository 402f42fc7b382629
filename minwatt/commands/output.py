"""Tables of figures in the terminal. Called by the commands that print them."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from report.document import Table as Figures

_WIDEST = 200  # characters that a table may take


def print_whole(table: Table, console: Console) -> None:
    """Figures that are cut to fit are no figures: a terminal that is too narrow wraps the lines instead."""
    needed = console.measure(table, options=console.options.update(max_width=_WIDEST)).maximum
    Console(file=console.file, width=max(console.width, needed)).print(table)


def in_terminal(figures: Figures, left: frozenset[int] = frozenset({0})) -> Table:
    """A report's table. `left`: the columns that are words."""
    title = figures.caption or None
    table = Table(box=None, pad_edge=False, header_style="bold", title=title, title_justify="left")
    for place, head in enumerate(figures.heads):
        table.add_column(head, justify="left" if place in left else "right")
    for row in figures.rows:
        table.add_row(*map(Text, row.cells))
    return table
