"""A profile as a report: its figures, and what was measured beside what was fitted.

Pure: a profile in, values out. Owns its charts; looks and forms are `report`'s, the figures are
`profile_rows`'. Called by `profile_show`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

from minwatt.commands.profile_rows import (
    about,
    batch_note,
    batch_rows,
    clock_figures,
    figures,
    sweeps,
    title,
    watts_basis,
)
from report.document import LIMIT, Chart, Document, Row, Table, data_of
from report.look import LOG_TICKS, SLO_COLOUR, colour
from report.provenance import Provenance
from scaler.fit import fitted
from scaler.profile import Point, Profile, Variant

_MS = 1000


def document(profile: Profile, made_by: Provenance) -> Document:
    """A reference profile has no points to draw: only what its figures say. JSON: the profile, its doubts."""
    if profile.is_reference:
        charts = [_batch_time_chart(profile)]
    else:
        charts = [_compute_chart(profile, variant) for variant in profile.variants]
    charts.append(_batch_joules_chart(profile))
    for sweep, settings in sweeps(profile).items():
        charts.append(_watts_chart(profile, sweep, settings))
        charts.append(_p99_chart(profile, sweep, settings))
    return Document(
        title=f"Profile: {title(profile)}",
        about=about(profile),
        tables=[_table(profile)],
        charts=charts,
        warnings=profile.doubts(),
        data=data_of(profile) | {"doubts": profile.doubts()},
        provenance=made_by,
    )


def _table(profile: Profile) -> Table:
    rows = [
        Row((figure.title, figure.value, figure.basis, figure.residual))
        for figure in figures(profile) + clock_figures(profile)
    ]
    return Table(("", "value", "from", "fit off by"), rows)


def _batch_time_chart(profile: Profile) -> Chart:
    figure = go.Figure()
    for index, variant in enumerate(profile.variants):
        rows = batch_rows(profile, variant.name)
        x, y = [row.texts for row in rows], [_MS * row.service_s for row in rows]
        figure.add_scatter(x=x, y=y, name=variant.name, mode="lines+markers", line={"color": colour(index)})
    return Chart(figure, "Time of a batch", "ms", batch_note(profile), "texts a batch")


def _batch_joules_chart(profile: Profile) -> Chart:
    figure = go.Figure()
    for index, variant in enumerate(profile.variants):
        rows = batch_rows(profile, variant.name)
        x, y = [row.texts for row in rows], [row.joules_per_text for row in rows]
        figure.add_scatter(x=x, y=y, name=variant.name, mode="lines+markers", line={"color": colour(index)})
    figure.update_xaxes(type="log", tickvals=[row.texts for row in batch_rows(profile)])
    watts = watts_basis(profile, profile.variants[0].power.basis)
    return Chart(figure, "Energy a text", "J", batch_note(profile), "texts a batch", watts)


def _compute_chart(profile: Profile, variant: Variant) -> Chart:
    """Every point's mean batch against the line, at each clock."""
    figure = go.Figure()
    points = [point for point in profile.points if point.variant == variant.name and point.offered_rps > 0]
    for index, mhz in enumerate(sorted({point.sm_clock_mhz for point in points}, reverse=True)):
        at_clock = sorted((point for point in points if point.sm_clock_mhz == mhz), key=_tokens)
        x = [_tokens(point) for point in at_clock]
        clock = f" at {mhz} MHz" if mhz else ""
        figure.add_scatter(
            x=x,
            y=[_ms(point.compute_s_per_batch) for point in at_clock],
            name=f"measured{clock}",
            mode="markers",
            marker={"color": colour(index), "size": 6},
        )
        said = [_ms(fitted(profile, point).compute_s_per_batch) for point in at_clock]
        figure.add_scatter(
            x=x, y=said, name=f"fitted{clock}", mode="lines", line={"color": colour(index), "width": 1}
        )
    off = variant.service_time.residual_fraction
    note = "Compute alone, mean over each point." + ("" if off is None else f" Residual {off:.1%}.")
    where = f"Measured and fitted compute, {variant.name}"
    return Chart(figure, where, "ms", note, "padded tokens a batch")


_Settings = Mapping[tuple[int, float], Sequence[Point]]


def _watts_chart(profile: Profile, sweep: str, settings: _Settings) -> Chart:
    figure = go.Figure()
    for index, (setting, points) in enumerate(settings.items()):
        x = [point.completed_rps for point in points]
        _curve(figure, index, setting, x, [point.watts for point in points])
        said = [fitted(profile, point).watts for point in points]
        dotted = {"color": colour(index), "dash": "dot", "width": 1}
        name = f"fitted, {_setting(setting)}"
        figure.add_scatter(
            x=x, y=said, name=name, mode="lines", line=dotted, showlegend=False, hoverinfo="skip"
        )
    note, basis = (
        "Solid: of the meter, dotted: fitted.",
        watts_basis(profile, profile.variants[0].power.basis),
    )
    return Chart(figure, f"Watts, {sweep}", "W", note, "requests/s completed", basis)


def _p99_chart(profile: Profile, sweep: str, settings: _Settings) -> Chart:
    figure = go.Figure()
    for index, (setting, points) in enumerate(settings.items()):
        offered = [point.offered_rps for point in points]
        _curve(figure, index, setting, offered, [_ms(point.p99_s) for point in points])
    best = profile.variants[0].max_rps_at_slo
    if best is not None:
        most_rps = max(point.offered_rps for points in settings.values() for point in points)
        name, line = f"{_MS * best.latency_s:g} ms", {"color": SLO_COLOUR, "dash": "dash", "width": 1.5}
        figure.add_scatter(
            x=[0, most_rps], y=[_MS * best.latency_s] * 2, name=name, mode="lines", line=line, meta=LIMIT
        )
    figure.update_yaxes(type="log", tickvals=LOG_TICKS)
    return Chart(
        figure, f"p99 at the server, {sweep}", "ms", "Queue and compute, open loop.", "requests/s offered"
    )


def _curve(
    figure: go.Figure, index: int, setting: tuple[int, float], x: Sequence[float], y: Sequence[float | None]
) -> None:
    figure.add_scatter(
        x=x,
        y=y,
        name=_setting(setting),
        mode="lines+markers",
        line={"color": colour(index), "width": 2},
    )


def _setting(setting: tuple[int, float]) -> str:
    texts, delay_s = setting
    return f"batch ≤ {texts}, {_MS * delay_s:g} ms"


def _tokens(point: Point) -> float:
    return (point.batch_mean_texts or 0.0) * point.text_tokens


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else _MS * seconds
