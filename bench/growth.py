"""Whether something grows: a straight line through samples of it, and how much is too much.

Pure. Called by `soak`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Growth:
    """By the line of least squares, from the first sample to the last."""

    samples: int
    mean: float
    total: float
    error: float  # standard error of `total`; what can't be told from noise

    def within(self, tolerance: float) -> bool:
        """Not grown by more than `tolerance`, as far as the samples can tell (two standard errors)."""
        return self.total - 2 * self.error <= tolerance


def growth(at_s: Sequence[float], values: Sequence[float]) -> Growth | None:
    """None for fewer than three samples, or samples of one moment: they show no line."""
    when, what = np.asarray(at_s, float), np.asarray(values, float)
    if len(when) < 3 or np.ptp(when) == 0:
        return None
    centred = when - when.mean()
    slope = float(centred @ what / (centred @ centred))
    residuals = what - what.mean() - slope * centred
    variance = float(residuals @ residuals) / (len(when) - 2)
    span_s = float(np.ptp(when))
    error = float(np.sqrt(variance / (centred @ centred))) * span_s
    return Growth(len(when), float(what.mean()), slope * span_s, error)
