"""Joules and seconds of a training, kept on disk while it lasts: a kill loses none but the last ten seconds'.

Owns which meter is of what computes, and the file. Leaves measuring to `energy`. Called by `finetune` and
`distil`.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from energy import MeterSpecError, MeterUnavailable, PowerMeter, Reading, open_meter
from minwatt.v1.errors import UsageError

_WRITTEN_EACH_S = 10.0
_OF_A_CPU = ("rapl", "modelled")
_NOTES = {
    "modelled": "from CPU time, not measured: published averages per vCPU, see energy/modelled.py",
    "rapl": "measured: all CPU packages of the machine, with whatever else ran on it",
    "nvml": "measured: the cards themselves, without the rest of the machine",
}


def open_training_meter(spec: str, card: str | None) -> PowerMeter:
    """The meter of what computes: by itself, of a CPU RAPL where it can be read, of a card (its UUID) NVML.

    Raises UsageError where there is no such meter, or it reads another device.
    """
    try:
        if card is not None:
            if spec not in ("auto", "nvml"):
                raise UsageError(f"meter = {spec!r}: the training computes on a card; allowed: auto, nvml")
            return open_meter(f"nvml:{card}")
        if spec == "auto":
            return _of_the_cpu()
        meter = open_meter(spec)
    except (MeterSpecError, MeterUnavailable) as error:
        raise UsageError(str(error)) from error
    if meter.source not in _OF_A_CPU:
        meter.close()
        raise UsageError(
            f"meter = {spec!r}: not what a CPU draws in this run; allowed: {', '.join(_OF_A_CPU)}"
        )
    return meter


def note_on(source: str) -> str:
    """What kind of figure a meter's joules are."""
    return _NOTES.get(source, "")


def _of_the_cpu() -> PowerMeter:
    try:
        meter = open_meter("rapl")
        if meter.opening_j is not None:
            return meter
        meter.close()
    except MeterUnavailable:
        pass
    return open_meter("modelled")


class Spent:
    """What one process has spent on a training, `told` being what tells it from another one.

    RAPL counts a machine: of several processes on one, the first counts it, and the others bring nothing.
    Entered around the training; afterwards `joules` and `duration_s` are known.
    """

    def __init__(
        self, meter: PowerMeter, file: Path, told: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.source = meter.source
        self.joules: float | None = 0.0
        self.duration_s = 0.0
        self._meter = meter
        self._file = file
        self._told = told
        self._clock = clock
        self._counts = meter.source != "rapl" or os.environ.get("LOCAL_RANK", "0") == "0"

    def __enter__(self) -> Spent:
        self._before = self._kept()
        self._started_s = self._written_s = self._clock()
        self._started_j = self._read()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._take()
        self._meter.close()

    def note(self) -> None:
        """Called after every step; writes now and then."""
        if self._clock() - self._written_s >= _WRITTEN_EACH_S:
            self._take()
            self._written_s = self._clock()
            text = json.dumps({"told": self._told, "joules": self.joules, "duration_s": self.duration_s})
            new = self._file.with_suffix(".new")
            new.write_text(text, encoding="utf-8")
            os.replace(new, self._file)

    def _take(self) -> None:
        before_j, before_s = self._before
        now_j = self._read()
        self.duration_s = before_s + self._clock() - self._started_s
        known = before_j is not None and now_j is not None and self._started_j is not None
        self.joules = before_j + now_j - self._started_j if known else None  # type: ignore[operator]

    def _read(self) -> float | None:
        if not self._counts:
            return 0.0
        reading = self._meter.read()
        return reading.joules_total if isinstance(reading, Reading) else None

    def _kept(self) -> tuple[float | None, float]:
        """Of the same training before a kill. A file that can't be read is one of another kind: no part."""
        try:
            kept = json.loads(self._file.read_text(encoding="utf-8"))
            if kept["told"] == self._told:
                return kept["joules"], kept["duration_s"]
        except (OSError, ValueError, KeyError, TypeError):
            pass
        return 0.0, 0.0
