"""A meter that replays a recording, to run a recorded day again or to test what stands on a meter.

The recording is CSV with the header `t_s,watts`, times growing from row to row:

    t_s,watts
    0,61.5
    1,240
    2,
    5,63

A row's watts hold until the next row's time. Empty watts: not known until the next row (here from 2 s to
5 s). Before the first row and after the last row's time nothing is known. t_s counts from the opening.

Owns the format and its integral; reads no file. Called by opening.
"""

from __future__ import annotations

import csv
import math
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise

from energy.reading import NO_TELEMETRY, MeterSpecError, Reading, Telemetry, Unknown

HEADER = ["t_s", "watts"]


@dataclass(frozen=True)
class Recording:
    """times_s grow strictly; watts[i] holds from times_s[i] to times_s[i + 1]; None: not known."""

    times_s: tuple[float, ...]
    watts: tuple[float | None, ...]

    @cached_property
    def _joules(self) -> tuple[float, ...]:
        """Joules until each row's time."""
        spans_s = (after_s - before_s for before_s, after_s in pairwise(self.times_s))
        held = zip(self.watts, spans_s, strict=False)  # the last row's watts hold for no time
        return tuple(accumulate(((watts or 0.0) * span_s for watts, span_s in held), initial=0.0))

    def joules_until(self, t_s: float) -> float:
        """∫ watts dt from the start to t_s, over the spans whose watts are known."""
        row = bisect_right(self.times_s, t_s) - 1
        if row < 0:
            return 0.0
        since_s = min(t_s, self.times_s[-1]) - self.times_s[row]
        return self._joules[row] + (self.watts[row] or 0.0) * since_s

    def watts_at(self, t_s: float) -> float | None:
        """Watts in force at t_s; None in a gap, before the first row and after the last row's time."""
        if t_s > self.times_s[-1]:
            return None
        row = bisect_right(self.times_s, t_s) - 1
        return self.watts[row] if row >= 0 else None


def parse_recording(text: str, name: str) -> Recording:
    """The recording in a CSV text; `name` is the file's, for errors. Raises MeterSpecError, one line."""
    rows = list(csv.reader(text.splitlines()))
    if not rows or [cell.strip() for cell in rows[0]] != HEADER:
        raise MeterSpecError(f"{name}:1: the header must be {','.join(HEADER)}")
    times_s: list[float] = []
    watts: list[float | None] = []
    for line, row in enumerate(rows[1:], start=2):
        if len(row) != len(HEADER):
            raise MeterSpecError(f"{name}:{line}: {len(row)} fields; allowed: 2 ({','.join(HEADER)})")
        t_s = _number(row[0], f"{name}:{line}: t_s")
        if times_s and t_s <= times_s[-1]:
            raise MeterSpecError(f"{name}:{line}: t_s = {row[0]!r}: must be more than the row before's")
        times_s.append(t_s)
        watts.append(_number(row[1], f"{name}:{line}: watts") if row[1].strip() else None)
    if not times_s:
        raise MeterSpecError(f"{name}: no rows after the header; at least one is needed")
    return Recording(tuple(times_s), tuple(watts))


def _number(text: str, where: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise MeterSpecError(f"{where} = {text!r}: allowed: a number, at least 0")
    return number


class ReplayedMeter:
    """`watts` is what the recording says of the moment. Joules of gaps are not made up: they do not count."""

    source = "replayed"
    opening_j: float | None = 0.0
    idle_w: float | None = None
    busy_w_per_core: float | None = None

    def __init__(self, recording: Recording, device: str, clock: Callable[[], float]) -> None:
        self.device = device
        self._recording = recording
        self._clock = clock
        self._opened_s = clock()

    def read(self) -> Reading | Unknown:
        now_s = self._clock()
        t_s = now_s - self._opened_s
        watts = self._recording.watts_at(t_s)
        if watts is None:
            over = t_s > self._recording.times_s[-1]
            return Unknown("the recording is over" if over else "a gap in the recording", now_s)
        return Reading(self._recording.joules_until(t_s), watts, self.source, now_s)

    def telemetry(self) -> Telemetry:
        return NO_TELEMETRY

    def close(self) -> None:
        """Nothing is held."""
