"""Latencies as weights on one fixed logarithmic grid: 2% wide bins from 0.1 ms to 1,000 s.

Pure. A quantile is right to the width of a bin.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_LOWEST_S = 1e-4
_RATIO = 1.02
BINS = math.ceil(math.log(1e7) / math.log(_RATIO))
EDGES_S = _LOWEST_S * _RATIO ** np.arange(BINS + 1)
_MOST_APART = 256  # shapes that a mixture keeps apart: adding one again is then one number
_Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Shape:
    """A distribution of latencies: [BINS] weights of sum 1, or all 0. Equal only to itself."""

    weights: _Floats


def shape_of(latencies_s: _Floats) -> Shape:
    """What lies outside the grid counts in its outermost bins."""
    return Shape(counts(latencies_s) / max(1, len(latencies_s)))


def counts(latencies_s: _Floats) -> _Floats:
    """[BINS] how many lie in each bin."""
    index = np.searchsorted(EDGES_S, latencies_s, side="right") - 1
    return np.bincount(np.clip(index, 0, BINS - 1), minlength=BINS).astype(np.float64)


def ramp(from_s: float, to_s: float) -> Shape:
    """Spread evenly between two latencies, of which the first may be the greater."""
    low_s, high_s = min(from_s, to_s), max(from_s, to_s)
    if high_s < low_s * 1.001:
        return shape_of(np.array([low_s]))
    below = (np.clip(EDGES_S, low_s, high_s) - low_s) / (high_s - low_s)
    weights = np.diff(below)
    weights[0] += below[0]
    weights[-1] += 1 - below[-1]
    return Shape(weights)


class Mixture:
    """Shapes by their weights, added up."""

    def __init__(self) -> None:
        self._apart: dict[Shape, float] = {}
        self._folded = np.zeros(BINS)

    def add(self, shape: Shape, weight: float) -> None:
        self._apart[shape] = self._apart.get(shape, 0.0) + weight
        if len(self._apart) > _MOST_APART:
            self._folded = self.weights()
            self._apart.clear()

    def weights(self) -> _Floats:
        """[BINS] of their sum."""
        total = self._folded.copy()
        for shape, weight in self._apart.items():
            total += weight * shape.weights
        return total

    def quantile_s(self, percentile: float) -> float:
        return quantile_s(self.weights(), percentile)


def quantile_s(weights: _Floats, percentile: float) -> float:
    """0 where there is no weight."""
    cumulated = np.cumsum(weights)
    total = float(cumulated[-1])
    if total <= 0:
        return 0.0
    wanted = total * percentile / 100
    index = min(int(np.searchsorted(cumulated, wanted)), BINS - 1)
    before = float(cumulated[index - 1]) if index else 0.0
    inside = (wanted - before) / max(float(weights[index]), 1e-300)
    return float(EDGES_S[index] * _RATIO ** min(1.0, max(0.0, inside)))
