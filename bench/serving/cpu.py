"""What processes have computed: CPU seconds from the kernel's own per-process clocks, and resident memory.

`/proc/PID/stat` counts in ticks of 10 ms, a percent of what a second's measurement has; the clock behind
`clock_getcpuclockid(3)` counts in nanoseconds and holds threads that have ended too. Called by `load` at
both ends of a measurement, and by `run` at both ends of a round.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import psutil

MIB = 1024 * 1024
_SCHEDULER_CLOCK = 2  # CPUCLOCK_SCHED of the kernel's posix-timers: run time, all threads


def process_cpu_s(pid: int) -> float:
    """CPU seconds of one process, user and system. Raises OSError when it is gone."""
    return time.clock_gettime(~pid << 3 | _SCHEDULER_CLOCK)


def with_children(pids: Sequence[int]) -> list[int]:
    """These processes and all that descend from them now."""
    found: list[int] = []
    for pid in pids:
        process = psutil.Process(pid)
        found += [pid, *(child.pid for child in process.children(recursive=True))]
    return found


def total_cpu_s(pids: Sequence[int]) -> float:
    return sum(map(process_cpu_s, pids))


def machine_busy_s() -> float:
    """Of all cores together: what programs took, and what the host gave to others."""
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0))


def resident_mib(pids: Sequence[int]) -> float:
    """Of these processes together; what they share counts in each."""
    return float(sum(psutil.Process(pid).memory_info().rss for pid in pids)) / MIB
