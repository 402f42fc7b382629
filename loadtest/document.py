"""Runs of a load test as a report: their figures, and their curves over one another in the same colours.

Owns what it shows. Pure: reports in, values out. Leaves looks and forms to `report`, figures to `summary`
and `series`, their wording to `tables`. Called by `loadtest.report`.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import plotly.graph_objects as go

from loadtest.series import Series
from loadtest.summary import RunReport
from loadtest.tables import headline, rows, warnings
from report.document import LIMIT, Chart, Document, Row, Table
from report.look import GREY, LOG_TICKS, SLO_COLOUR, colour
from report.provenance import Provenance

_NO_FLEET_LOG = "No run has a fleet log: replicas and watts are not shown."


def document(runs: Sequence[RunReport], data: Mapping[str, object], made_by: Provenance) -> Document:
    """Runs are compared with the first. `data`: what report.json says of them."""
    logged = any(len(run.series.fleet_t_s) for run in runs)
    charts = [
        Chart(_figure(_load(runs)), "Offered load and goodput", "requests/s", _load_note(runs)),
        _latency_chart(runs),
    ]
    if logged:
        charts.append(
            Chart(_figure(_replicas(runs)), "Replicas", "ready", "Diamonds: decisions of the scaler.")
        )
    batches = _figure(_lines(runs, lambda series: series.batch_texts))
    charts.append(Chart(batches, "Batch size", "texts", "Mean over replies of the batch each rode in."))
    if logged:
        charts.append(Chart(_figure(_watts(runs)), "Power of the fleet", "W", watts=sources(runs)))
    joules = _figure(_lines(runs, lambda series: series.joules_per_request))
    charts.append(Chart(joules, "Energy a request", "J", watts=sources(runs, with_basis=True)))
    return Document(
        title="Load test: " + " and ".join(run.name for run in runs),
        about=_about(runs),
        warnings=warnings(runs) if logged else [*warnings(runs), _NO_FLEET_LOG],
        headline=headline(runs),
        tables=[_table(runs)],
        charts=charts,
        data=data,
        provenance=made_by,
    )


def _about(runs: Sequence[RunReport]) -> str:
    if not runs:
        return "No runs."
    load = ", ".join(f"{name} {value}" for name, value in runs[0].load.items())
    return (
        f"Open loop: latency counts from the planned send time. Load: {load}."
        f" First run started {runs[0].started_at:%Y-%m-%d %H:%M} UTC."
    )


def _table(runs: Sequence[RunReport]) -> Table:
    return Table(
        heads=("", *(run.name for run in runs)),
        rows=[Row((title, *cells)) for title, cells in rows(runs)],
        colours=[colour(index) for index in range(len(runs))],
    )


def _load(runs: Sequence[RunReport]) -> Iterable[go.Scatter]:
    offered = [runs[0].series] if _same_load(runs) else [run.series for run in runs]
    for index, series in enumerate(offered):
        name = "offered" if len(offered) == 1 else f"offered to {runs[index].name}"
        line = {"color": GREY, "width": 1, "dash": "solid" if index == 0 else "dot"}
        fill = "tozeroy" if index == 0 else "none"
        yield go.Scatter(x=series.t_s, y=series.offered_rps, name=name, line=line, fill=fill, mode="lines")
    yield from _lines(runs, lambda series: series.goodput_rps)


def _same_load(runs: Sequence[RunReport]) -> bool:
    return all(np.array_equal(run.series.offered_rps, runs[0].series.offered_rps) for run in runs[1:])


def _load_note(runs: Sequence[RunReport]) -> str:
    with_slo = any(run.slo_ms is not None for run in runs)
    return "Goodput: requests completed " + ("within the SLO." if with_slo else "(no SLO was given).")


def _latency_chart(runs: Sequence[RunReport]) -> Chart:
    figure = _figure(
        [
            *_lines(runs, lambda series: series.p99_ms, suffix=" p99"),
            *_lines(runs, lambda series: series.p50_ms, suffix=" p50", dash="dot"),
            *_slo_lines(runs),
        ]
    )
    figure.update_yaxes(type="log", tickvals=LOG_TICKS)
    note = "Solid: p99, dotted: p50, completed requests."
    return Chart(figure, "Latency from the planned send time", "ms", note)


def _slo_lines(runs: Sequence[RunReport]) -> Iterable[go.Scatter]:
    # Curves, not plotly's shapes: a shape's label is misplaced on a logarithmic axis.
    end_s = max((run.duration_s for run in runs), default=0.0)
    for slo_ms in sorted({run.slo_ms for run in runs if run.slo_ms is not None}):
        line = {"color": SLO_COLOUR, "dash": "dash", "width": 1.5}
        name = f"SLO {slo_ms:g} ms"
        yield go.Scatter(x=[0.0, end_s], y=[slo_ms] * 2, name=name, line=line, mode="lines", meta=LIMIT)


def _replicas(runs: Sequence[RunReport]) -> Iterable[go.Scatter]:
    for index, run in enumerate(runs):
        series, own = run.series, colour(index)
        line = {"color": own, "width": 2, "shape": "hv"}
        yield go.Scatter(x=series.fleet_t_s, y=series.replicas_ready, name=run.name, line=line, mode="lines")
        if series.markers and len(series.fleet_t_s):
            at_s = np.array([marker.t_s for marker in series.markers])
            rows_before = np.maximum(0, np.searchsorted(series.fleet_t_s, at_s, side="right") - 1)
            yield go.Scatter(
                x=at_s,
                y=series.replicas_ready[rows_before],
                name=f"decisions, {run.name}",
                mode="markers",
                marker={
                    "symbol": "diamond",
                    "size": 8,
                    "color": own,
                    "line": {"color": "white", "width": 1},
                },
                text=[marker.text for marker in series.markers],
                customdata=[html.escape(marker.text) for marker in series.markers],
                hovertemplate="%{customdata}<extra></extra>",
                showlegend=False,
            )


def _watts(runs: Sequence[RunReport]) -> Iterable[go.Scatter]:
    for index, run in enumerate(runs):
        line = {"color": colour(index), "width": 2}
        yield go.Scatter(x=run.series.fleet_t_s, y=run.series.watts, name=run.name, line=line, mode="lines")


def sources(runs: Sequence[RunReport], with_basis: bool = False) -> str:
    """Of each run's watts and joules."""
    return "; ".join(
        f"{run.name}: {run.energy_source}" + (f" ({run.energy_basis})" if with_basis else "") for run in runs
    )


def _lines(
    runs: Sequence[RunReport], curve: Callable[[Series], object], suffix: str = "", dash: str = "solid"
) -> Iterable[go.Scatter]:
    for index, run in enumerate(runs):
        line = {"color": colour(index), "width": 2, "dash": dash}
        yield go.Scatter(
            x=run.series.t_s, y=curve(run.series), name=run.name + suffix, line=line, mode="lines"
        )


def _figure(curves: Iterable[go.Scatter]) -> go.Figure:
    return go.Figure(list(curves))
