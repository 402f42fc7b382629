"""Static peak: a fleet that never changes, as small as holds the SLO in the busiest bin.

Source: what fleets without an autoscaler do, and what was there before one came: every contender starts with
this fleet. The peak is known in hindsight, so no real static fleet does better.
"""

from __future__ import annotations

import math

from scaler.operating_point import OperatingPoint
from scaler.simulate.capacity import rate_at_slo
from scaler.simulate.contender import Seen, Wish
from scaler.simulate.world import World


def static_replicas(world: World, point: OperatingPoint) -> int:
    """The fewest at that point of which at most the policy's error budget is late at the peak; within min and
    max.
    """
    bounds = world.policy.spec.replicas
    each_rps = rate_at_slo(world, point, world.policy.spec.slo.error_budget)
    needed = math.ceil(world.traffic.peak_rps / each_rps) if each_rps > 0 else bounds.max
    return min(max(needed, bounds.min), bounds.max)


class Static:
    """Always the same replicas at the same operating point."""

    period_s = 60.0

    def __init__(self, name: str, world: World, point: OperatingPoint) -> None:
        self.name = name
        self._wish = Wish(static_replicas(world, point), point)

    def start(self, replicas: int) -> Wish:  # noqa: ARG002 - it is what it is
        return self._wish

    def decide(self, seen: Seen) -> Wish:  # noqa: ARG002 - and looks at nothing
        return self._wish
