"""Whose watts a shared card's are: an estimate, in parts that sum to the card's joules to the nanojoule.

Pure; knows no clock: readings bring their time. Leaves measuring to `watts`. The rule:

    idle    = idle watts · span            by size: equal for processes, by multiprocessors for MIG's slices
    active  = metered - idle               by measured activity times size; by size where nothing was measured
    nobody  = what was metered while nobody had a part

A window is the time between two readings; its parts are those that were there at its end. Idle watts are the
lowest mean of 5 s in which nobody was active (a counter refreshed each 0.1 s makes a second look up to a
tenth too low); until there is one all of a window is active. Power is not proportional to activity, and two
kernels of the same activity draw different watts: that is why it is called an estimate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from energy.apportion import NJ_PER_J, split
from energy.reading import Reading
from energy.window import MeanPower

WINDOW_S = 5.0
LEAST_S = 0.5
UNITS = 10_000  # activity is shared in these


@dataclass(frozen=True, slots=True)
class Part:
    """Who has a part of the card for a window.

    size: of its slice, in any unit; 1 for a process. activity: in any unit, of one unit of size; None: not
    measured.
    """

    name: str
    size: int
    activity: float | None


@dataclass(frozen=True, slots=True)
class Share:
    """joules: since the first window. watts: None while too little time is covered."""

    joules: float
    watts: float | None


class Shares:
    """The ledger of one card."""

    def __init__(self) -> None:
        self._last: Reading | None = None
        self._idle_w: float | None = None
        self._quiet = MeanPower(window_s=WINDOW_S, least_s=WINDOW_S)  # since somebody was active
        self._nj: dict[str, int] = {}
        self._nobody_nj = 0
        self._means: dict[str, MeanPower] = {}
        self._watts: dict[str, float | None] = {}
        self._nobody_w: float | None = None  # of who has no part; not known before the first window's end

    @property
    def idle_w(self) -> float | None:
        """None while nobody has been seen idle."""
        return self._idle_w

    @property
    def nobody_j(self) -> float:
        return self._nobody_nj / NJ_PER_J

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._nj)

    def of(self, name: str) -> Share:
        """Of who never had a part: nothing."""
        return Share(self._nj.get(name, 0) / NJ_PER_J, self._watts.get(name, self._nobody_w))

    def forget(self, names: Sequence[str]) -> None:
        """Those who are gone for good; their joules stay counted, as nobody's."""
        for name in names:
            self._nobody_nj += self._nj.pop(name, 0)
            self._means.pop(name, None)
            self._watts.pop(name, None)

    def observe(self, reading: Reading, parts: Sequence[Part]) -> None:
        """Shares out what was metered since the last reading."""
        last, self._last = self._last, reading
        if last is None:
            self._quiet.restart(reading.at_s, reading.joules_total)
            return
        metered_nj = _nj(reading.joules_total) - _nj(last.joules_total)
        span_s = reading.at_s - last.at_s
        if metered_nj < 0 or span_s <= 0:
            self._last = reading if metered_nj < 0 else last
            return
        self._learn_idle(reading, any(part.activity is None or part.activity > 0 for part in parts))
        if parts:
            idle_nj = min(metered_nj, _nj((self._idle_w or 0.0) * span_s))
            sizes = [part.size for part in parts]
            idle = split(idle_nj, sizes)
            active = split(metered_nj - idle_nj, _weights(parts) or sizes)
            for part, idle_part, active_part in zip(parts, idle, active, strict=True):
                self._nj[part.name] = self._nj.get(part.name, 0) + idle_part + active_part
        else:
            self._nobody_nj += metered_nj
        for name, nj in self._nj.items():
            if name not in self._means:
                self._means[name] = MeanPower(window_s=WINDOW_S, least_s=LEAST_S)
                self._means[name].restart(last.at_s, 0.0)
            self._watts[name] = self._means[name].add(reading.at_s, nj / NJ_PER_J)
        self._nobody_w = 0.0

    def _learn_idle(self, reading: Reading, active: bool) -> None:
        if active:
            self._quiet.restart(reading.at_s, reading.joules_total)
            return
        mean_w = self._quiet.add(reading.at_s, reading.joules_total)
        if mean_w is not None:
            self._idle_w = mean_w if self._idle_w is None else min(self._idle_w, mean_w)


def _weights(parts: Sequence[Part]) -> list[int] | None:
    """By activity times size; None where one's is not known, or nobody was active."""
    if any(part.activity is None for part in parts):
        return None
    weights = [round((part.activity or 0.0) * part.size * UNITS) for part in parts]
    return weights if any(weights) else None


def _nj(joules: float) -> int:
    return round(joules * NJ_PER_J)
