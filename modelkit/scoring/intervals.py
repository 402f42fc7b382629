"""How sure a score is: intervals of 95% around accuracy and entity F1, and the spread of repeated rounds.

Pure: the seed comes in. Called by `card.run`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

import numpy as np
from pydantic import BaseModel, ConfigDict

CONFIDENCE = 0.95
Z = 1.959963984540054  # of the normal distribution's 97.5% quantile
RESAMPLES = 1000
RESAMPLES_AT_ONCE = 50  # 50 × 2,000 sentences take a megabyte


class Interval(BaseModel):
    """A score, and the bounds of 95% confidence; low <= value <= high."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    value: float
    low: float
    high: float


class Spread(BaseModel):
    """The median of some rounds, and their lowest and highest.

    With 7 rounds the two hold the true median between them with 98% confidence (1 - 2 / 2^7), whatever the
    distribution of a round.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, rounds: Sequence[float]) -> Spread:
        """Of at least one round."""
        return cls(median=median(rounds), low=min(rounds), high=max(rounds))


def wilson(right: int, of: int) -> Interval:
    """The share `right` of `of` (at least 1) by Wilson's score interval, which stays within [0, 1].

    E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 1927.
    """
    share, square = right / of, Z * Z
    centre = (share + square / (2 * of)) / (1 + square / of)
    reach = Z / (1 + square / of) * math.sqrt(share * (1 - share) / of + square / (4 * of * of))
    # At 0 and 1 the bound is the share itself, but for the last bit.
    return Interval(
        value=share, low=max(0.0, min(share, centre - reach)), high=min(1.0, max(share, centre + reach))
    )


def paired_difference(gained: int, lost: int, of: int) -> Interval:
    """Of two accuracies on the same `of` texts: `gained` only the one has right, `lost` only the other.

    Wald's interval with half a text added to each of the four cells (Agresti and Min, "Simple improved
    confidence intervals for comparing matched proportions", Statistics in Medicine 2005). Two variants that
    agree on most texts are told apart by far less than their own intervals are wide.
    """
    value, texts = (gained - lost) / of, of + 2
    centre, changed = (gained - lost) / texts, gained + lost + 1
    reach = Z * math.sqrt(changed - (gained - lost) ** 2 / texts) / texts
    return Interval(
        value=value,
        low=max(-1.0, min(value, centre - reach)),
        high=min(1.0, max(value, centre + reach)),
    )


def bootstrap_f1(counts: Sequence[tuple[int, int, int]], seed: int, resamples: int = RESAMPLES) -> Interval:
    """Micro F1 over sentences, each (right, found, expected); percentiles of sentences drawn with return.

    Entities of one sentence are right or wrong together, so that sentences are drawn and not entities.
    Where few sentences make the percentiles miss the score itself, the interval is widened to hold it.
    """
    table = np.asarray(counts, np.int64).reshape(-1, 3)
    value = float(_f1(table.sum(axis=0, keepdims=True))[0])
    generator = np.random.default_rng(seed)
    drawn = [
        _f1(generator.multinomial(len(table), np.full(len(table), 1 / len(table)), size) @ table)
        for size in _parts(resamples)
    ]
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(np.concatenate(drawn), [tail, 100 - tail])
    return Interval(value=value, low=min(value, float(low)), high=max(value, float(high)))


def bootstrap_percentiles(
    rounds: Sequence[Sequence[float]], percents: Sequence[float], seed: int = 0, resamples: int = RESAMPLES
) -> list[Interval]:
    """Of the calls of all rounds, linear between the two nearest; rounds are drawn with return, as what
    befalls one call of a round befalls the next.

    Of few rounds this reaches less far than 95% should: of seven by a quarter (sqrt(6/7), and Student's t).
    """
    sizes = [len(one) for one in rounds]
    calls = np.concatenate([np.asarray(one, np.float64) for one in rounds])
    order = np.argsort(calls)
    of_round, calls = np.repeat(np.arange(len(rounds)), sizes)[order], calls[order]
    generator = np.random.default_rng(seed)
    drawn = []
    for size in _parts(resamples):
        times = generator.multinomial(len(rounds), np.full(len(rounds), 1 / len(rounds)), size)
        upto = np.cumsum(times[:, of_round], axis=1)  # calls of the resample, up to each in order
        drawn.append([_at_percent(calls, upto, percent) for percent in percents])
    tail = 100 * (1 - CONFIDENCE) / 2
    found = []
    for percent, values in zip(percents, np.concatenate(drawn, axis=1), strict=True):
        value = float(np.percentile(calls, percent))
        low, high = np.percentile(values, [tail, 100 - tail])
        found.append(Interval(value=value, low=min(value, float(low)), high=max(value, float(high))))
    return found


def _at_percent(
    calls: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
    upto: np.ndarray[tuple[int, ...], np.dtype[np.int64]],
    percent: float,
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Of each row's resample of the sorted calls."""
    place = percent / 100 * (upto[:, -1] - 1)
    below, above = (
        calls[np.sum(upto <= rank[:, None], axis=1)] for rank in (np.floor(place), np.ceil(place))
    )
    return np.asarray(below + (place % 1) * (above - below))


def _parts(resamples: int) -> list[int]:
    whole, rest = divmod(resamples, RESAMPLES_AT_ONCE)
    return [RESAMPLES_AT_ONCE] * whole + [rest] * bool(rest)


def _f1(
    totals: np.ndarray[tuple[int, ...], np.dtype[np.int64]],
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Of rows (right, found, expected); 0 where there is no entity at all."""
    beneath = totals[:, 1] + totals[:, 2]
    return np.where(beneath > 0, 2 * totals[:, 0] / np.maximum(beneath, 1), 0.0)
