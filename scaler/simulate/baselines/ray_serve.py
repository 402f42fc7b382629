"""Ray Serve's default autoscaling policy: so many ongoing requests in each replica, up and down with delay.

Source: ray-project/ray python/ray/serve/autoscaling_policy.py (replica_queue_length_autoscaling_policy) and
`AutoscalingConfig` (python/ray/serve/config.py). Defaults: target_ongoing_requests 2, upscale_delay_s 30,
downscale_delay_s 600, metrics every 10 s, mean over the last 30 s, both scaling factors 1. A decision takes
effect when it was the same direction, without a break, for the whole delay; Ray looks ten times a second at
metrics that come every 10 s, so looking at each of them once is the same.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

from scaler.operating_point import OperatingPoint
from scaler.policy_sections import Replicas
from scaler.simulate.contender import Seen, Wish


@dataclass(frozen=True, slots=True)
class RaySettings:
    """`AutoscalingConfig`, its defaults."""

    target_ongoing_requests: float = 2.0
    metrics_interval_s: float = 10.0
    look_back_period_s: float = 30.0
    upscale_delay_s: float = 30.0
    downscale_delay_s: float = 600.0


class RayServe:
    def __init__(
        self, name: str, bounds: Replicas, point: OperatingPoint, settings: RaySettings = RaySettings()
    ) -> None:
        self.name = name
        self.period_s = settings.metrics_interval_s
        self._bounds = bounds
        self._point = point
        self._settings = settings
        self._ongoing: deque[tuple[float, float]] = deque()  # (at, requests in the fleet)
        self._in_a_row = 0  # decisions up; negative: down
        self._replicas = 0

    def start(self, replicas: int) -> Wish:
        self._ongoing.clear()
        self._in_a_row = 0
        self._replicas = replicas
        return Wish(replicas, self._point)

    def decide(self, seen: Seen) -> Wish:
        if seen.data:
            self._ongoing.append((seen.now_s, seen.in_flight))
            while self._ongoing[0][0] <= seen.now_s - self._settings.look_back_period_s:
                self._ongoing.popleft()
            ongoing = sum(value for _, value in self._ongoing) / len(self._ongoing)
            desired = math.ceil(ongoing / self._settings.target_ongoing_requests - 1e-9)
            self._replicas = self._delayed(min(max(desired, self._bounds.min), self._bounds.max))
        return Wish(self._replicas, self._point)

    def _delayed(self, desired: int) -> int:
        settings = self._settings
        if desired > self._replicas:
            self._in_a_row = max(self._in_a_row, 0) + 1
            waited = self._in_a_row > int(settings.upscale_delay_s / settings.metrics_interval_s)
        elif desired < self._replicas:
            self._in_a_row = min(self._in_a_row, 0) - 1
            waited = -self._in_a_row > int(settings.downscale_delay_s / settings.metrics_interval_s)
        else:
            self._in_a_row = 0
            return desired
        if not waited:
            return self._replicas
        self._in_a_row = 0
        return desired
