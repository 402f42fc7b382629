"""The figures behind a chart, as tables: for screen readers, for Markdown, for whoever wants the numbers.

Read off the curves themselves, so that table and picture can't differ. Pure. Called by `page`, `markdown`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from report.document import LIMIT, Chart, Row, Table

UNKNOWN = "–"


def tables_of(chart: Chart, most_rows: int) -> list[Table]:
    """At most about so many rows each; where there are more points, each n-th, and the caption says so."""
    if chart.table is not None:
        return [_thinned(chart.table, most_rows)]
    traces = [trace for trace in chart.figure.data if trace.meta != LIMIT]
    curves = [trace for trace in traces if trace.text is None]
    limits = [str(trace.name) for trace in chart.figure.data if trace.meta == LIMIT]
    caption = "; ".join(part for part in (chart.unit, *limits) if part)
    found = [_curves(chart, curves, caption, most_rows)] if curves else []
    return found + [_thinned(_events(chart, trace), most_rows) for trace in traces if trace.text is not None]


def _curves(chart: Chart, curves: Sequence[Any], caption: str, most_rows: int) -> Table:
    """A column a curve where all have the same places; else a row a point, as many for each curve."""
    places = [_places(trace) for trace in curves]
    alike = all(one == places[0] for one in places)
    if not alike or any(_reach(trace.error_x) for trace in curves if not _lies(trace)):
        rows = []
        for trace in curves:  # each thinned by itself: a curve of few points keeps them
            cells = zip(_cells(trace.x, trace.error_x), _cells(trace.y, trace.error_y), strict=True)
            points = [Row((_name(chart, trace), x, y)) for x, y in cells]
            rows += points[:: _step(len(points), most_rows)]
        told = f"of each curve every n-th point, at most {most_rows}"
        thinned = len(rows) < sum(len(trace.x) for trace in curves)
        caption = "; ".join(part for part in (caption, told if thinned else "") if part)
        return Table(("", chart.x_title, chart.unit or "value"), rows, caption)
    columns = [
        _cells(trace.x, trace.error_x) if _lies(trace) else _cells(trace.y, trace.error_y) for trace in curves
    ]
    first = "" if _lies(curves[0]) else chart.x_title
    rows = [Row(cells) for cells in zip(places[0], *columns, strict=True)]
    return _thinned(Table((first, *(_name(chart, trace) for trace in curves)), rows, caption), most_rows)


def _events(chart: Chart, trace: Any) -> Table:
    rows = [Row((said(x), str(text))) for x, text in zip(trace.x, trace.text, strict=True)]
    return Table((chart.x_title, _name(chart, trace)), rows, str(trace.name or ""))


def _lies(trace: Any) -> bool:
    """Bars that lie: their figures are on the horizontal axis."""
    return bool(trace.type == "bar" and trace.orientation == "h")


def _places(trace: Any) -> list[str]:
    return [said(one) for one in (trace.y if _lies(trace) else trace.x)]


def _name(chart: Chart, trace: Any) -> str:
    return str(trace.name or chart.unit or chart.x_title)


def _cells(values: Iterable[Any], error: Any) -> list[str]:
    """Each value, with its interval where one is drawn."""
    listed = list(values)
    reach = _reach(error)
    if not reach:
        return [said(value) for value in listed]
    return [
        said(value) if not (up or down) else f"{said(value)} [{said(value - down)}, {said(value + up)}]"
        for value, (down, up) in zip(listed, reach, strict=True)
    ]


def _reach(error: Any) -> list[tuple[float, float]]:
    """(below, above) of each value; empty where no interval is drawn."""
    if error is None or error.array is None:
        return []
    above = list(error.array)
    below = above if error.arrayminus is None else list(error.arrayminus)
    return list(zip(below, above, strict=True))


def said(value: object) -> str:
    """Four figures, no exponent above 1; what is missing is a dash."""
    if value is None:
        return UNKNOWN
    if isinstance(value, str):
        return value
    number = float(value)  # type: ignore[arg-type]  # numpy's kinds of numbers, too
    if not math.isfinite(number):
        return UNKNOWN
    return f"{number:,.0f}" if abs(number) >= 1000 else f"{number:.4g}"


def _step(rows: int, most_rows: int) -> int:
    return max(1, -(-rows // most_rows))


def _thinned(table: Table, most_rows: int) -> Table:
    step = _step(len(table.rows), most_rows)
    if step == 1:
        return table
    rows = table.rows[::step]
    told = f"{len(rows)} of {len(table.rows)} rows, evenly spaced"
    caption = f"{table.caption}; {told}" if table.caption else told
    return Table(table.heads, rows, caption, table.colours)
