"""What came of one contender in one world: the figures of a report's row, and curves to draw.

A value, with the law that its parts keep: `energy_j` is the sum of idle, busy and start-up.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """At most 2,000 points each: means over a point's span; `p99_ms` is the span's own, NaN without any."""

    t_s: _Floats  # where the span begins
    arrivals_rps: _Floats
    replicas_ready: _Floats
    p99_ms: _Floats
    watts: _Floats


@dataclass(frozen=True, slots=True)
class Outcome:
    """Over the time with data. Latencies are of answered requests, at the server: queue + compute."""

    contender: str
    seconds: float
    requests: int
    answered: int
    refused: int  # by a full queue
    failed: int  # none was ready, or its replica crashed
    over_slo: float  # answered later than the SLO; expected number at the binned level
    idle_j: float  # ready and not computing, and parked devices
    busy_j: float
    startup_j: float
    p50_ms: float  # 0 if nothing was answered
    p99_ms: float
    batch_mean: float  # texts; 0 if nothing was computed
    replicas_mean: float  # ready
    replicas_max: int  # ready
    reversals: int  # desired replicas turned up after down, or down after up
    underprovisioned_s: float  # more arrived than the ready replicas could do within the SLO
    overprovisioned_s: float  # one replica fewer (not below policy's min) would have held the SLO too
    series: Series

    @property
    def energy_j(self) -> float:
        return self.idle_j + self.busy_j + self.startup_j

    @property
    def over_slo_fraction(self) -> float:
        """Slower than the SLO, refused or failed, of all requests."""
        return (self.over_slo + self.refused + self.failed) / self.requests if self.requests else 0.0
