"""A backtest as a report: all contenders' curves over one another, their joules, and the table.

Owns what it shows and the contenders' colours. Pure: a finished backtest in, values out. Leaves looks and
forms to `report`, figures and their wording to `backtest_table`. Called by `backtest`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from minwatt.commands.backtest_result import MINWATT, OPTIMUM, Backtest, Row
from minwatt.commands.backtest_run import Finished
from minwatt.commands.backtest_table import cells, columns, energy_unit, headline, sentences
from minwatt.commands.pooled import mean_of_each, most_of_each
from report.document import LIMIT, Chart, Document, Table, data_of
from report.document import Row as TableRow
from report.look import GREY, LOG_TICKS, SLO_COLOUR
from report.provenance import Provenance
from scaler.simulate.outcome import Outcome

# Okabe and Ito's palette (told apart by colour-blind readers too); variants of one law share its colour.
_LOOKS = {
    MINWATT: ("#D55E00", "solid"),
    OPTIMUM: ("#000000", "dot"),
    "static": (GREY, "solid"),
    "static-slack": (GREY, "dash"),
    "hpa": ("#0072B2", "solid"),
    "hpa-tuned": ("#0072B2", "dash"),
    "hpa-slack": ("#0072B2", "dot"),
    "hpa-bounded": ("#0072B2", "dashdot"),
    "kpa": ("#009E73", "solid"),
    "keda-rate": ("#CC79A7", "solid"),
    "keda-rate-slow": ("#CC79A7", "dash"),
    "ray-serve": ("#E69F00", "solid"),
    "latency-ratio": ("#56B4E9", "solid"),
}
# Drawn at once; the others' curves appear with a click on their name: nine at once can't be told apart.
_DRAWN = {MINWATT, OPTIMUM, "static", "hpa", "keda-rate"}
_PARTS = (("busy", "busy_j", "#D55E00"), ("idle", "idle_j", "#9fb3c8"), ("start-up", "startup_j", "#F0C000"))
_TIME_UNITS = (
    (2 * 86_400, 86_400, "days"),
    (2 * 3600, 3600, "hours"),
    (600, 60, "minutes"),
    (0, 1, "seconds"),
)
_POINTS = 500  # of a curve: as many as half a screen can show
_Floats = NDArray[np.float64]


def document(finished: Finished, made_by: Provenance) -> Document:
    """As a report; its JSON is the result's."""
    result = finished.result
    doubts = [line for line in sentences(result) if "no data" in line or "without an intensity" in line]
    return Document(
        title=f"Backtest: {Path(result.trace).name}",
        about=f"Policy {result.policy}, profile {result.profile}. Simulated: no replica ran.",
        warnings=doubts,
        headline=[headline(result)],
        tables=[_table(result)],
        notes=sentences(result),
        charts=[
            _curves(finished, "Replicas", "ready", lambda one: one.series.replicas_ready),
            _joules(result),
            _latency(finished),
            _curves(finished, "Power of the fleet", "W", lambda one: one.series.watts),
            _load(finished),
        ],
        data=data_of(result),
        provenance=made_by,
    )


def _table(result: Backtest) -> Table:
    return Table(columns(result), [_table_row(result, row) for row in result.ranked()])


def _table_row(result: Backtest, row: Row) -> TableRow:
    return TableRow(cells(result, row), colour=look(row.name)[0], quiet=not row.keeps_slo)


def look(name: str) -> tuple[str, str]:
    """(colour, dash) of a contender, in every picture."""
    return _LOOKS.get(name, (GREY, "solid"))


def _time(finished: Finished) -> tuple[float, str]:
    """(seconds in the axis's unit, its name)."""
    length_s = finished.result.seconds + finished.result.no_data_s
    return next((unit_s, name) for least_s, unit_s, name in _TIME_UNITS if length_s >= least_s)


def _load(finished: Finished) -> Chart:
    unit_s, unit = _time(finished)
    series = finished.outcomes[0].series
    width = _width(finished)
    curve = go.Scatter(
        x=_small(series.t_s[::width] / unit_s),
        y=_small(mean_of_each(series.arrivals_rps, width)),
        line={"color": GREY, "width": 1},
        fill="tozeroy",
        mode="lines",
    )
    note = "The same for every contender. Gaps: no data."
    return Chart(go.Figure([curve]), "Offered load", "requests/s", note, f"{unit} from the start")


def _curves(finished: Finished, title: str, unit: str, curve: Callable[[Outcome], _Floats]) -> Chart:
    figure = go.Figure(list(_lines(finished, curve)))
    x_title = f"{_time(finished)[1]} from the start"
    watts = finished.result.assumptions.watts_basis if unit == "W" else ""
    return Chart(figure, title, unit, _note(finished), x_title, watts)


def _lines(
    finished: Finished,
    curve: Callable[[Outcome], _Floats],
    pooled: Callable[[_Floats, int], _Floats] = mean_of_each,
) -> Iterable[go.Scatter]:
    """Minwatt last, so that it lies over the others; first in the legend."""
    (unit_s, _), width = _time(finished), _width(finished)
    for outcome in sorted(finished.outcomes, key=lambda one: one.contender == MINWATT):
        name = outcome.contender
        own, dash = look(name)
        yield go.Scatter(
            x=_small(outcome.series.t_s[::width] / unit_s),
            y=_small(pooled(curve(outcome), width)),
            name=name,
            legendrank=1 if name == MINWATT else 1000,
            line={"color": own, "dash": dash, "width": 2.2 if name == MINWATT else 1.4, "shape": "hv"},
            mode="lines",
            visible=True if name in _DRAWN else "legendonly",
        )


def _width(finished: Finished) -> int:
    """Of the recorded points, so many make one of a plot."""
    return -(-len(finished.outcomes[0].series.t_s) // _POINTS)


def _note(finished: Finished) -> str:
    hidden = any(outcome.contender not in _DRAWN for outcome in finished.outcomes)
    return "Click a name to show or hide its curve." if hidden else ""


def _latency(finished: Finished) -> Chart:
    # A curve, not plotly's shape: a shape's label is misplaced on a logarithmic axis.
    unit_s, unit = _time(finished)
    end = float(finished.outcomes[0].series.t_s[-1]) / unit_s
    slo_ms = finished.result.slo_ms
    slo = go.Scatter(
        x=[0.0, end],
        y=[slo_ms] * 2,
        name=f"SLO {slo_ms:g} ms",
        line={"color": SLO_COLOUR, "dash": "dash", "width": 1.5},
        mode="lines",
        meta=LIMIT,
    )
    figure = go.Figure([*_lines(finished, lambda one: one.series.p99_ms, most_of_each), slo])
    figure.update_yaxes(type="log", tickvals=LOG_TICKS)
    note = f"p99, queue and compute; the highest where a point is of several spans. {_note(finished)}"
    return Chart(figure, "Latency at the server", "ms", note, f"{unit} from the start")


def _joules(result: Backtest) -> Chart:
    unit, unit_j = energy_unit(result)
    ranked = result.ranked()[::-1]  # plotly draws the first at the bottom
    labels = [row.name if row.keeps_slo else f"{row.name} ✗" for row in ranked]
    bars = [
        go.Bar(
            x=[getattr(row, field) / unit_j for row in ranked],
            y=labels,
            name=name,
            orientation="h",
            marker={"color": own, "opacity": [1.0 if row.keeps_slo else 0.45 for row in ranked]},
        )
        for name, field, own in _PARTS
    ]
    figure = go.Figure(bars, layout={"barmode": "stack"})
    note = "✗ misses the SLO: its joules compare with none."
    return Chart(figure, "Energy", "", note, unit, result.assumptions.watts_basis)


def _small(values: _Floats) -> NDArray[np.float32]:
    """Seven figures are more than a plot shows, and half the page."""
    return values.astype(np.float32)
