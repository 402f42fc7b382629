"""A meter for machines that have none: watts of this process, modelled from its CPU time.

    joules_total = idle_w · (seconds since the process started) + busy_w_per_core · (its CPU seconds)

The defaults are the averages that the Cloud Carbon Footprint methodology publishes for AWS's processors, per
virtual core, derived from SPECpower results: 0.74 W idle and 3.5 W at full load, so 2.76 W a busy core. They
stand for one virtual core reserved by the process; they are an estimate, and every reading says `modelled`.
https://www.cloudcarbonfootprint.org/docs/methodology/#energy-estimate-watt-hours

The only file that imports psutil. Called by opening.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass

import psutil

from energy.reading import NO_TELEMETRY, Reading, Telemetry
from energy.window import MeanPower


@dataclass(frozen=True, slots=True)
class PowerModel:
    idle_w: float = 0.74
    busy_w_per_core: float = 2.76


@dataclass(frozen=True, slots=True)
class ProcessTimes:
    """A process as the model sees it.

    age_s: seconds since it started. cpu_s: reads its user + system seconds; never goes back.
    """

    pid: int
    age_s: float
    cpu_s: Callable[[], float]


def this_process() -> ProcessTimes:
    """The calling process with all its threads, children not counted."""
    pid = os.getpid()
    age_s = max(0.0, time.time() - psutil.Process(pid).create_time())
    return ProcessTimes(pid=pid, age_s=age_s, cpu_s=time.process_time)


def tree_cpu_s(pid: int) -> float:
    """User + system seconds of a process, of those below it that live, and of those it has waited for; 0 when
    it is gone. What lived shortly below another and was never waited for is not seen.
    """
    total_s = 0.0
    try:
        top = psutil.Process(pid)
        tree = [top, *top.children(recursive=True)]
    except psutil.Error:
        return 0.0
    for process in tree:
        try:
            times = process.cpu_times()
        except psutil.Error:
            continue  # it ended meanwhile; who waits for it counts it
        total_s += times.user + times.system + times.children_user + times.children_system
    return total_s


class ModelledMeter:
    """Never unknown. `watts` is the mean of the last second; at first, of the process's whole life."""

    source = "modelled"
    opening_j: float | None = 0.0

    def __init__(self, model: PowerModel, process: ProcessTimes, clock: Callable[[], float]) -> None:
        self._model = model
        self._process = process
        self._clock = clock
        self._others_cpu_s: Callable[[], float] = lambda: 0.0
        self._started_s = clock() - process.age_s
        self._mean = MeanPower(window_s=1.0, least_s=0.0)
        self._mean.restart(self._started_s, 0.0)

    def count_also(self, others_cpu_s: Callable[[], float]) -> None:
        """CPU seconds of other processes that belong to this one; never go back. Called by the server."""
        self._others_cpu_s = others_cpu_s

    @property
    def device(self) -> str:
        return f"process:{self._process.pid}"

    @property
    def idle_w(self) -> float:
        return self._model.idle_w

    @property
    def busy_w_per_core(self) -> float:
        return self._model.busy_w_per_core

    def read(self) -> Reading:
        now_s = self._clock()
        busy_s = self._process.cpu_s() + self._others_cpu_s()
        joules = self._model.idle_w * (now_s - self._started_s) + self._model.busy_w_per_core * busy_s
        watts = self._mean.add(now_s, joules)
        # No time has passed since the process started: nothing but idle watts can be said of it.
        return Reading(joules, self._model.idle_w if watts is None else watts, self.source, now_s)

    def telemetry(self) -> Telemetry:
        return NO_TELEMETRY

    def close(self) -> None:
        """Nothing is held."""
