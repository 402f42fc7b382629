"""How many cores this process may compute on. Called by `engines` for its default of engine workers."""

from __future__ import annotations

import math
import os
from pathlib import Path

CGROUP_LIMIT = Path("/sys/fs/cgroup/cpu.max")  # cgroup v2, as a container sees its own


def usable_cores(limit: Path = CGROUP_LIMIT) -> int:
    """Those it may be scheduled on, no more than its container's quota: at least 1."""
    cores = len(os.sched_getaffinity(0))
    quota = _quota(limit)
    return cores if quota is None else max(1, min(cores, math.floor(quota)))


def _quota(limit: Path) -> float | None:
    """Cores' worth of time; None where nothing limits it."""
    try:
        quota_us, period_us = limit.read_text().split()
        return None if quota_us == "max" else int(quota_us) / int(period_us)
    except (OSError, ValueError):
        return None
