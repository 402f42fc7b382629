"""Two energy cards compared, variant by variant: a new graph beside the old one, or two machines.

Owns what of two cards can be compared and by which spread. Pure. Called by `report`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from minwatt.v1.errors import UsageError
from modelkit.card.measurements import Card, Timing, VariantCard
from modelkit.scoring.intervals import Interval, Spread
from report.comparison import Bounds, Change, Comparison, Part, change

_LEAST_ROUNDS = 6  # whose lowest and highest hold the median with 95%: 1 - 2 / 2^6 is 97%
_MS, _MB = 1e3, 1e6
_NOT_COMPARED = "not compared: "


def comparison(names: tuple[str, str], a: Card, b: Card) -> Comparison:
    """Raises UsageError where they have no variant in common."""
    ours = [one.variant for one in a.variants]
    shared = [name for name in ours if name in {one.variant for one in b.variants}]
    if not shared:
        raise UsageError(f"{names[1]}: has no variant of {names[0]}; allowed: one of {', '.join(ours)}")
    changes = _Changes(a, b)
    parts = [
        part
        for name in shared
        for part in (
            Part(name, changes.of_variant(_variant(a, name), _variant(b, name))),
            Part(f"{name}, batches of texts × tokens", changes.of_grid(_variant(a, name), _variant(b, name))),
        )
        if part.changes
    ]
    title = f"Energy cards: {names[0]} (A) and {names[1]} (B)"
    return Comparison(title, names, parts, _notes(a, b), _watts(a, b))


class _Changes:
    """Of two cards' variants, with what the cards have in common known."""

    def __init__(self, a: Card, b: Card) -> None:
        self._same_texts = _same_texts(a, b)
        self._same_meter = a.meter == b.meter
        self._enough_rounds = min(a.rounds, b.rounds) >= _LEAST_ROUNDS

    def of_variant(self, a: VariantCard, b: VariantCard) -> list[Change]:
        """Scores, then speed and joules on the set's own texts, then sizes."""
        found = []
        if self._same_texts:
            found.append(change("accuracy", "of texts", _scored(a.accuracy), _scored(b.accuracy), False))
            found.append(change("entity F1", "", _scored(a.entity_f1), _scored(b.entity_f1), False))
        if a.own.texts == b.own.texts:
            p50s = [(timed.p50_s, timed.p50_interval_s) for timed in (a.own, b.own)]
            p99s = [(timed.p99_s, timed.p99_interval_s) for timed in (a.own, b.own)]
            found += [self._latency("p50 of a batch", *p50s), self._latency("p99 of a batch", *p99s)]
        found += self._speed("", a.own, b.own)
        if self._same_meter:
            found.append(self._of_rounds("watts", "W", a.own.watts, b.own.watts, less_is_better=True))
        found.append(Change("on disk", "MB", a.disk_bytes / _MB, b.disk_bytes / _MB, less_is_better=True))
        resident = a.resident_bytes / _MB, b.resident_bytes / _MB
        found.append(Change("resident", "MB", *resident, less_is_better=True))
        return _known(found)

    def of_grid(self, a: VariantCard, b: VariantCard) -> list[Change]:
        """Loads that both were measured on."""
        others = {(timed.texts, timed.tokens): timed for timed in b.grid}
        pairs = [(timed, others.get((timed.texts, timed.tokens))) for timed in a.grid]
        return _known(
            one
            for timed, other in pairs
            if other is not None
            for one in self._speed(f"{timed.texts} × {timed.tokens}: ", timed, other)
        )

    def _speed(self, prefix: str, a: Timing, b: Timing) -> list[Change]:
        pace = self._of_rounds(f"{prefix}texts/s", "/s", a.texts_per_s, b.texts_per_s, less_is_better=False)
        if not self._same_meter:
            return [pace]
        joules = a.joules_per_1000_texts, b.joules_per_1000_texts
        return [pace, self._of_rounds(f"{prefix}energy, 1,000 texts", "J", *joules, less_is_better=True)]

    def _of_rounds(
        self, name: str, unit: str, a: Spread | None, b: Spread | None, *, less_is_better: bool
    ) -> Change:
        ends = [None if one is None else (one.low, one.median, one.high) for one in (a, b)]
        return change(name, unit, ends[0], ends[1], less_is_better, self._enough_rounds)

    def _latency(
        self, name: str, a: tuple[float, Interval | None], b: tuple[float, Interval | None]
    ) -> Change:
        ends = [
            (_MS * value_s,) * 3 if one is None else (_MS * one.low, _MS * value_s, _MS * one.high)
            for value_s, one in (a, b)
        ]
        known = a[1] is not None and b[1] is not None
        return change(name, "ms", ends[0], ends[1], True, known and self._enough_rounds)


def _known(changes: Iterable[Change]) -> list[Change]:
    return [one for one in changes if (one.a, one.b) != (None, None)]


def _scored(one: Interval | None) -> Bounds | None:
    return None if one is None else (one.low, one.value, one.high)


def _variant(card: Card, name: str) -> VariantCard:
    return {one.variant: one for one in card.variants}[name]


def _same_texts(a: Card, b: Card) -> bool:
    return (a.split, a.sets, a.texts, a.sentences) == (b.split, b.sets, b.texts, b.sentences)


def _watts(a: Card, b: Card) -> str:
    return " and ".join(dict.fromkeys(one.meter.source for one in (a, b)))


def _notes(a: Card, b: Card) -> Sequence[str]:
    """What the intervals are of, and what can't be compared."""
    notes = [
        "accuracy and F1: each card's own 95%; on the same texts two models differ by less than these say",
        "p50, p99: rounds drawn anew; texts/s, watts, joules: the lowest and highest round",
    ]
    rounds = min(a.rounds, b.rounds)
    if rounds < _LEAST_ROUNDS:
        notes.append(f"{rounds} rounds are too few for a spread: allowed {_LEAST_ROUNDS} or more")
    if not _same_texts(a, b):
        notes.append(f"{_NOT_COMPARED}accuracy and F1: of other texts")
    if a.variants[0].own.texts != b.variants[0].own.texts:
        notes.append(f"{_NOT_COMPARED}latency: of batches of other sizes")
    if a.meter != b.meter:
        notes.append(f"{_NOT_COMPARED}watts and joules: of other meters or other parameters")
    differ = [
        f"{field}: {ours} and {theirs}"
        for field, ours, theirs in (
            ("model", a.model, b.model),
            ("version", a.version, b.version),
            ("device", a.machine.device, b.machine.device),
            ("provider", a.machine.provider, b.machine.provider),
            ("threads", a.machine.threads, b.machine.threads),
        )
        if ours != theirs
    ]
    return [*notes, "of different inputs: " + "; ".join(differ)] if differ else notes
