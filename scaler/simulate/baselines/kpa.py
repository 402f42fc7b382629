"""Knative's pod autoscaler on concurrency: a stable minute, and a panic of six seconds.

Source: knative/serving pkg/autoscaler/scaling/autoscaler.go (`Scale`) and pkg/autoscaler/config/config.go.
Defaults: tick 2 s, stable window 60 s, panic window 10% of it, panic at 200% of the ready pods, up at most
1000 ×, down at most to a half per tick. Target: container-concurrency-target-default 100 at 70% utilisation,
so 70 requests in a pod, waiting ones included. That is Knative's choice for a service that states no
concurrency of its own; nothing in it knows of an SLO. Scale to zero is off: the policy's min is 1 or more.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

from scaler.operating_point import OperatingPoint
from scaler.policy_sections import Replicas
from scaler.simulate.contender import Seen, Wish


@dataclass(frozen=True, slots=True)
class KpaSettings:
    """`config-autoscaler`, its defaults."""

    tick_s: float = 2.0
    stable_window_s: float = 60.0
    panic_window_s: float = 6.0
    panic_threshold: float = 2.0  # of the ready pods
    target: float = 100 * 0.7  # requests in a pod
    max_up: float = 1000.0  # times the ready pods
    max_down: float = 2.0


class Kpa:
    def __init__(
        self, name: str, bounds: Replicas, point: OperatingPoint, settings: KpaSettings = KpaSettings()
    ) -> None:
        self.name = name
        self.period_s = settings.tick_s
        self._bounds = bounds
        self._point = point
        self._settings = settings
        self._samples: deque[tuple[float, float, float]] = deque()  # (end, span, requests in the fleet)
        self._panicked_at_s: float | None = None
        self._panic_pods = 0
        self._replicas = 0

    def start(self, replicas: int) -> Wish:
        self._samples.clear()
        self._replicas = replicas
        # A new autoscaler begins in panic, or its first look at an empty window would let pods go.
        self._panicked_at_s = 0.0 if replicas > 1 else None
        self._panic_pods = replicas if replicas > 1 else 0
        return Wish(replicas, self._point)

    def decide(self, seen: Seen) -> Wish:
        if seen.data:
            self._samples.append((seen.now_s, seen.span_s, seen.in_flight))
            desired = self._desired(seen.now_s, max(1, seen.ready))
            self._replicas = min(max(desired, self._bounds.min), self._bounds.max)
        return Wish(self._replicas, self._point)

    def _desired(self, now_s: float, ready: int) -> int:
        settings = self._settings
        while self._samples[0][0] <= now_s - settings.stable_window_s:
            self._samples.popleft()
        most = math.ceil(settings.max_up * ready)
        least = math.floor(ready / settings.max_down)
        panic_pods = math.ceil(self._mean(now_s - settings.panic_window_s) / settings.target)
        stable_pods = math.ceil(self._mean(now_s - settings.stable_window_s) / settings.target)
        desired = min(max(stable_pods, least), most)
        if panic_pods / ready >= settings.panic_threshold:
            self._panicked_at_s = now_s
        elif self._panicked_at_s is not None and self._panicked_at_s + settings.stable_window_s < now_s:
            self._panicked_at_s = None
            self._panic_pods = 0
        if self._panicked_at_s is None:
            return desired
        # In a panic pods are only added.
        self._panic_pods = max(self._panic_pods, desired, min(max(panic_pods, least), most))
        return self._panic_pods

    def _mean(self, after_s: float) -> float:
        window = [(span_s, value) for end_s, span_s, value in self._samples if end_s > after_s]
        seconds = sum(span_s for span_s, _ in window)
        return sum(span_s * value for span_s, value in window) / seconds
