"""`minwatt profile show`: a profile in the terminal, as a page, as Markdown, or as JSON.

Owns the tables and their bars. Leaves the figures to `profile_rows`, the report to `profile_document`.
`print_profile` is called by `minwatt profile` too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from minwatt.commands.output import print_whole
from minwatt.commands.profile_document import document
from minwatt.commands.profile_rows import (
    UNKNOWN,
    about,
    batch_note,
    batch_rows,
    clock_figures,
    figures,
    milliseconds,
    sweeps,
    title,
)
from report.document import as_json
from report.files import HTML_HELP, MARKDOWN_HELP, Destinations
from report.provenance import provenance
from scaler.fit import fitted
from scaler.profile import Point, Profile, load_profile

_BAR_CELLS = 10
_EIGHTHS = " ▏▎▍▌▋▊▉"
_FAR_OFF = 0.25  # of a point from its line: coloured
_POINTS_NOTE = (
    "fit: what the lines say; ↑: the queue grew, more was offered than a replica can do; watts: {source}"
)


def show(
    file: Annotated[Path, typer.Argument(help="Profile file.")],
    html: Annotated[Path | None, typer.Option(metavar="FILE", help=HTML_HELP)] = None,
    markdown: Annotated[Path | None, typer.Option(metavar="FILE", help=MARKDOWN_HELP)] = None,
    json: Annotated[bool, typer.Option("--json", help="Print it as JSON, in SI units.")] = False,
) -> None:
    """What a profile says, and of each figure whether it was measured, published or assumed.

    Example: minwatt profile show profiles/support-text-cpu.yaml --html out/profile.html
    """
    profile = load_profile(file)
    found = document(profile, provenance(profile.meter.source))
    Destinations(html, markdown).write(found)
    if json:
        print(as_json(found))  # noqa: T201 - the command's own output
        return
    print_profile(profile, Console())


def print_profile(profile: Profile, console: Console) -> None:
    """Figures, batches, points; and what to doubt of them."""
    console.print(Text(title(profile), style="bold"))
    console.print(about(profile), highlight=False)
    print_whole(_figures_table(profile), console)
    for variant in profile.variants:
        print_whole(_batches_table(profile, variant.name), console)
    console.print(batch_note(profile), highlight=False, style="dim")
    for sweep, settings in sweeps(profile).items():
        print_whole(_points_table(profile, sweep, settings), console)
    if profile.points:
        console.print(_points_note(profile), highlight=False, style="dim")
    for doubt in profile.doubts():
        console.print(f"[yellow]{doubt}", highlight=False)


def _figures_table(profile: Profile) -> Table:
    table = _table("", "value", "from", "fit off by")
    for figure in figures(profile) + clock_figures(profile):
        style = "" if figure.basis.startswith("measured") else "dim"
        table.add_row(figure.title, figure.value, Text(figure.basis, style=style), figure.residual)
    return table


def _batches_table(profile: Profile, variant: str) -> Table:
    name = variant if len(profile.variants) > 1 else None
    table = _table("texts", "ms", "texts/s", "W", "J/text", "", title=name)
    rows = batch_rows(profile, variant)
    most_j = max(row.joules_per_text for row in rows)
    for row in rows:
        table.add_row(
            str(row.texts),
            milliseconds(row.service_s),
            f"{row.texts_per_s:.0f}",
            f"{row.watts:.3g}",
            f"{row.joules_per_text:.3g}",
            bar(row.joules_per_text / most_j),
        )
    return table


def _points_table(
    profile: Profile, sweep: str, settings: Mapping[tuple[int, float], Sequence[Point]]
) -> Table:
    """One line a point. The bar is p99, full at the SLO that the profile states its throughput for."""
    best = profile.variants[0].max_rps_at_slo
    slo_s = math.inf if best is None else best.latency_s
    names = ("≤", "delay", "asked/s", "done/s", "batch", "ms (fit)", "W (fit)", "p99 ms", "")
    table = _table(*names, title=sweep)
    for (texts, delay_s), points in settings.items():
        for index, point in enumerate(points):
            setting = (str(texts), f"{1000 * delay_s:g} ms") if index == 0 else ("", "")
            p99_s = point.p99_s or 0.0
            shown = Text(bar(p99_s / slo_s), style="yellow" if p99_s > slo_s else "green")
            table.add_row(*setting, *_point_cells(profile, point), shown)
    return table


def _point_cells(profile: Profile, point: Point) -> list[str | Text]:
    said = fitted(profile, point)
    compute, fit_s = point.compute_s_per_batch, said.compute_s_per_batch
    watts = UNKNOWN if point.watts is None else f"{point.watts:.3g}"
    return [
        f"{point.offered_rps:.0f}",
        f"{point.completed_rps:.0f}" + ("" if point.sustained else "↑"),
        UNKNOWN if point.batch_mean_texts is None else f"{point.batch_mean_texts:.1f}",
        _beside(milliseconds(compute), milliseconds(fit_s), compute, fit_s),
        _beside(watts, f"{said.watts:.3g}", point.watts, said.watts),
        milliseconds(point.p99_s),
    ]


def _points_note(profile: Profile) -> str:
    best = profile.variants[0].max_rps_at_slo
    full = "" if best is None else f" Bar: p99, full at {1000 * best.latency_s:g} ms."
    return f"≤: max batch. (fit): what the lines say. ↑: the queue grew.{full} Watts: {profile.meter.source}."


def _beside(shown: str, fit_shown: str, measured: float | None, said: float | None) -> Text:
    """A measured value with what the fit says of it, coloured where they are far from one another."""
    far = said is not None and measured is not None and abs(said - measured) > _FAR_OFF * measured
    return Text(shown).append(f" ({fit_shown})", style="yellow" if far else "dim")


def bar(fraction: float) -> str:
    """A bar of that part of its full length, in eighths of a cell."""
    eighths = round(8 * _BAR_CELLS * min(1.0, max(0.0, fraction)))
    whole, rest = divmod(eighths, 8)
    return "█" * whole + (_EIGHTHS[rest] if rest else "")


def _table(*columns: str, title: str | None = None) -> Table:
    table = Table(title=title, title_justify="left", box=None, header_style="bold", pad_edge=False)
    for name in columns:
        # What has no name stands at an edge: what the row is about, or a bar.
        table.add_column(name, justify="right" if name else "left", no_wrap=True)
    return table
