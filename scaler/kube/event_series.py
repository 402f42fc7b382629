"""Which Events are written: each new one by itself, a repeated one as a series, and never a flood. Pure.

As events.k8s.io/v1 has it: an Event that happens again is counted in the `series` of the first, whose other
fields can't be changed. What was noted is not always the same word for word (`3 → 4 replicas`, `4 → 6
replicas`): a few notes with the same type, reason and action are told one by one, then the rest counts as one
series until it has been quiet.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

QUIET_S = 360.0  # after so long without it, a thing that happens again is told anew (client-go's six minutes)
COUNT_EVERY_S = 30.0  # a series is brought up to date at most so often
TOLD_ONE_BY_ONE = 5


@dataclass(frozen=True, slots=True)
class Noted:
    """`regarding`: the object's uid."""

    regarding: str
    type: str
    reason: str
    action: str
    note: str

    @property
    def series(self) -> tuple[str, str, str, str]:
        return self.regarding, self.type, self.reason, self.action


@dataclass(frozen=True, slots=True)
class Create:
    noted: Noted
    at_s: float


@dataclass(frozen=True, slots=True)
class Count:
    """The Event that was created for `first` has happened `count` times in all."""

    first: Noted
    count: int
    at_s: float


@dataclass(frozen=True, slots=True)
class _Told:
    first: Noted
    count: int
    last_s: float
    counted_s: float  # when the server was told of the count last
    counted: int = 1


@dataclass(frozen=True, slots=True)
class SeriesState:
    told: Mapping[tuple[str, str, str, str], tuple[_Told, ...]] = field(default_factory=dict)


def after(state: SeriesState, noted: Noted, now_s: float) -> tuple[SeriesState, Create | Count | None]:
    """What to write now that this happened at `now_s` (unix); None: it is counted, and told later."""
    known = tuple(one for one in state.told.get(noted.series, ()) if now_s - one.last_s < QUIET_S)
    same = next((one for one in known if one.first.note == noted.note), None)
    if same is None and len(known) >= TOLD_ONE_BY_ONE:
        same = known[-1]
    if same is None:
        fresh = _Told(noted, 1, now_s, now_s)
        return _with(state, noted, (*known, fresh), now_s), Create(noted, now_s)
    counted = replace(same, count=same.count + 1, last_s=now_s)
    write: Count | None = None
    if same.counted == 1 or now_s - same.counted_s >= COUNT_EVERY_S:
        counted = replace(counted, counted_s=now_s, counted=counted.count)
        write = Count(counted.first, counted.count, now_s)
    return _with(state, noted, tuple(counted if one is same else one for one in known), now_s), write


def forgotten(state: SeriesState, first: Noted) -> SeriesState:
    """The server has dropped that Event (they live for an hour): if it happens again it is told anew."""
    kept = tuple(one for one in state.told.get(first.series, ()) if one.first != first)
    return SeriesState({**state.told, first.series: kept})


def firsts(state: SeriesState) -> frozenset[Noted]:
    """Those that may still be counted on."""
    return frozenset(one.first for told in state.told.values() for one in told)


def _with(state: SeriesState, noted: Noted, known: tuple[_Told, ...], now_s: float) -> SeriesState:
    others = {
        series: kept
        for series, told in state.told.items()
        if (kept := tuple(one for one in told if now_s - one.last_s < QUIET_S))
    }
    return SeriesState({**others, noted.series: known})
