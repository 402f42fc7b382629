"""A model's energy card as a report.

Pure: a card in, values out. Owns its charts; looks and forms are `report`'s, wording and figures are
`model_card_rows`'. Called by `model_card`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import plotly.graph_objects as go

from minwatt.commands.model_card_rows import FIGURES, about, cells, doubts, load_name, notes, title
from modelkit.card.measurements import Card, Timing, VariantCard
from modelkit.card.pareto import front
from modelkit.scoring.intervals import Spread
from report.document import Chart, Document, Row, Table, data_of
from report.look import GREY, LOG_TICKS, colour
from report.provenance import Provenance

_MS = 1000
_MARGIN = 0.005  # of accuracy, above and below


def document(card: Card, made_by: Provenance) -> Document:
    """JSON: card.json."""
    charts = [_front_chart(card)] if any(one.own.joules_per_1000_texts for one in card.variants) else []
    if card.variants[0].grid:
        charts += [
            _bars(card, "Throughput", "texts/s", lambda timed: timed.texts_per_s),
            _bars(card, "Latency, p50", "ms", lambda timed: _MS * timed.p50_s, logarithmic=True),
            _bars(card, "Latency, p99", "ms", lambda timed: _MS * timed.p99_s, logarithmic=True),
        ]
    if any(timed.joules_per_1000_texts for one in card.variants for timed in one.grid):
        charts.append(_bars(card, "Energy", "J a 1,000 texts", lambda timed: timed.joules_per_1000_texts))
    return Document(
        title=title(card),
        about=about(card),
        tables=[_table(card)],
        charts=charts,
        notes=notes(card),
        warnings=doubts(card),
        data=data_of(card),
        provenance=made_by,
    )


def _table(card: Card) -> Table:
    columns = [cells(variant) for variant in card.variants]
    return Table(
        heads=("", *(one.variant for one in card.variants)),
        rows=[Row(row) for row in zip(FIGURES, *columns, strict=True)],
        colours=[colour(index) for index in range(len(card.variants))],
    )


def _front_chart(card: Card) -> Chart:
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
    x_title = "J a 1,000 texts"
    return Chart(figure, "Accuracy × joules", "accuracy", note, x_title, card.meter.source)


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
) -> Chart:
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
        figure.update_yaxes(type="log", tickvals=LOG_TICKS)
    watts = card.meter.source if unit.startswith("J") else ""
    note = "Texts of equal length, in turn with the other variants."
    note += " Of all calls." if logarithmic else " Lowest and highest round as lines."
    return Chart(figure, heading, unit, note, "texts × tokens of a batch", watts)


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
