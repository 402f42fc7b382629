"""What asking the queue costs with 10, 100 and 1,000 texts waiting, of 1 and of 8 tenants.

    python -m bench.polling

Prints microseconds of one core's time: of adding one text and of a poll that takes a batch of 16; medians.
The queue is kept at its size: what leaves is replaced.
"""

from __future__ import annotations

import math
import time
from statistics import median

import numpy as np
from rich.console import Console
from rich.table import Table

from service.queue import BatchLimits, BatchQueue
from service.service_time import ServiceTime
from service.waiting import Share, WaitingText

SIZES = (10, 100, 1_000)
POLLS = 300
LIMITS = BatchLimits(16, 2048, 0.005)
CPU = ServiceTime(alpha_s=0.001, beta_s_per_token=0.00002)


def measured_us(waiting: int, tenants: int) -> tuple[float, float]:
    """Of an `add` and of a `poll`."""
    draw = np.random.default_rng(0)
    lengths = np.clip(draw.lognormal(math.log(15), 0.6, waiting + 16 * POLLS).astype(int), 3, 128).tolist()
    queue: BatchQueue[int] = BatchQueue()
    now_s, added = 0.0, 0
    adding_us, polling_us = [], []

    def add() -> None:
        nonlocal added
        share = Share(f"tenant-{added % tenants}")
        text = WaitingText(added, lengths[added], now_s, now_s + 0.04, now_s + 30.0, share)
        queue.add(text)
        added += 1

    for _ in range(waiting):
        add()
        now_s += 1e-5
    for _ in range(POLLS):
        now_s += 0.005
        began = time.process_time_ns()
        gone = len(queue.poll(now_s, LIMITS, CPU).batch)
        polling_us.append((time.process_time_ns() - began) / 1e3)
        began = time.process_time_ns()
        for _ in range(gone):
            add()
        if gone:
            adding_us.append((time.process_time_ns() - began) / 1e3 / gone)
    return median(adding_us), median(polling_us)


def main() -> None:
    table = Table("texts waiting", "tenants", "add, µs", "poll, µs", title="service.queue.BatchQueue")
    for tenants in (1, 8):
        for waiting in SIZES:
            adding_us, polling_us = measured_us(waiting, tenants)
            table.add_row(f"{waiting:,}", str(tenants), f"{adding_us:.1f}", f"{polling_us:.0f}")
    Console().print(table)


if __name__ == "__main__":
    main()
