"""llm-d's latency law: the tail over its SLO, kept between two thresholds.

Source: llm-d's guide "SLO-Aware Autoscaling with KEDA" (llm-d.ai/docs, operations/autoscaling/slo-aware, and
its control law under architecture/advanced/autoscaling/slo-aware-keda) with the settings of its scored run:
every 15 s, s = mean over 45 s of min(p90 / SLO, 2), an idle fleet counting as 0;

- s > 0.55: n + ⌈n·(s·credit / 0.55 - 1)⌉, credit = ready / n while pods start: their relief is still to come;
- s < 0.40: n - ⌊n·(1 - s / 0.40)⌋; between them n.

KEDA hands that to an HPA as an external metric (so the HPA's tolerance of 10% applies) with up max(4 pods,
100%) per 60 s, down 1 pod per 120 s after a window of 180 s. The original takes p90 of the last minute; here
it is that of the last 15 s, which is a little faster. One latency stands for its two, of first and of later
tokens.
"""

from __future__ import annotations

import math
from collections import deque

from scaler.operating_point import OperatingPoint
from scaler.policy_sections import Replicas
from scaler.simulate.baselines.hpa_law import SYNC_S, Behavior, ScalingPolicy, Steadied, pods_for_total
from scaler.simulate.contender import Seen, Wish

PERCENTILE = 90.0
CAP = 2.0
WINDOW_S = 45.0
UP_ABOVE = 0.55
DOWN_BELOW = 0.40
BEHAVIOR = Behavior(
    up=(ScalingPolicy("pods", 4, 60.0), ScalingPolicy("percent", 100, 60.0)),
    down_window_s=180.0,
    down=(ScalingPolicy("pods", 1, 120.0),),
)


def desired_replicas(ratio: float, replicas: int, ready: int) -> int:
    """The formula, before the HPA steadies it and before min and max. `ratio` is the smoothed one."""
    if ratio > UP_ABOVE:
        credit = ready / replicas if 0 < ready < replicas else 1.0
        return replicas + math.ceil(replicas * (ratio * credit / UP_ABOVE - 1) - 1e-9)
    if ratio < DOWN_BELOW:
        return replicas - math.floor(replicas * (1 - ratio / DOWN_BELOW) + 1e-9)
    return replicas


class LatencyRatio:
    period_s = SYNC_S

    def __init__(self, name: str, bounds: Replicas, point: OperatingPoint) -> None:
        self.name = name
        self._bounds = bounds
        self._point = point
        self._ratios: deque[tuple[float, float]] = deque()
        self._replicas = 0
        self._steadied = Steadied(BEHAVIOR, bounds, 0)

    def start(self, replicas: int) -> Wish:
        self._ratios.clear()
        self._replicas = replicas
        self._steadied = Steadied(BEHAVIOR, self._bounds, replicas)
        return Wish(replicas, self._point)

    def decide(self, seen: Seen) -> Wish:
        if seen.data:
            desired = desired_replicas(self._smoothed(seen), self._replicas, seen.ready)
            desired = min(max(desired, self._bounds.min), self._bounds.max)
            proposal = pods_for_total(self._replicas, desired, 1.0)
            self._replicas = self._steadied.settle(seen.now_s, self._replicas, proposal)
        return Wish(self._replicas, self._point)

    def _smoothed(self, seen: Seen) -> float:
        ratio = min(seen.latency_quantile_s(PERCENTILE) / self._point.slo_latency_s, CAP)
        self._ratios.append((seen.now_s, ratio))
        while self._ratios[0][0] <= seen.now_s - WINDOW_S:
            self._ratios.popleft()
        return sum(value for _, value in self._ratios) / len(self._ratios)
