"""Tables of figures in the terminal. Called by the commands that print them."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

_WIDEST = 200  # characters that a table may take


def print_whole(table: Table, console: Console) -> None:
    """Figures that are cut to fit are no figures: a terminal that is too narrow wraps the lines instead."""
    needed = console.measure(table, options=console.options.update(max_width=_WIDEST)).maximum
    Console(file=console.file, width=max(console.width, needed)).print(table)
