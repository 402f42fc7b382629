"""`card.html`: a model's energy card as a page.

Pure: a card in, text out. Owns its plots; the page's look is `loadtest.page`'s, wording and figures are
`model_card_rows`'. Called by `model_card`.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence

import plotly.graph_objects as go

from loadtest.page import GREY, Pieces, colour, dot, page, section
from minwatt.commands.model_card_rows import FIGURES, about, cells, doubts, load_name, notes, title
from modelkit.card.measurements import Card, Timing, VariantCard
from modelkit.card.pareto import front
from modelkit.scoring.intervals import Spread

_MS = 1000
_MARGIN = 0.005  # of accuracy, above and below


def card_page(card: Card, made_by: str = "") -> str:
    """The whole page."""
    plots = [_front_plot(card)] if any(one.own.joules_per_1000_texts for one in card.variants) else []
    if card.variants[0].grid:
        plots += [
            _bars(card, "Throughput", "texts/s", lambda timed: timed.texts_per_s),
            _bars(card, "Latency, p50", "ms", lambda timed: _MS * timed.p50_s, logarithmic=True),
            _bars(card, "Latency, p99", "ms", lambda timed: _MS * timed.p99_s, logarithmic=True),
        ]
    if any(timed.joules_per_1000_texts for one in card.variants for timed in one.grid):
        plots.append(_bars(card, "Energy", "J a 1,000 texts", lambda timed: timed.joules_per_1000_texts))
    return page(
        Pieces(
            title=title(card),
            about=about(card),
            table=_table(card),
            plots=plots,
            warnings=doubts(card),
            made_by=made_by,
        )
    )


def _table(card: Card) -> str:
    heads = "".join(
        f"<th>{dot(colour(index))}{html.escape(one.variant)}</th>" for index, one in enumerate(card.variants)
    )
    columns = [cells(variant) for variant in card.variants]
    rows = "".join(
        f"<tr><th>{html.escape(figure)}</th>"
        + "".join(f"<td>{html.escape(cell)}</td>" for cell in row)
        + "</tr>"
        for figure, *row in zip(FIGURES, *columns, strict=True)
    )
    said = "".join(f'<p class="note" style="padding:0">{html.escape(line)}</p>' for line in notes(card))
    return f"<table><thead><tr><th></th>{heads}</tr></thead><tbody>{rows}</tbody></table><br>{said}"


def _front_plot(card: Card) -> str:
    figure = go.Figure()
    by_name = {one.variant: one for one in card.variants}
    best = [by_name[name] for name in front(card.candidates())]
    figure.add_scatter(
        x=[_joules(one.own) for one in best],
        y=[one.accuracy.value for one in best],
        name="front",
        mode="lines",
        line={"color": GREY, "dash": "dot", "shape": "hv"},
    )
    for index, variant in enumerate(card.variants):
        _point(figure, colour(index), variant)
    note = "Upwards and to the left is better. Bars: 95% of the accuracy; lowest and highest round."
    low = min(one.accuracy.low for one in card.variants)
    high = max(one.accuracy.high for one in card.variants)
    figure.update_yaxes(range=[low - _MARGIN, high + _MARGIN])  # from 0 on, all would lie on one line
    return section(figure, "Accuracy × joules", "accuracy", note, "J a 1,000 texts")


def _point(figure: go.Figure, own: str, variant: VariantCard) -> None:
    joules, accuracy = variant.own.joules_per_1000_texts, variant.accuracy
    if joules is None:
        return
    figure.add_scatter(
        x=[joules.median],
        y=[accuracy.value],
        name=variant.variant,
        mode="markers",
        marker={"color": own, "size": 10, "symbol": "circle" if variant.on_front else "circle-open"},
        error_x=_bar(joules.median, joules.low, joules.high),
        error_y=_bar(accuracy.value, accuracy.low, accuracy.high),
    )


def _bar(value: float, low: float, high: float) -> dict[str, object]:
    return {"type": "data", "array": [high - value], "arrayminus": [value - low], "thickness": 1}


def _bars(
    card: Card,
    heading: str,
    unit: str,
    value: Callable[[Timing], float | Spread | None],
    logarithmic: bool = False,
) -> str:
    """Bars of the grid's loads; of a spread its median, with the lowest and highest round."""
    figure = go.Figure(layout={"barmode": "group"})
    for index, variant in enumerate(card.variants):
        values = [value(timed) for timed in variant.grid]
        spreads = [one if isinstance(one, Spread) else None for one in values]
        figure.add_bar(
            x=[load_name(timed) for timed in variant.grid],
            y=[one.median if isinstance(one, Spread) else one for one in values],
            name=variant.variant,
            marker={"color": colour(index)},
            error_y=_bars_of(spreads) if any(spreads) else None,
        )
    if logarithmic:
        ticks = [step * 10**power for power in range(-2, 6) for step in (1, 2, 5)]
        figure.update_yaxes(type="log", tickvals=ticks)
    source = f" Joules: {card.meter.source}." if unit.startswith("J") else ""
    note = f"Texts of equal length, in turn with the other variants.{source}"
    note += " Of all calls." if logarithmic else " Lowest and highest round as lines."
    return section(figure, heading, unit, note, "texts × tokens of a batch")


def _bars_of(spreads: Sequence[Spread | None]) -> dict[str, object]:
    return {
        "type": "data",
        "array": [0 if one is None else one.high - one.median for one in spreads],
        "arrayminus": [0 if one is None else one.median - one.low for one in spreads],
        "thickness": 1,
        "color": GREY,
    }


def _joules(timed: Timing) -> float | None:
    return None if timed.joules_per_1000_texts is None else timed.joules_per_1000_texts.median
