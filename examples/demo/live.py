"""What the demo shows while a run goes on: the rows of `fleet.jsonl` and `decisions.jsonl` as a rich panel.

Pure: rows in, renderable out. Called by run.py twice a second.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from examples.demo.processes import Load

Row = dict[str, Any]
BARS = "▁▂▃▄▅▆▇█"
WIDTH = 40


def rows_of(file: Path) -> list[Row]:
    """The complete lines of a JSON-lines file that another process is still writing; [] before it exists."""
    if not file.exists():
        return []
    return [json.loads(line) for line in file.read_text().splitlines(keepends=True) if line.endswith("\n")]


def sparkline(values: list[float | None], top: float) -> str:
    """One character a value, scaled so that `top` is a full block; a missing value is a blank."""
    last = len(BARS) - 1
    shown = values[-WIDTH:]
    return "".join(
        " " if value is None else BARS[min(last, int(value / top * last + 0.5))] if top else BARS[0]
        for value in shown
    )


def view(title: str, load: Load, elapsed_s: float, fleet: list[Row], decisions: list[Row]) -> Panel:
    """The panel of one run, `elapsed_s` after its start."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", justify="right", no_wrap=True)
    table.add_column(width=WIDTH, no_wrap=True)
    table.add_column(no_wrap=True)
    source = next((row["watts_source"] for row in reversed(fleet) if row["watts_source"]), "unknown")
    p99_ms = [None if row["p99_s"] is None else 1000 * row["p99_s"] for row in fleet]
    for label, values, now in (
        ("requests/s", [row["arrivals_rps"] for row in fleet], "{:.0f}"),
        ("p99", p99_ms, "{:.0f} ms"),
        ("replicas", [row["replicas_ready"] for row in fleet], "{:.0f} ready"),
        ("texts a batch", [row["batch_mean_texts"] for row in fleet], "{:.1f}"),
        (f"watts ({source})", [row["watts"] for row in fleet], "{:.1f} W"),
    ):
        known = [value for value in values if value is not None]
        top = max(known, default=0.0)
        last = values[-1] if values else None
        table.add_row(label, sparkline(values, top), "–" if last is None else now.format(last))
    joules = next((row["joules_total"] for row in reversed(fleet) if row["joules_total"] is not None), None)
    sent_s = min(elapsed_s, load.duration_s)  # the last answers come later
    bar = ProgressBar(total=load.duration_s, completed=sent_s, width=WIDTH)
    table.add_row("", Text())
    table.add_row("", bar, f"{sent_s:.0f} of {load.duration_s:.0f} s")
    energy = "" if joules is None else f"{joules:.0f} J so far ({source})"
    return Panel(Group(table, Text(energy, style="dim"), *_last(decisions)), title=title)


def _last(decisions: list[Row]) -> list[Text]:
    """The last three decisions that changed something, with the first of their reasons."""
    moves = [row for row in decisions if row["action"] in {"up", "down", "retune"}][-3:]
    lines = []
    for row in moves:
        reason = row["reasons"][0]["message"] if row["reasons"] else ""
        lines.append(
            Text(
                f"{row['action']:>6} {row['current_replicas']} → {row['desired_replicas']}: {reason}",
                overflow="ellipsis",
                no_wrap=True,
            )
        )
    return lines
