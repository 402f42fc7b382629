"""Curves with fewer points than were recorded: one a stretch, NaN where a stretch has no data.

Pure. Called by the page of a backtest and by the leaderboard.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_Floats = NDArray[np.float64]


def mean_of_each(values: _Floats, width: int) -> _Floats:
    """Of `width` values each; the last stretch may be shorter."""
    stretches = _stretches(values, width)
    known = np.count_nonzero(~np.isnan(stretches), axis=1)
    sums = np.nansum(stretches, axis=1)
    return np.where(known > 0, sums / np.maximum(1, known), np.nan)


def most_of_each(values: _Floats, width: int) -> _Floats:
    """The highest of `width` values each."""
    return np.asarray(np.fmax.reduce(_stretches(values, width), axis=1), dtype=np.float64)


def _stretches(values: _Floats, width: int) -> _Floats:
    missing = -len(values) % width
    return np.append(values, np.full(missing, np.nan)).reshape(-1, width)
