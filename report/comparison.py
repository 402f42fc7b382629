"""Two results beside one another: each figure with its difference, and whether that is more than noise.

Owns the differences, their verdicts and wording, as a table, a page, Markdown and JSON. Leaves the spread to
who knows it. Pure. Called by `loadtest.compare` and the kinds of `minwatt report compare`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import plotly.graph_objects as go

from report.document import Chart, Document, Row, Table
from report.look import BETTER, GREY, WORSE
from report.provenance import Provenance

HEADS = ("", "A", "B", "difference", "95% of it", "verdict")
_BAR_PX, _AROUND_PX, _LEAST_PX = 22, 110, 290
_COLOURS = {"better": BETTER, "worse": WORSE}
_UNKNOWN = "–"


@dataclass(frozen=True, slots=True)
class Change:
    """Of one figure from A to B, in `unit`. `low`, `high`: of the difference; None: no spread is known.

    `less_is_better`: None where neither is.
    """

    name: str
    unit: str
    a: float | None
    b: float | None
    low: float | None = None
    high: float | None = None
    less_is_better: bool | None = None

    @property
    def difference(self) -> float | None:
        return None if self.a is None or self.b is None else self.b - self.a

    @property
    def verdict(self) -> str:
        if self.difference is None:
            return "unknown"
        if self.low is None or self.high is None:
            return "the same" if self.difference == 0 else "no spread"
        if self.low <= 0 <= self.high:
            return "within noise"
        lower = self.high < 0
        if self.less_is_better is None:
            return "lower" if lower else "higher"
        return "better" if lower == self.less_is_better else "worse"


Bounds = tuple[float, float, float]  # (low, value, high)


def between(a: Bounds, b: Bounds) -> tuple[float, float]:
    """(low, high) of b - a, from an interval of each; what they are of is independent.

    The square-and-add rule: R. G. Newcombe, "Interval estimation for the difference between independent
    proportions", Statistics in Medicine 17, 1998; for other figures Zou and Donner, ibid. 27, 2008.
    """
    (a_low, a_value, a_high), (b_low, b_value, b_high) = a, b
    off = b_value - a_value
    return (
        off - math.hypot(b_value - b_low, a_high - a_value),
        off + math.hypot(b_high - b_value, a_value - a_low),
    )


def change(
    name: str, unit: str, a: Bounds | None, b: Bounds | None, less_is_better: bool | None, spread: bool = True
) -> Change:
    """Of figures with an interval each; None: not known. Without `spread` the intervals are none."""
    low = high = None
    if a is not None and b is not None and spread:
        low, high = between(a, b)
    values = [None if one is None else one[1] for one in (a, b)]
    return Change(name, unit, values[0], values[1], low, high, less_is_better)


@dataclass(frozen=True, slots=True)
class Part:
    """Of one contender, variant or load; a load test has one part without a name."""

    name: str
    changes: Sequence[Change]


@dataclass(frozen=True, slots=True)
class Comparison:
    """`watts`: their source, as far as joules are compared."""

    title: str
    names: tuple[str, str]  # A's and B's
    parts: Sequence[Part]
    notes: Sequence[str]
    watts: str


def document(found: Comparison, made_by: Provenance) -> Document:
    """As a report. JSON: SI or the unit that stands beside; null: not known."""
    return Document(
        title=found.title,
        about=f"Watts: {found.watts}.",
        tables=[table_of(part) for part in found.parts],
        charts=[chart for part in found.parts if (chart := _chart(part, found.watts))],
        notes=found.notes,
        data={
            "a": found.names[0],
            "b": found.names[1],
            "parts": [
                {"name": part.name, "changes": [_as_data(one) for one in part.changes]}
                for part in found.parts
            ],
            "notes": list(found.notes),
        },
        provenance=made_by,
    )


def _as_data(change: Change) -> dict[str, object]:
    return {**asdict(change), "difference": change.difference, "verdict": change.verdict}


def table_of(part: Part) -> Table:
    rows = [Row(cells(one), colour=_COLOURS.get(one.verdict, "")) for one in part.changes]
    return Table(HEADS, rows, part.name)


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


def _chart(part: Part, watts: str) -> Chart | None:
    """Differences in percent of A, with their intervals; what is 0 in A has none."""
    shown = [change for change in part.changes if change.a and change.difference is not None][::-1]
    if not shown:
        return None
    bar = go.Bar(
        x=[100 * (change.difference or 0.0) / (change.a or 1.0) for change in shown],
        y=[change.name for change in shown],
        orientation="h",
        marker={"color": [_COLOURS.get(change.verdict, GREY) for change in shown]},
        error_x={
            "array": [_reach(change, change.high) for change in shown],
            "arrayminus": [_reach(change, change.low) for change in shown],
            "color": GREY,
        },
        hovertemplate="%{x:+.2f} %<extra></extra>",
    )
    return Chart(
        go.Figure([bar], layout={"hovermode": "y"}),
        title=part.name or "Differences",
        unit="",
        note="B beside A. Bars with an interval across 0 are within noise; green is better, orange worse.",
        x_title="% of A",
        watts=watts,
        tabled=True,
        height_px=max(_LEAST_PX, _AROUND_PX + _BAR_PX * len(shown)),
    )


def _reach(change: Change, end: float | None) -> float:
    if end is None or not change.a or change.difference is None:
        return 0.0
    return abs(100 * (end - change.difference) / change.a)


def _said(value: float | None, unit: str) -> str:
    if value is None:
        return _UNKNOWN
    if unit.startswith("of "):  # a share
        return f"{value:.3%}"
    return f"{value:,.4g} {unit}".rstrip() if abs(value) < 1e6 else f"{value:,.0f} {unit}".rstrip()


def _signed(value: float, unit: str) -> str:
    sign = "+" if value > 0 else "-" if value < 0 else "±"
    return sign + _said(abs(value), unit)
