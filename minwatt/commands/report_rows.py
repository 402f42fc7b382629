"""A comparison as one value, and the same value as a table, a page, Markdown and JSON.

Owns the wording of figures, differences and verdicts. Pure. Called by `report`.
"""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import plotly.graph_objects as go
from rich.table import Table

from loadtest.compare import Change
from loadtest.page import GREY, Pieces, page, section

HEADS = ("", "A", "B", "difference", "95% of it", "verdict")
_COLOURS = {"better": "#009E73", "worse": "#D55E00"}  # Okabe and Ito's
_UNKNOWN = "–"


@dataclass(frozen=True, slots=True)
class Part:
    """Of one contender; a load test has one part without a name."""

    name: str
    changes: Sequence[Change]


@dataclass(frozen=True, slots=True)
class Comparison:
    title: str
    names: tuple[str, str]  # A's and B's
    parts: Sequence[Part]
    notes: Sequence[str]

    def as_json(self, made_by: str) -> str:
        """SI or the unit that stands beside; null: not known."""
        parts = [
            {
                "name": part.name,
                "changes": [
                    {**asdict(change), "difference": change.difference, "verdict": change.verdict}
                    for change in part.changes
                ],
            }
            for part in self.parts
        ]
        found = {
            "a": self.names[0],
            "b": self.names[1],
            "parts": parts,
            "notes": list(self.notes),
            "made_by": made_by,
        }
        return json.dumps(found, indent=2, allow_nan=False)


def cells(change: Change) -> tuple[str, ...]:
    """By HEADS."""
    interval = _UNKNOWN
    if change.low is not None and change.high is not None:
        interval = f"{_signed(change.low, change.unit)} to {_signed(change.high, change.unit)}"
    relative = ""
    if change.difference is not None and change.a:
        relative = f" ({change.difference / change.a:+.1%})"
    return (
        change.name,
        _said(change.a, change.unit),
        _said(change.b, change.unit),
        _UNKNOWN if change.difference is None else _signed(change.difference, change.unit) + relative,
        interval,
        change.verdict,
    )


def table_of(part: Part) -> Table:
    table = Table(
        box=None, pad_edge=False, header_style="bold", title=part.name or None, title_justify="left"
    )
    for place, head in enumerate(HEADS):
        table.add_column(head, justify="left" if place in {0, len(HEADS) - 1} else "right")
    for change in part.changes:
        table.add_row(*cells(change))
    return table


def as_markdown(found: Comparison, made_by: str) -> str:
    lines = [f"# {found.title}", ""]
    for part in found.parts:
        lines += [f"## {part.name}", ""] if part.name else []
        lines += ["| " + " | ".join(HEADS) + " |", "|---" + "|---:" * (len(HEADS) - 2) + "|---|"]
        lines += [
            "| " + " | ".join(cell.replace("|", "\\|") for cell in cells(one)) + " |" for one in part.changes
        ]
        lines.append("")
    lines += [f"- {note}" for note in found.notes]
    return "\n".join([*lines, "", made_by]) + "\n"


def as_html(found: Comparison, made_by: str) -> str:
    return page(
        Pieces(
            title=found.title,
            about=" · ".join(found.notes),
            table="".join(_html_table(part) for part in found.parts),
            made_by=made_by,
            plots=[plot for part in found.parts if (plot := _plot(part))],
        )
    )


def _html_table(part: Part) -> str:
    heads = "".join(f"<th>{html.escape(head)}</th>" for head in HEADS)
    body = "".join(
        "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for tag, cell in _tagged(change)) + "</tr>"
        for change in part.changes
    )
    caption = f"<caption>{html.escape(part.name)}</caption>" if part.name else ""
    return f'<table class="wide">{caption}<thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>'


def _tagged(change: Change) -> list[tuple[str, str]]:
    return [("td" if place else "th", cell) for place, cell in enumerate(cells(change))]


def _plot(part: Part) -> str:
    """Differences in percent of A, with their intervals; what is 0 in A has none."""
    shown = [change for change in part.changes if change.a and change.difference is not None][::-1]
    if not shown:
        return ""
    of_a = [100 * (change.difference or 0.0) / (change.a or 1.0) for change in shown]
    low = [_reach(change, change.low) for change in shown]
    high = [_reach(change, change.high) for change in shown]
    bar = go.Bar(
        x=of_a,
        y=[change.name for change in shown],
        orientation="h",
        marker={"color": [_COLOURS.get(change.verdict, GREY) for change in shown]},
        error_x={"array": high, "arrayminus": low, "color": GREY},
        hovertemplate="%{x:+.2f} %<extra></extra>",
    )
    note = "B beside A. Bars with an interval across 0 are within noise; green is better, orange worse."
    return section(go.Figure([bar]), part.name or "Differences", "", note, "% of A")


def _reach(change: Change, end: float | None) -> float:
    if end is None or not change.a or change.difference is None:
        return 0.0
    return abs(100 * (end - change.difference) / change.a)


def _said(value: float | None, unit: str) -> str:
    if value is None:
        return _UNKNOWN
    if unit == "of requests":
        return f"{value:.3%}"
    return f"{value:,.4g} {unit}".rstrip() if abs(value) < 1e6 else f"{value:,.0f} {unit}".rstrip()


def _signed(value: float, unit: str) -> str:
    sign = "+" if value > 0 else "-" if value < 0 else "±"
    return sign + _said(abs(value), unit)
