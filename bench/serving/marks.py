"""CPU seconds that a server spent in its engine and in its tokenizer, in a file that others may read.

Written by `replica`, whose encoder and tokenizer are the server's own with a thread's clock around them;
read by `load` at both ends of a measurement.
"""

from __future__ import annotations

import mmap
import struct
import threading
import time
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple

_TOTALS = struct.Struct("dd")  # one for each part


class Part(IntEnum):
    ENGINE = 0
    TOKENIZER = 1


class Marked(NamedTuple):
    engine_cpu_s: float
    tokenizer_cpu_s: float


class Marks:
    """Totals since the server's start. A mark is measured along: two clock readings, one addition."""

    def __init__(self, file: Path) -> None:
        file.write_bytes(bytes(_TOTALS.size))
        with file.open("r+b") as opened:
            self._totals = memoryview(mmap.mmap(opened.fileno(), 0)).cast("d")
        self._lock = threading.Lock()

    def add(self, part: Part, began_s: float) -> None:
        """What the calling thread has computed since `began_s`, of its `time.thread_time`."""
        took_s = time.thread_time() - began_s
        with self._lock:
            self._totals[part] += took_s


def read_marks(file: str) -> Marked:
    """Zeros where the server keeps none."""
    if not file:
        return Marked(0.0, 0.0)
    return Marked(*_TOTALS.unpack(Path(file).read_bytes()))
