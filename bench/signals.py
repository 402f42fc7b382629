"""How long one beat of the scaler takes: reading the reports of a whole fleet, sketches included.

    python -m bench.signals

Prints milliseconds of one core's time per beat for fleets of 100, 1,000 and 10,000 replicas that each report
once a second, and the growth from one size to the next: ten where the work is in proportion to the fleet.
"""

from __future__ import annotations

import time
from statistics import median

import numpy as np
from rich.console import Console
from rich.table import Table

from scaler.bus import FleetView
from scaler.latency_sketch import encode
from scaler.report import Metered, ReplicaState, Report
from scaler.signals import SignalMemory, SignalRules, Signals, observe

SIZES = (100, 1_000, 10_000)
BEATS = 15  # more than the latency window is long: its length is reached
TEXTS_PER_S = 60
SKETCHES = 500  # different ones
RULES = SignalRules(rate_window_s=4.5)


def fleet(replicas: int, second: int, sketches: list[bytes]) -> FleetView:
    """One second's reports; each replica answers TEXTS_PER_S in batches of ten."""
    total = TEXTS_PER_S * second
    reports = tuple(
        Report(
            replica_id=f"replica-{index}",
            received_s=second - index / replicas,
            state=ReplicaState.READY,
            power=Metered("nvml", f"GPU-{index}", 90.0 * second, 90.0),
            host=f"node-{index // 8}",
            arrivals_total=total + 3,
            completions_total=total,
            refusals_total={"queue_full": 2, "deadline": 1} if index % 20 == 0 else {},
            texts_total=total,
            tokens_total=20 * total,
            padded_tokens_total=23 * total,
            batches_total=total // 10,
            batched_texts_total=total,
            busy_s_total=0.4 * second,
            queue_depth=2,
            in_flight=3,
            latency_sketch=sketches[(index + 7 * second) % len(sketches)],
            start_up_s=40.0,
        )
        for index in range(replicas)
    )
    return FleetView(frozenset(report.replica_id for report in reports), reports)


def beat_ms(replicas: int, sketches: list[bytes]) -> float:
    """The median beat once the windows are full."""
    memory, taken_ms = SignalMemory(), []
    for second in range(1, BEATS + 1):
        view = fleet(replicas, second, sketches)
        began_s = time.process_time()
        memory, seen = observe(memory, view, float(second), RULES)
        taken_ms.append((time.process_time() - began_s) * 1e3)
    if not isinstance(seen, Signals) or seen.latencies is None:
        raise RuntimeError("the made-up fleet was not seen")
    return median(taken_ms[len(taken_ms) // 2 :])


def main() -> None:
    draw = np.random.default_rng(0)
    sketches = [encode(draw.gamma(4.0, 0.004, TEXTS_PER_S)) for _ in range(SKETCHES)]
    table = Table("replicas", "ms a beat", "× the size before", title="scaler.signals.observe")
    before_ms: float | None = None
    for size in SIZES:
        taken_ms = beat_ms(size, sketches)
        table.add_row(f"{size:,}", f"{taken_ms:.2f}", f"{taken_ms / before_ms:.1f}" if before_ms else "")
        before_ms = taken_ms
    Console().print(table)


if __name__ == "__main__":
    main()
