"""A day of a fleet in bounded memory: the last minutes by the second, the rest by coarser spans.

Pure. Owns the columns of the page's curves, and how many seconds become one point of each: means of rates and
watts, the worst of latencies, the last of what only grows. Called by `board`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

Value = float | None
_Values = list[float]


def _mean(values: _Values) -> float:
    return sum(values) / len(values)


def _last(values: _Values) -> float:
    return values[-1]


# By column: what one point of several rows is. Units are in the names; `at_s` is unix time, of the last row.
COLUMNS: Mapping[str, Callable[[_Values], float]] = {
    "at_s": _last,
    "offered_rps": _mean,
    "goodput_rps": _mean,
    "forecast_rps": _mean,
    "p50_s": _mean,
    "p99_s": max,
    "watts": _mean,
    "idle_w": _mean,
    "ready": _mean,
    "starting": max,
    "draining": max,
    "desired": _last,
    "max_batch_texts": _last,
    "max_delay_s": _last,
    "sm_clock_mhz": _last,
    "reflex_fraction": _mean,
}


@dataclass(frozen=True, slots=True)
class Tier:
    """One point for each `every_s`, for so long."""

    every_s: float
    kept_s: float


TIERS = (Tier(1.0, 900.0), Tier(10.0, 4 * 3600.0), Tier(60.0, 86_400.0))
Row = tuple[Value, ...]  # by COLUMNS


class _Curve:
    """One tier's points, and the rows of the one that is not done."""

    def __init__(self, tier: Tier) -> None:
        self._tier = tier
        self._points = deque[Row](maxlen=round(tier.kept_s / tier.every_s))
        self._open: list[Row] = []

    def add(self, row: Row, at_s: float) -> None:
        if self._open and at_s // self._tier.every_s != (self._open[0][0] or 0.0) // self._tier.every_s:
            self._points.append(_one(self._open))
            self._open = []
        self._open.append(row)

    def points(self) -> list[Row]:
        return [*self._points, _one(self._open)] if self._open else list(self._points)


class History:
    """Rows go in by the second; points come out, as fine as the span allows."""

    def __init__(self, tiers: Sequence[Tier] = TIERS) -> None:
        self._tiers = tiers
        self._curves = [_Curve(tier) for tier in tiers]

    def add(self, row: Mapping[str, Value]) -> Row:
        """Returns it by COLUMNS. A row that is older than the last is counted with the last."""
        values = tuple(row.get(name) for name in COLUMNS)
        for curve in self._curves:
            curve.add(values, values[0] or 0.0)
        return values

    def of(self, span_s: float) -> dict[str, list[Value]]:
        """By column, oldest first, at most `span_s` before the newest: from the finest tier that has it all,
        or from the longest."""
        wanted = (
            curve for tier, curve in zip(self._tiers, self._curves, strict=True) if tier.kept_s >= span_s
        )
        points = next(wanted, self._curves[-1]).points()
        newest_s = (points[-1][0] or 0.0) if points else 0.0
        shown = [point for point in points if (point[0] or 0.0) > newest_s - span_s]
        return {name: [point[place] for point in shown] for place, name in enumerate(COLUMNS)}


def _one(rows: Sequence[Row]) -> Row:
    """Of several rows; what is known in none of them is not known."""
    if len(rows) == 1:
        return rows[0]
    columns = zip(COLUMNS.values(), zip(*rows, strict=True), strict=True)
    return tuple(_pooled(pool, [value for value in column if value is not None]) for pool, column in columns)


def _pooled(pool: Callable[[_Values], float], known: _Values) -> Value:
    return pool(known) if known else None
