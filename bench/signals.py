"""What a fleet's reports cost the scaler each second: as they come, in pages, and in the beat that looks.

    python -m bench.signals

Prints milliseconds of one core's time for fleets of 1 to 10,000 replicas that each report once a second, and
how much a beat's grows from one size to the next: ten where the work is in proportion to the fleet.
"""

from __future__ import annotations

import time
from statistics import median

import numpy as np
from rich.console import Console
from rich.table import Table

from scaler.bus import FleetView
from scaler.latency_sketch import encode
from scaler.pages import Unread
from scaler.report import Metered, ReplicaState, Report
from scaler.signals import SignalMemory, SignalRules, Signals, observe

SIZES = (1, 10, 100, 1_000, 10_000)
BEATS = 15  # more than the latency window is long: its length is reached
TEXTS_PER_S = 60
SKETCHES = 500  # different ones
RULES = SignalRules(rate_window_s=4.5)


def fleet(replicas: int, second: int, sketches: list[bytes]) -> list[Report]:
    """One second's reports; each replica answers TEXTS_PER_S in batches of ten."""
    total = TEXTS_PER_S * second
    return [
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
    ]


def second_ms(replicas: int, sketches: list[bytes]) -> tuple[float, float]:
    """Of the reports as they come, and of the beat; the median once the windows are full."""
    memory, unread = SignalMemory(), Unread()
    members = frozenset(report.replica_id for report in fleet(replicas, 0, sketches))
    taken_ms = []
    for second in range(1, BEATS + 1):
        reports = fleet(replicas, second, sketches)
        began_s = time.process_time()
        for report in reports:
            unread.add(report)
        came_s = time.process_time()
        memory, seen = observe(memory, FleetView(members, unread.taken()), float(second), RULES)
        taken_ms.append(((came_s - began_s) * 1e3, (time.process_time() - came_s) * 1e3))
    if not isinstance(seen, Signals) or seen.latencies is None:
        raise RuntimeError("the made-up fleet was not seen")
    coming, beat = zip(*taken_ms[len(taken_ms) // 2 :], strict=True)
    return median(coming), median(beat)


def main() -> None:
    draw = np.random.default_rng(0)
    sketches = [encode(draw.gamma(4.0, 0.004, TEXTS_PER_S)) for _ in range(SKETCHES)]
    table = Table(
        "replicas", "ms as they come", "ms a beat", "× the size before", title="reports to scaler.signals"
    )
    before_ms: float | None = None
    for size in SIZES:
        coming_ms, taken_ms = second_ms(size, sketches)
        growth = f"{taken_ms / before_ms:.1f}" if before_ms else ""
        table.add_row(f"{size:,}", f"{coming_ms:.2f}", f"{taken_ms:.2f}", growth)
        before_ms = taken_ms
    Console().print(table)


if __name__ == "__main__":
    main()
