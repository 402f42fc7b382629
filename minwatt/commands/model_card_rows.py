"""A card's figures in words and cells, and its table in the terminal.

Owns their wording, for the table and the report alike. Pure but for the console that is handed in. Called by
`model_card` and `model_card_document`.
"""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from modelkit.card.measurements import Card, Comparison, Timing, VariantCard
from modelkit.scoring.intervals import Interval, Spread

UNKNOWN = "–"
_BUSY_CORES = 0.1  # of others, on average: more is told
FIGURES = (
    "parameters",
    "on disk",
    "resident",
    "accuracy",
    "entity F1",
    "p50",
    "p99",
    "texts/s",
    "watts",
    "J a 1,000 texts",
    "gCO2 a million texts",
    "a battery lasts",
    "on the front",
)


def title(card: Card) -> str:
    return f"{card.model} {card.version}: energy card"


def about(card: Card) -> str:
    """Where, when and with what; one line."""
    machine = card.machine
    versions = ", ".join(f"{name} {number}" for name, number in machine.versions.items())
    return (
        f"Measured {card.measured_at:%Y-%m-%d %H:%M} UTC on {machine.device}, {machine.provider}, "
        f"{machine.threads} thread; {versions}; {' and '.join(card.sets.values())}, {card.split} "
        f"({card.texts} texts, {card.sentences} sentences)."
    )


def doubts(card: Card) -> list[str]:
    """What to hold against the figures."""
    lines = []
    others = card.machine.others_busy_cores
    if others is None:
        lines.append("Whether other programs ran beside the measurement is not known.")
    elif others > _BUSY_CORES:
        lines.append(
            f"The machine was shared: other programs kept {others:.2f} cores busy. Times are longer than "
            "they would be alone; variants were run in turn, so that their ratios hold."
        )
    if card.meter.note:
        lines.append(f"Joules are {card.meter.note}.")
    if card.meter.source == "rapl":
        lines.append("rapl counts the whole machine: its idle watts and other programs are in the joules.")
    if any(one.own.joules_per_1000_texts is None for one in card.variants):
        lines.append(f"Joules are not known: the meter ({card.meter.source}) had none in some round.")
    return lines


def notes(card: Card) -> list[str]:
    """What the figures mean; a line each."""
    lines = [
        f"Latency, watts and joules: batches of {card.variants[0].own.texts} texts of the set, in their own "
        f"lengths, {card.variants[0].own.calls} calls of each variant in {card.rounds} rounds in turn. "
        f"Median, in brackets the lowest and highest round. Watts: {card.meter.source}.",
        "Accuracy: Wilson's interval; F1: bootstrap over sentences; both 95%.",
    ]
    if card.intensity is not None:
        lines.append(f"gCO2: at {card.intensity.gco2_per_kwh:.0f} g a kWh ({card.intensity.source}).")
    if card.battery_wh is not None:
        lines.append(f"Battery: {card.battery_wh:g} Wh, at those watts, running without a pause.")
    if card.training is not None:
        lines.append(f"Training: {card.training.in_words()}.")
    return lines + [_compared(pair) for pair in card.comparisons]


def cells(variant: VariantCard) -> tuple[str, ...]:
    """One a figure, in the order of FIGURES."""
    own = variant.own
    return (
        f"{variant.parameters / 1e6:.2f} M" if variant.parameters >= 1e5 else f"{variant.parameters}",
        f"{variant.disk_bytes / 1e6:.1f} MB",
        f"{variant.resident_bytes / 1e6:.1f} MB",
        interval(variant.accuracy),
        interval(variant.entity_f1),
        milliseconds(own.p50_s),
        milliseconds(own.p99_s),
        spread(own.texts_per_s),
        spread(own.watts),
        spread(own.joules_per_1000_texts),
        number(variant.gco2_per_million_texts),
        _lasts(variant),
        "yes" if variant.on_front else "no",
    )


def interval(score: Interval | None) -> str:
    if score is None:
        return UNKNOWN
    return f"{score.value:.4f} [{score.low:.4f}, {score.high:.4f}]"


def spread(found: Spread | None) -> str:
    if found is None:
        return UNKNOWN
    return f"{number(found.median)} [{number(found.low)}, {number(found.high)}]"


def number(value: float | None) -> str:
    """Three figures, never an exponent."""
    if value is None:
        return UNKNOWN
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def milliseconds(seconds: float) -> str:
    return f"{number(1000 * seconds)} ms"


def load_name(timed: Timing) -> str:
    return f"{timed.texts} × {timed.tokens}"


def print_card(card: Card, console: Console) -> None:
    """Title, doubts, the figures of every variant, the grid, and what they mean."""
    console.print(Text(title(card), style="bold"))
    console.print(about(card), highlight=False, markup=False)
    for line in doubts(card):
        console.print(line, highlight=False, markup=False, style="yellow")
    console.print(_figures(card))
    if card.variants[0].grid:
        console.print(_grid(card))
    for line in notes(card):
        console.print(line, highlight=False, markup=False, style="dim")


def _figures(card: Card) -> Table:
    table = Table()
    table.add_column("")
    for variant in card.variants:
        table.add_column(variant.variant, justify="right")
    columns = [cells(variant) for variant in card.variants]
    for figure, *row in zip(FIGURES, *columns, strict=True):
        table.add_row(figure, *(Text(cell) for cell in row))
    return table


def _grid(card: Card) -> Table:
    table = Table(title="Batches of equal length: texts × tokens", title_justify="left")
    for name in ("variant", "batch", "p50", "p99", "texts/s", "J a 1,000 texts"):
        table.add_column(name, justify="left" if name == "variant" else "right", no_wrap=True)
    for variant in card.variants:
        for timed in variant.grid:
            joules = timed.joules_per_1000_texts
            table.add_row(
                variant.variant,
                load_name(timed),
                milliseconds(timed.p50_s),
                milliseconds(timed.p99_s),
                number(timed.texts_per_s.median),
                UNKNOWN if joules is None else number(joules.median),
            )
    return table


def _lasts(variant: VariantCard) -> str:
    if variant.battery_hours is None or variant.battery_texts is None:
        return UNKNOWN
    return f"{number(variant.battery_hours)} h, {variant.battery_texts / 1e6:.3g} M texts"


def _compared(pair: Comparison) -> str:
    joules = "" if pair.joules is None else f", {spread(pair.joules)} times its joules a text"
    off = pair.accuracy
    return (
        f"{pair.one} against {pair.other}, by round: {spread(pair.texts_per_s)} times its texts/s{joules}; "
        f"accuracy on the same texts {off.value:+.4f} [{off.low:+.4f}, {off.high:+.4f}]."
    )
