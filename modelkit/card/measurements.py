"""The energy card: what was measured of a model's variants, as `card.json` holds it.

Owns the format (docs/card.md), what rounds and scores come to, and the file's errors. Leaves measuring to
`run` and the choice to `pareto`. Called by `run` and by the commands `model card`, `model choose`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import combinations
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from minwatt.v1.errors import UsageError, one_line
from minwatt.v1.model_dir import Sha256
from modelkit.card.pareto import Candidate, front
from modelkit.card.speed import Round
from modelkit.scoring.finetune_report import TrainingEnergy
from modelkit.scoring.intervals import Interval, Spread, bootstrap_percentiles, paired_difference
from report.provenance import Provenance

CARD_FILE = "card.json"
_JOULES_PER_KWH = 3.6e6
_JOULES_PER_WH = 3600.0


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Meter(_Frozen):
    """Where the joules come from; `parameters` are what a modelled meter assumes."""

    source: str
    parameters: dict[str, float] = Field(default_factory=dict)
    note: str = ""


class Machine(_Frozen):
    """What was measured on. `others_busy_cores`: what ran beside the measurement, on average."""

    device: str
    provider: Literal["cpu", "cuda"]
    threads: int
    system: str
    python: str
    versions: dict[str, str]
    others_busy_cores: float | None


class GridIntensity(_Frozen):
    """gCO2 a kWh: the mean, and the lowest and highest hour where it is a file's."""

    source: str
    gco2_per_kwh: float = Field(ge=0)
    low: float
    high: float


class Timing(_Frozen):
    """One load. `tokens` is None where texts of the set itself were run, in their own lengths."""

    texts: int  # of a batch
    tokens: int | None
    calls: int
    p50_s: float = Field(ge=0)
    p99_s: float = Field(ge=0)
    texts_per_s: Spread
    watts: Spread | None
    joules_per_1000_texts: Spread | None
    p50_interval_s: Interval | None = None  # None: of a card that was measured before they were kept
    p99_interval_s: Interval | None = None


class VariantCard(_Frozen):
    variant: str
    sha256: Sha256
    parameters: int
    disk_bytes: int
    resident_bytes: int
    accuracy: Interval
    entity_f1: Interval | None  # None: the model reads no entities
    own: Timing  # texts of the set itself: what the front, the choice and the figures below are of
    grid: tuple[Timing, ...]
    gco2_per_million_texts: float | None
    battery_hours: float | None  # without a pause
    battery_texts: float | None
    on_front: bool  # accuracy × joules


class Comparison(_Frozen):
    """`one` over `other`, round by round: what befell a round befell both.

    `accuracy`: one's less the other's, on the same texts.
    """

    one: str
    other: str
    accuracy: Interval
    texts_per_s: Spread
    joules: Spread | None


class Card(_Frozen):
    format: Literal[1] = 1
    model: str
    version: str
    measured_at: datetime
    machine: Machine
    meter: Meter
    split: str
    sets: dict[str, str]
    texts: int
    sentences: int
    rounds: int
    round_s: float  # at least, of the fastest variant
    seed: int
    intensity: GridIntensity | None
    battery_wh: float | None
    variants: tuple[VariantCard, ...] = Field(min_length=1)
    comparisons: tuple[Comparison, ...]
    training: TrainingEnergy | None = None  # as report.json says; gCO2 at `intensity` where that is given
    provenance: Provenance | None = None  # of the file

    def candidates(self) -> list[Candidate]:
        """The variants as the choice sees them."""
        return [candidate(one.variant, one.accuracy, one.entity_f1, one.own) for one in self.variants]

    def compared(self, one: str, other: str) -> Comparison | None:
        """The pair's rounds, in the order they are asked in or the other."""
        return next((pair for pair in self.comparisons if {pair.one, pair.other} == {one, other}), None)


def candidate(name: str, accuracy: Interval, entity_f1: Interval | None, own: Timing) -> Candidate:
    joules = own.joules_per_1000_texts
    return Candidate(
        name=name,
        accuracy=accuracy.value,
        entity_f1=None if entity_f1 is None else entity_f1.value,
        joules=None if joules is None else joules.median,
        p99_s=own.p99_s,
    )


def timing(texts: int, tokens: int | None, rounds: Sequence[Round]) -> Timing:
    """What rounds of batches of `texts` come to. Joules and watts are known of all rounds, or not at all."""
    calls_s = np.concatenate([one.calls_s for one in rounds])
    joules = _joules_per_text(texts, rounds)
    p50_s, p99_s = np.percentile(calls_s, [50, 99])
    p50, p99 = bootstrap_percentiles([one.calls_s for one in rounds], (50, 99))
    return Timing(
        texts=texts,
        tokens=tokens,
        calls=len(calls_s),
        p50_s=float(p50_s),
        p99_s=float(p99_s),
        texts_per_s=Spread.of(_texts_per_s(texts, rounds)),
        watts=None if joules is None else Spread.of([(one.joules or 0.0) / one.metered_s for one in rounds]),
        joules_per_1000_texts=None if joules is None else Spread.of([1000 * one for one in joules]),
        p50_interval_s=p50,
        p99_interval_s=p99,
    )


def comparisons(
    texts: int, rounds: Mapping[str, Sequence[Round]], right: Mapping[str, Sequence[bool]]
) -> tuple[Comparison, ...]:
    """Every pair of variants on the same interleaved rounds; `right`: which texts each has right."""
    return tuple(
        Comparison(
            one=one,
            other=other,
            accuracy=_accuracy_difference(right[one], right[other]),
            texts_per_s=_ratio(_texts_per_s(texts, rounds[one]), _texts_per_s(texts, rounds[other])),
            joules=_joules_ratio(texts, rounds[one], rounds[other]),
        )
        for one, other in combinations(rounds, 2)
    )


def gco2_per_million_texts(own: Timing, intensity: GridIntensity | None) -> float | None:
    if own.joules_per_1000_texts is None or intensity is None:
        return None
    return own.joules_per_1000_texts.median * 1000 / _JOULES_PER_KWH * intensity.gco2_per_kwh


def battery(own: Timing, capacity_wh: float | None) -> tuple[float | None, float | None]:
    """(hours, texts) that a full battery of that capacity lasts, running without a pause."""
    if capacity_wh is None or own.watts is None or own.joules_per_1000_texts is None:
        return None, None
    watts, joules = own.watts.median, own.joules_per_1000_texts.median
    if watts <= 0 or joules <= 0:  # a modelled meter may be told so
        return None, None
    return capacity_wh / watts, capacity_wh * _JOULES_PER_WH / joules * 1000


def with_front(variants: Sequence[VariantCard]) -> tuple[VariantCard, ...]:
    """The variants, each told whether it is on the front."""
    best = front([candidate(one.variant, one.accuracy, one.entity_f1, one.own) for one in variants])
    return tuple(one.model_copy(update={"on_front": one.variant in best}) for one in variants)


def read_card(path: Path) -> Card:
    """Raises UsageError where the file is no card of this format."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise UsageError(
            f"{path}: can't be read ({reason}); `minwatt model card` writes {CARD_FILE}"
        ) from error
    try:
        return Card.model_validate_json(text)
    except ValidationError as error:
        raise one_line(error, str(path)) from error


def _accuracy_difference(one: Sequence[bool], other: Sequence[bool]) -> Interval:
    pairs = list(zip(one, other, strict=True))
    return paired_difference(pairs.count((True, False)), pairs.count((False, True)), len(pairs))


def _texts_per_s(texts: int, rounds: Sequence[Round]) -> list[float]:
    return [texts * len(one.calls_s) / sum(one.calls_s) for one in rounds]


def _joules_per_text(texts: int, rounds: Sequence[Round]) -> list[float] | None:
    if any(one.joules is None or one.metered_s <= 0 for one in rounds):
        return None
    return [(one.joules or 0.0) / (texts * len(one.calls_s)) for one in rounds]


def _joules_ratio(texts: int, one: Sequence[Round], other: Sequence[Round]) -> Spread | None:
    mine, theirs = _joules_per_text(texts, one), _joules_per_text(texts, other)
    if mine is None or theirs is None or min(theirs) <= 0:
        return None
    return _ratio(mine, theirs)


def _ratio(mine: Sequence[float], theirs: Sequence[float]) -> Spread:
    return Spread.of([a / b for a, b in zip(mine, theirs, strict=True)])
