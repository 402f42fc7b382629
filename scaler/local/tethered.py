"""A `minwatt` process that does not outlive the one that started it, however that one ends.

A scaler that is killed can drain nothing: without this its replicas would go on unseen, and keep their port.
Owns the tie alone; the process is any `minwatt` command. Run as `python -m scaler.local.tethered PARENT-PID
COMMAND …`, which `command` spells. Called by `command` of a local replica and by `minwatt profile`.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Sequence

from minwatt.cli import main

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def command(arguments: Sequence[str]) -> list[str]:
    """The words that run `minwatt ARGUMENTS` as a child of this process, tied to it."""
    # -P: a folder `service` or `scaler` where the user stands is not ours.
    return [sys.executable, "-P", "-m", "scaler.local.tethered", str(os.getpid()), *arguments]


def _tie_to(parent_pid: int) -> None:
    """SIGTERM when the parent's process ends, where the kernel offers it (Linux); elsewhere nothing."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent_pid:  # it ended before the tie was there
        sys.exit(1)


if __name__ == "__main__":
    _tie_to(int(sys.argv[1]))
    main(sys.argv[2:])
