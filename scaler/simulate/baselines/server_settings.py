"""The operating points that baselines leave their servers at: none knows of batching delays or clocks.

Called by the contenders of this folder.
"""

from __future__ import annotations

from dataclasses import replace

from minwatt.v1.errors import UsageError
from scaler.operating_point import OperatingPoint
from scaler.simulate.world import World


def as_shipped(world: World) -> OperatingPoint:
    """How servers ship: a batch leaves as soon as the engine is free, clocks are left alone, no reflex."""
    return OperatingPoint(
        version=1,
        max_batch_texts=world.policy.spec.batching.max_size,
        max_batch_tokens=world.profile.replica.max_batch_tokens,
        max_delay_s=0.0,
        slo_latency_s=world.slo_latency_s,
    )


def with_slack(world: World) -> OperatingPoint:
    """As shipped, but a text waits for company while its slack lasts, at most the policy's maxDelay."""
    return replace(as_shipped(world), max_delay_s=world.policy.spec.batching.max_delay_s)


def slowest_clock(world: World) -> OperatingPoint:
    """As shipped, with the clock pinned to the slowest of the set. Raises UsageError where there is none."""
    steps = world.clock_steps
    if not steps:
        raise UsageError(
            "a pinned clock needs the policy's gpu.clocks = auto and a profile with a clock set; "
            f"here gpu.clocks = {world.policy.spec.gpu.clocks} "
            f"and the profile has {len(world.profile.clock_sets)} clock sets"
        )
    return replace(as_shipped(world), sm_clock_mhz=steps[-1].sm_clock_mhz)
