"""CPU seconds that a server spent in its engine and in its tokenizer, in a file that others may read.

Written by `replica`, whose encoder and tokenizer are the server's own with a thread's clock around them;
read by `load` at both ends of a measurement.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple

import numpy as np


class Part(IntEnum):
    ENGINE = 0
    TOKENIZER = 1


class Marked(NamedTuple):
    engine_cpu_s: float
    tokenizer_cpu_s: float


class Marks:
    """Totals since the server's start."""

    def __init__(self, file: Path) -> None:
        np.zeros(len(Part), dtype=np.float64).tofile(file)
        self._totals = np.memmap(file, dtype=np.float64, mode="r+", shape=(len(Part),))
        self._lock = threading.Lock()

    @contextmanager
    def spent(self, part: Part) -> Iterator[None]:
        """Adds what the calling thread computes within."""
        began_s = time.thread_time()
        try:
            yield
        finally:
            took_s = time.thread_time() - began_s
            with self._lock:
                self._totals[part] += took_s


def read_marks(file: str) -> Marked:
    """Zeros where the server keeps none."""
    if not file:
        return Marked(0.0, 0.0)
    totals = np.fromfile(file, dtype=np.float64, count=len(Part))
    return Marked(float(totals[Part.ENGINE]), float(totals[Part.TOKENIZER]))
