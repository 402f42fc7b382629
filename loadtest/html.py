"""`report.html`: one self-contained page of all runs, plots over one another in the same colours.

Owns the page and its plots; the only import of plotly, whose JavaScript the page carries, so that it
opens without a network. Pure: reports in, text out. Leaves figures to `summary` and `series`, their
wording to `tables`. Called by `report`.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable, Sequence
from string import Template

import numpy as np
import plotly.graph_objects as go
import plotly.io
from plotly.offline import get_plotlyjs

from loadtest.series import Series
from loadtest.summary import RunReport
from loadtest.tables import headline, rows, warnings

# Okabe and Ito's palette: told apart by colour-blind readers too.
_COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_GREY = "#8a8f98"
_SLO_COLOUR = "#b00020"
_PLOT_HEIGHT_PX = 290
_NO_FLEET_LOG = "No run has a fleet log: replicas and watts are not shown."

_PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
  body { font: 15px/1.5 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; color: #1c2128; background: #f4f5f7;
         margin: 0 auto; max-width: 1280px; padding: 24px; }
  h1 { font-size: 24px; margin: 0 0 4px; }
  h2 { font-size: 15px; margin: 0; padding: 14px 18px 0; }
  .about { color: #5b6470; margin: 0 0 18px; }
  .headline { font-size: 17px; font-weight: 600; margin: 0 0 14px; }
  .card { min-width: 0; background: #fff; border: 1px solid #e1e4e8; border-radius: 8px; }
  .summary { padding: 8px 18px 14px; margin-bottom: 18px; overflow-x: auto; }
  .plots { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(480px, 100%), 1fr));
           gap: 18px; }
  .note { color: #5b6470; font-size: 13px; margin: 0; padding: 0 18px; }
  .warning { background: #fff4e5; border: 1px solid #f0c987; border-radius: 8px; padding: 8px 14px;
             margin: 0 0 14px; }
  table { border-collapse: collapse; }
  th, td { padding: 3px 28px 3px 0; text-align: right; font-variant-numeric: tabular-nums; }
  th:first-child { text-align: left; font-weight: normal; color: #5b6470; }
  thead th { font-weight: 600; border-bottom: 2px solid #e1e4e8; }
  .dot { display: inline-block; width: 10px; height: 10px; border-radius: 50%; margin-right: 7px; }
</style>
<script>$plotlyjs</script>
</head>
<body>
<h1>$title</h1>
<p class="about">$about</p>
$warnings
$headline
<div class="card summary">$table</div>
<div class="plots">$plots</div>
</body>
</html>
""")


def page(runs: Sequence[RunReport]) -> str:
    """The whole page. Runs are compared with the first."""
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
    return _PAGE.substitute(
        title=html.escape("Load test: " + " and ".join(run.name for run in runs)),
        about=html.escape(_about(runs)),
        warnings="".join(f'<p class="warning">{html.escape(note)}</p>' for note in notes),
        headline="".join(f'<p class="headline">{html.escape(line)}</p>' for line in headline(runs)),
        table=_table(runs),
        plots="".join(plots),
        plotlyjs=get_plotlyjs(),
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
    names = "".join(
        f'<th><span class="dot" style="background:{_colour(index)}"></span>{html.escape(run.name)}</th>'
        for index, run in enumerate(runs)
    )
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
        line = {"color": _GREY, "width": 1, "dash": "solid" if index == 0 else "dot"}
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
    return _section(
        figure, "Latency from the planned send time", "ms", "Solid: p99, dotted: p50, completed requests."
    )


def _slo_lines(runs: Sequence[RunReport]) -> Iterable[go.Scatter]:
    # Curves, not plotly's shapes: a shape's label is misplaced on a logarithmic axis.
    end_s = max((run.duration_s for run in runs), default=0.0)
    for slo_ms in sorted({run.slo_ms for run in runs if run.slo_ms is not None}):
        line = {"color": _SLO_COLOUR, "dash": "dash", "width": 1.5}
        yield go.Scatter(x=[0.0, end_s], y=[slo_ms] * 2, name=f"SLO {slo_ms:g} ms", line=line, mode="lines")


def _replicas(runs: Sequence[RunReport]) -> Iterable[go.Scatter]:
    for index, run in enumerate(runs):
        series, colour = run.series, _colour(index)
        line = {"color": colour, "width": 2, "shape": "hv"}
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
                    "color": colour,
                    "line": {"color": "white", "width": 1},
                },
                text=[html.escape(marker.text) for marker in series.markers],
                hovertemplate="%{text}<extra></extra>",
                showlegend=False,
            )


def _watts(runs: Sequence[RunReport]) -> Iterable[go.Scatter]:
    for index, run in enumerate(runs):
        line = {"color": _colour(index), "width": 2}
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
        line = {"color": _colour(index), "width": 2, "dash": dash}
        yield go.Scatter(
            x=run.series.t_s, y=curve(run.series), name=run.name + suffix, line=line, mode="lines"
        )


def _plot(curves: Iterable[go.Scatter], title: str, unit: str, note: str) -> str:
    return _section(_figure(curves), title, unit, note)


def _figure(curves: Iterable[go.Scatter]) -> go.Figure:
    return go.Figure(list(curves))


def _section(figure: go.Figure, title: str, unit: str, note: str) -> str:
    figure.update_layout(
        template="plotly_white",
        height=_PLOT_HEIGHT_PX,
        margin={"l": 62, "r": 18, "t": 34, "b": 44},
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        hovermode="x unified",
        font={"family": "system-ui, 'DejaVu Sans', sans-serif", "size": 12},
    )
    figure.update_xaxes(title="seconds from the start", rangemode="tozero")
    figure.update_yaxes(title=unit, rangemode="tozero")
    config = {"displayModeBar": False, "responsive": True}
    body = plotly.io.to_html(figure, config=config, include_plotlyjs=False, full_html=False)
    heading = f'<h2>{html.escape(title)}</h2><p class="note">{html.escape(note)}</p>'
    return f'<section class="card">{heading}{body}</section>'


def _colour(index: int) -> str:
    return _COLOURS[index % len(_COLOURS)]
