"""What a fleet did in a span of the simulation: counted once, read by the telemetry and by the ledger.

A mutable sum, without behaviour but adding.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from scaler.simulate.latency_grid import Shape


@dataclass(slots=True)
class Served:
    """Requests may be fractions: at the binned level they are expected numbers."""

    arrivals: float = 0.0
    answered: float = 0.0
    refused: float = 0.0
    failed: float = 0.0
    over: float = 0.0  # answered later than the SLO
    batches: float = 0.0
    computed: float = 0.0  # texts
    ready_s: float = 0.0  # of all ready or draining replicas together
    busy_s: float = 0.0  # of these, computing
    busy_j: float = 0.0
    idle_j: float = 0.0  # of the rest; below 0 where a batch is counted before its time
    startup_j: float = 0.0  # of starts, and of loading another variant
    parked_j: float = 0.0
    in_flight_s: float = 0.0  # requests × seconds in the fleet
    waiting: float = 0.0  # texts at the end of the span
    latencies: list[tuple[Shape, float]] = field(default_factory=list)  # with the requests that have them

    def rest(self, idle_w: float) -> Served:
        """With the joules of the time in which nothing was computed."""
        self.idle_j = idle_w * (self.ready_s - self.busy_s)
        return self

    def add(self, other: Served, weight: float = 1.0) -> None:
        """So much of what came right after; its latencies are left to the caller."""
        self.arrivals += weight * other.arrivals
        self.answered += weight * other.answered
        self.refused += weight * other.refused
        self.failed += weight * other.failed
        self.over += weight * other.over
        self.batches += weight * other.batches
        self.computed += weight * other.computed
        self.ready_s += weight * other.ready_s
        self.busy_s += weight * other.busy_s
        self.busy_j += weight * other.busy_j
        self.idle_j += weight * other.idle_j
        self.startup_j += weight * other.startup_j
        self.parked_j += weight * other.parked_j
        self.in_flight_s += weight * other.in_flight_s
        self.waiting = other.waiting
