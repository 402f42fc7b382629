"""HPA v2 on the utilisation of GPUs, as the guides with NVIDIA's DCGM exporter set it up.

Source: kubernetes/kubernetes pkg/controller/podautoscaler (see `hpa_law`). Defaults: sync 15 s, tolerance
0.1, scale-down window 300 s, up by max(4 pods, 100%) per 15 s. The metric is the share of time that the GPU
computes (DCGM_FI_DEV_GPU_UTIL), its mean over the last sync period: kinder than a scrape's single sample.
A GPU that computes batches of one all the time shows 100%, so this law mistakes a busy GPU for a full one.
"""

from __future__ import annotations

from scaler.operating_point import OperatingPoint
from scaler.policy_sections import Replicas
from scaler.simulate.baselines.hpa_law import DEFAULT_BEHAVIOR, SYNC_S, Behavior, Steadied, pods_for_average
from scaler.simulate.contender import Seen, Wish

DEFAULT_TARGET = 0.70


class Hpa:
    """`target` is the share of time that ready GPUs shall compute."""

    period_s = SYNC_S

    def __init__(
        self,
        name: str,
        bounds: Replicas,
        point: OperatingPoint,
        target: float = DEFAULT_TARGET,
        behavior: Behavior = DEFAULT_BEHAVIOR,
    ) -> None:
        self.name = name
        self._bounds = bounds
        self._point = point
        self._target = target
        self._behavior = behavior
        self._replicas = 0
        self._steadied = Steadied(behavior, bounds, 0)

    def start(self, replicas: int) -> Wish:
        self._replicas = replicas
        self._steadied = Steadied(self._behavior, self._bounds, replicas)
        return Wish(replicas, self._point)

    def decide(self, seen: Seen) -> Wish:
        if seen.data and seen.ready > 0:
            proposal = pods_for_average(
                self._replicas, seen.ready, seen.starting, seen.busy_fraction, self._target
            )
            self._replicas = self._steadied.settle(seen.now_s, self._replicas, proposal)
        return Wish(self._replicas, self._point)
