"""The page of `minwatt profile show --html`: a profile's figures and what it measured beside what it fitted.

Pure: a profile in, text out. Owns its plots; the page's look is `loadtest.page`'s, the figures are
`profile_rows`'. Called by `profile_show`.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

from loadtest.page import SLO_COLOUR, Pieces, colour, page, section
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
from scaler.fit import fitted
from scaler.profile import Point, Profile, Variant

_MS = 1000


def profile_page(profile: Profile, made_by: str = "") -> str:
    """The whole page. A reference profile has no points to plot: only what its figures say."""
    if profile.is_reference:
        plots = [_batch_time_plot(profile)]
    else:
        plots = [_compute_plot(profile, variant) for variant in profile.variants]
    plots.append(_batch_joules_plot(profile))
    for sweep, settings in sweeps(profile).items():
        plots.append(_watts_plot(profile, sweep, settings))
        plots.append(_p99_plot(profile, sweep, settings))
    return page(
        Pieces(
            made_by=made_by,
            title=f"Profile: {title(profile)}",
            about=about(profile),
            table=_table(profile),
            plots=plots,
            warnings=profile.doubts(),
        )
    )


def _table(profile: Profile) -> str:
    rows = "".join(
        f"<tr><th>{html.escape(figure.title)}</th>"
        + "".join(f"<td>{html.escape(cell)}</td>" for cell in (figure.value, figure.basis, figure.residual))
        + "</tr>"
        for figure in figures(profile) + clock_figures(profile)
    )
    head = "".join(f"<th>{name}</th>" for name in ("", "value", "from", "fit off by"))
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _batch_time_plot(profile: Profile) -> str:
    figure = go.Figure()
    for index, variant in enumerate(profile.variants):
        rows = batch_rows(profile, variant.name)
        x, y = [row.texts for row in rows], [_MS * row.service_s for row in rows]
        figure.add_scatter(x=x, y=y, name=variant.name, mode="lines+markers", line={"color": colour(index)})
    return section(figure, "Time of a batch", "ms", batch_note(profile), "texts a batch")


def _batch_joules_plot(profile: Profile) -> str:
    figure = go.Figure()
    for index, variant in enumerate(profile.variants):
        rows = batch_rows(profile, variant.name)
        x, y = [row.texts for row in rows], [row.joules_per_text for row in rows]
        figure.add_scatter(x=x, y=y, name=variant.name, mode="lines+markers", line={"color": colour(index)})
    figure.update_xaxes(type="log", tickvals=[row.texts for row in batch_rows(profile)])
    return section(figure, "Energy a text", "J", batch_note(profile), "texts a batch")


def _compute_plot(profile: Profile, variant: Variant) -> str:
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
    return section(figure, where, "ms", note, "padded tokens a batch")


_Settings = Mapping[tuple[int, float], Sequence[Point]]


def _watts_plot(profile: Profile, sweep: str, settings: _Settings) -> str:
    figure = go.Figure()
    for index, (setting, points) in enumerate(settings.items()):
        x = [point.completed_rps for point in points]
        _curve(figure, index, setting, x, [point.watts for point in points])
        said = [fitted(profile, point).watts for point in points]
        dotted = {"color": colour(index), "dash": "dot", "width": 1}
        figure.add_scatter(x=x, y=said, mode="lines", line=dotted, showlegend=False, hoverinfo="skip")
    basis = watts_basis(profile, profile.variants[0].power.basis)
    return section(figure, f"Watts, {sweep}", "W", f"Solid: {basis}, dotted: fitted.", "requests/s completed")


def _p99_plot(profile: Profile, sweep: str, settings: _Settings) -> str:
    figure = go.Figure()
    for index, (setting, points) in enumerate(settings.items()):
        offered = [point.offered_rps for point in points]
        _curve(figure, index, setting, offered, [_ms(point.p99_s) for point in points])
    best = profile.variants[0].max_rps_at_slo
    if best is not None:
        most_rps = max(point.offered_rps for points in settings.values() for point in points)
        name, line = f"{_MS * best.latency_s:g} ms", {"color": SLO_COLOUR, "dash": "dash", "width": 1.5}
        figure.add_scatter(x=[0, most_rps], y=[_MS * best.latency_s] * 2, name=name, mode="lines", line=line)
    figure.update_yaxes(type="log", tickvals=[step * 10**power for power in range(6) for step in (1, 2, 5)])
    return section(
        figure, f"p99 at the server, {sweep}", "ms", "Queue and compute, open loop.", "requests/s offered"
    )


def _curve(
    figure: go.Figure, index: int, setting: tuple[int, float], x: Sequence[float], y: Sequence[float | None]
) -> None:
    texts, delay_s = setting
    figure.add_scatter(
        x=x,
        y=y,
        name=f"batch ≤ {texts}, {_MS * delay_s:g} ms",
        mode="lines+markers",
        line={"color": colour(index), "width": 2},
    )


def _tokens(point: Point) -> float:
    return (point.batch_mean_texts or 0.0) * point.text_tokens


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else _MS * seconds
