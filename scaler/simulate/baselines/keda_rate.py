"""KEDA on request rate: so many requests/s for each pod, through the HPA that KEDA makes.

Source: kedacore/keda (ScaledObject specification; pkg/scalers/prometheus_scaler.go) and the HPA's law for an
external metric with an AverageValue target (`hpa_law`). pollingInterval (30 s) only moves between 0 and 1
replicas; from 1 on the HPA asks KEDA each sync, 15 s, and KEDA asks the trigger each time (useCachedMetrics
is off by default). The rate is that of the last minute: the default window of KEDA's HTTP add-on. The target
is 70% of what one replica can do within the SLO, batching as shipped.
"""

from __future__ import annotations

from collections import deque

from scaler.operating_point import OperatingPoint
from scaler.policy_sections import Replicas
from scaler.simulate.baselines.hpa_law import DEFAULT_BEHAVIOR, SYNC_S, Steadied, pods_for_total
from scaler.simulate.contender import Seen, Wish

TARGET_SHARE = 0.70  # of a replica's rate at the SLO
RATE_WINDOW_S = 60.0


class KedaRate:
    """`target_rps` is what each replica shall take."""

    period_s = SYNC_S

    def __init__(self, name: str, bounds: Replicas, point: OperatingPoint, target_rps: float) -> None:
        self.name = name
        self._bounds = bounds
        self._point = point
        self._target_rps = target_rps
        self._arrived: deque[tuple[float, float, float]] = deque()  # (end, span, requests)
        self._replicas = 0
        self._steadied = Steadied(DEFAULT_BEHAVIOR, bounds, 0)

    def start(self, replicas: int) -> Wish:
        self._arrived.clear()
        self._replicas = replicas
        self._steadied = Steadied(DEFAULT_BEHAVIOR, self._bounds, replicas)
        return Wish(replicas, self._point)

    def decide(self, seen: Seen) -> Wish:
        if seen.data:
            proposal = pods_for_total(self._replicas, self._rate_rps(seen), self._target_rps)
            self._replicas = self._steadied.settle(seen.now_s, self._replicas, proposal)
        return Wish(self._replicas, self._point)

    def _rate_rps(self, seen: Seen) -> float:
        self._arrived.append((seen.now_s, seen.span_s, seen.arrivals_rps * seen.span_s))
        while self._arrived[0][0] <= seen.now_s - RATE_WINDOW_S:
            self._arrived.popleft()
        return sum(count for _, _, count in self._arrived) / sum(span_s for _, span_s, _ in self._arrived)
