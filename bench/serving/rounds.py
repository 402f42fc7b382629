"""Rounds and what may be said of them: everything is measured once a round, in an order drawn anew, and only
figures of the same round are divided by one another.

Pure. This kind of machine drifts up to fourfold within minutes; what was measured in different minutes is
not comparable. Called by `run`, `figures` and `peers`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from statistics import median

Reading = Mapping[str, float]  # one measurement's figures by name
Round = Mapping[str, Reading]  # a round's readings by what was measured


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure over the rounds."""

    median: float
    least: float
    most: float
    rounds: int


@dataclass(frozen=True, slots=True)
class Figure:
    """A reading's figure: what was measured, and which of its figures."""

    measured: str
    name: str

    def of(self, one: Round) -> float | None:
        return one.get(self.measured, {}).get(self.name)


def orders(names: Sequence[str], rounds: int, seed: int) -> list[list[str]]:
    """Each round's order: every name once, shuffled anew."""
    draw = Random(seed)
    return [draw.sample(names, len(names)) for _ in range(rounds)]


def spread(values: Sequence[float]) -> Spread | None:
    """None where nothing was measured."""
    if not values:
        return None
    return Spread(median(values), min(values), max(values), len(values))


def of_rounds(rounds: Sequence[Round], figure: Figure) -> Spread | None:
    """Over the rounds that have the figure."""
    return spread([value for one in rounds if (value := figure.of(one)) is not None])


def same_round_ratio(rounds: Sequence[Round], over: Figure, under: Figure) -> Spread | None:
    """Of the quotients of each round that has both; a round where the divisor is zero has none."""
    quotients = []
    for one in rounds:
        above, below = over.of(one), under.of(one)
        if above is not None and below:
            quotients.append(above / below)
    return spread(quotients)


def steadiest_best(rounds: Sequence[Round], figures: Sequence[Figure]) -> Figure | None:
    """The figure with the greatest median.

    One for all rounds: the best of each round would be the luckiest of many draws.
    """
    medians = [
        (found.median, figure) for figure in figures if (found := of_rounds(rounds, figure)) is not None
    ]
    return max(medians, key=lambda pair: pair[0])[1] if medians else None
