"""`report.html`: all runs on one page, plots over one another in the same colours.

Owns what the page shows. Pure: reports in, text out. Leaves the page's look to `page`, figures to `summary`
and `series`, their wording to `tables`. Called by `report`.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import plotly.graph_objects as go

from loadtest.page import GREY, SLO_COLOUR, Pieces, colour, dot, section
from loadtest.page import page as page_of
from loadtest.series import Series
from loadtest.summary import RunReport
from loadtest.tables import headline, rows, warnings

_NO_FLEET_LOG = "No run has a fleet log: replicas and watts are not shown."


def page(runs: Sequence[RunReport], made_by: str = "") -> str:
    """The whole page. Runs are compared with the first. `made_by`: as `provenance` tells it."""
    plots = [
        _plot(_load(runs), "Offered load and goodput", "requests/s", _load_note(runs)),
        _latency_plot(runs),
    ]
    if any(len(run.series.fleet_t_s) for run in runs):
        plots.append(_plot(_replicas(runs), "Replicas", "ready", "Diamonds: decisions of the scaler."))
    batches = _lines(runs, lambda series: series.batch_texts)
    plots.append(_plot(batches, "Batch size", "texts", "Mean over replies of the batch each rode in."))
    if any(len(run.series.fleet_t_s) for run in runs):
        plots.append(_plot(_watts(runs), "Power of the fleet", "W", _sources(runs)))
    joules = _lines(runs, lambda series: series.joules_per_request)
    plots.append(_plot(joules, "Energy a request", "J", _sources(runs, with_basis=True)))
    notes = warnings(runs)
    if not any(len(run.series.fleet_t_s) for run in runs):
        notes.append(_NO_FLEET_LOG)
    return page_of(
        Pieces(
            title="Load test: " + " and ".join(run.name for run in runs),
            about=_about(runs),
            warnings=notes,
            headline=headline(runs),
            table=_table(runs),
            plots=plots,
            made_by=made_by,
        )
    )


def _about(runs: Sequence[RunReport]) -> str:
    if not runs:
        return "No runs."
    load = ", ".join(f"{name} {value}" for name, value in runs[0].load.items())
    return (
        f"Open loop: latency counts from the planned send time. Load: {load}."
        f" First run started {runs[0].started_at:%Y-%m-%d %H:%M} UTC."
    )


def _table(runs: Sequence[RunReport]) -> str:
    names = "".join(f"<th>{dot(colour(index))}{html.escape(run.name)}</th>" for index, run in enumerate(runs))
    body = "".join(
        f"<tr><th>{html.escape(title)}</th>"
        + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells)
        + "</tr>"
        for title, cells in rows(runs)
    )
    return f"<table><thead><tr><th></th>{names}</tr></thead><tbody>{body}</tbody></table>"


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


def _latency_plot(runs: Sequence[RunReport]) -> str:
    figure = _figure(
        [
            *_lines(runs, lambda series: series.p99_ms, suffix=" p99"),
            *_lines(runs, lambda series: series.p50_ms, suffix=" p50", dash="dot"),
            *_slo_lines(runs),
        ]
    )
    figure.update_yaxes(type="log", tickvals=[step * 10**power for power in range(6) for step in (1, 2, 5)])
    return section(
        figure, "Latency from the planned send time", "ms", "Solid: p99, dotted: p50, completed requests."
    )


def _slo_lines(runs: Sequence[RunReport]) -> Iterable[go.Scatter]:
    # Curves, not plotly's shapes: a shape's label is misplaced on a logarithmic axis.
    end_s = max((run.duration_s for run in runs), default=0.0)
    for slo_ms in sorted({run.slo_ms for run in runs if run.slo_ms is not None}):
        line = {"color": SLO_COLOUR, "dash": "dash", "width": 1.5}
        yield go.Scatter(x=[0.0, end_s], y=[slo_ms] * 2, name=f"SLO {slo_ms:g} ms", line=line, mode="lines")


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
                mode="markers",
                marker={
                    "symbol": "diamond",
                    "size": 8,
                    "color": own,
                    "line": {"color": "white", "width": 1},
                },
                text=[html.escape(marker.text) for marker in series.markers],
                hovertemplate="%{text}<extra></extra>",
                showlegend=False,
            )


def _watts(runs: Sequence[RunReport]) -> Iterable[go.Scatter]:
    for index, run in enumerate(runs):
        line = {"color": colour(index), "width": 2}
        yield go.Scatter(x=run.series.fleet_t_s, y=run.series.watts, name=run.name, line=line, mode="lines")


def _sources(runs: Sequence[RunReport], with_basis: bool = False) -> str:
    said = [
        f"{run.name}: {run.energy_source}" + (f" ({run.energy_basis})" if with_basis else "") for run in runs
    ]
    return "Source: " + "; ".join(said) + "."


def _lines(
    runs: Sequence[RunReport], curve: Callable[[Series], object], suffix: str = "", dash: str = "solid"
) -> Iterable[go.Scatter]:
    for index, run in enumerate(runs):
        line = {"color": colour(index), "width": 2, "dash": dash}
        yield go.Scatter(
            x=run.series.t_s, y=curve(run.series), name=run.name + suffix, line=line, mode="lines"
        )


def _plot(curves: Iterable[go.Scatter], title: str, unit: str, note: str) -> str:
    return section(_figure(curves), title, unit, note)


def _figure(curves: Iterable[go.Scatter]) -> go.Figure:
    return go.Figure(list(curves))
