"""The arithmetic of the Kubernetes HorizontalPodAutoscaler: from a metric to pods, and what steadies it.

Source: kubernetes/kubernetes, pkg/controller/podautoscaler/replica_calculator.go (proposals) and
horizontal.go (normalizeDesiredReplicasWithBehaviors), and the documented default `behavior` of
autoscaling/v2: https://kubernetes.io/docs/concepts/workloads/autoscaling/horizontal-pod-autoscale/.
Pure: time is an argument. Used by the contenders that are or drive an HPA: `hpa`, `keda_rate`,
`latency_ratio`.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from scaler.policy_sections import Replicas

SYNC_S = 15.0  # --horizontal-pod-autoscaler-sync-period
TOLERANCE = 0.1  # --horizontal-pod-autoscaler-tolerance
_ROUNDING = 1e-9  # the controller counts in thousandths: 2.0000000001 pods are 2


def pods_for_average(current: int, ready: int, starting: int, average: float, target: float) -> int:
    """Of a metric that each pod has: `average` over the `ready` pods, `target` for each.

    Pods that are not yet ready are left out, and on a scale-up counted as using nothing; if that turns the
    direction or brings the ratio within the tolerance, nothing changes. `ready` is 1 or more.
    """
    ratio = average / target
    if starting == 0 or ratio <= 1.0:
        return current if _tolerated(ratio) else _ceil(ratio * ready)
    counted = ready + starting
    ratio *= ready / counted
    if _tolerated(ratio) or ratio < 1.0:
        return current
    return max(current, _ceil(ratio * counted))


def pods_for_total(current: int, total: float, target: float, tolerance: float = TOLERANCE) -> int:
    """Of an external metric with an AverageValue target: `total` of the fleet, `target` for each pod."""
    return current if _tolerated(total / (target * current), tolerance) else _ceil(total / target)


@dataclass(frozen=True, slots=True)
class ScalingPolicy:
    """At most that many pods, or percent of the pods, in `period_s`."""

    kind: Literal["pods", "percent"]
    value: float
    period_s: float

    def change(self, pods: int) -> float:
        return self.value if self.kind == "pods" else pods * self.value / 100


@dataclass(frozen=True, slots=True)
class Behavior:
    """`spec.behavior` with selectPolicy Max. The defaults are Kubernetes' documented ones."""

    up_window_s: float = 0.0
    up: tuple[ScalingPolicy, ...] = (ScalingPolicy("pods", 4, 15.0), ScalingPolicy("percent", 100, 15.0))
    down_window_s: float = 300.0
    down: tuple[ScalingPolicy, ...] = (ScalingPolicy("percent", 100, 15.0),)


DEFAULT_BEHAVIOR = Behavior()


@dataclass(frozen=True, slots=True)
class _Change:
    at_s: float
    pods: int  # more than before; negative: fewer


class Steadied:
    """Takes proposals and gives what the HPA would set: windows, then policies, then min and max."""

    def __init__(self, behavior: Behavior, bounds: Replicas, replicas: int) -> None:
        self._behavior = behavior
        self._bounds = bounds
        self._recommended: deque[tuple[float, int]] = deque([(0.0, replicas)])
        self._changes: deque[_Change] = deque()

    def settle(self, now_s: float, current: int, proposal: int) -> int:
        """`current` is what was set last. `now_s` never goes back."""
        bounds = self._bounds
        if not bounds.min <= current <= bounds.max:
            desired = min(max(current, bounds.min), bounds.max)
        else:
            steady = self._within_windows(now_s, current, proposal)
            desired = min(max(self._within_policies(now_s, current, steady), bounds.min), bounds.max)
        if desired != current:
            self._changes.append(_Change(now_s, desired - current))
        return desired

    def _within_windows(self, now_s: float, current: int, proposal: int) -> int:
        """Up to the lowest recommendation of the up window, down to the highest of the down window."""
        behavior, kept = self._behavior, self._recommended
        while kept and kept[0][0] <= now_s - max(behavior.up_window_s, behavior.down_window_s):
            kept.popleft()
        lowest = min([proposal, *(pods for at_s, pods in kept if at_s > now_s - behavior.up_window_s)])
        highest = max([proposal, *(pods for at_s, pods in kept if at_s > now_s - behavior.down_window_s)])
        kept.append((now_s, proposal))
        return min(max(current, lowest), highest)

    def _within_policies(self, now_s: float, current: int, desired: int) -> int:
        behavior = self._behavior
        longest_s = max(policy.period_s for policy in (*behavior.up, *behavior.down))
        while self._changes and self._changes[0].at_s <= now_s - longest_s:
            self._changes.popleft()
        if desired > current:
            limits = [
                _ceil(pods + policy.change(pods))
                for policy, pods in self._before(now_s, current, behavior.up)
            ]
            return min(desired, max(current, *limits))
        if desired < current:
            limits = [
                math.floor(pods - policy.change(pods) + _ROUNDING)
                for policy, pods in self._before(now_s, current, behavior.down)
            ]
            return max(desired, min(current, *limits))
        return desired

    def _before(
        self, now_s: float, current: int, policies: Iterable[ScalingPolicy]
    ) -> list[tuple[ScalingPolicy, int]]:
        """Each policy with the pods there were when its period began."""
        return [
            (policy, current - sum(c.pods for c in self._changes if c.at_s > now_s - policy.period_s))
            for policy in policies
        ]


def _tolerated(ratio: float, tolerance: float = TOLERANCE) -> bool:
    return abs(1.0 - ratio) <= tolerance + _ROUNDING


def _ceil(pods: float) -> int:
    return math.ceil(pods - _ROUNDING)
