"""Every baseline by its name. Called by the commands that set contenders against each other.

minwatt itself is `scaler.simulate.minwatt`. The clairvoyant optimum is no contender: it decides nothing from
what it sees (`scaler.simulate.optimum`).
"""

from __future__ import annotations

import math
from collections.abc import Callable

from minwatt.v1.errors import UsageError
from scaler.operating_point import OperatingPoint
from scaler.policy_sections import Replicas
from scaler.simulate.baselines.hpa import Hpa
from scaler.simulate.baselines.hpa_tuned import tuned_hpa
from scaler.simulate.baselines.keda_rate import TARGET_SHARE, KedaRate
from scaler.simulate.baselines.kpa import Kpa
from scaler.simulate.baselines.latency_ratio import LatencyRatio
from scaler.simulate.baselines.ray_serve import RayServe
from scaler.simulate.baselines.server_settings import as_shipped, slowest_clock, with_slack
from scaler.simulate.baselines.static import Static, static_replicas
from scaler.simulate.capacity import rate_at_slo
from scaler.simulate.contender import Contender
from scaler.simulate.world import World

BOUNDED_SHARE = 1.5  # of the static fleet: the most that `hpa-bounded` may run


def _keda(name: str, world: World, point: OperatingPoint) -> KedaRate:
    most_rps = rate_at_slo(world, point, world.policy.spec.slo.error_budget)
    if most_rps <= 0:
        raise UsageError(
            f"contender {name}: a replica holds the SLO at no rate; allowed: a longer slo.latency"
        )
    return KedaRate(name, world.policy.spec.replicas, point, TARGET_SHARE * most_rps)


def _bounded(world: World) -> Replicas:
    bounds = world.policy.spec.replicas
    most = math.ceil(BOUNDED_SHARE * static_replicas(world, as_shipped(world)))
    return Replicas(min=bounds.min, max=max(bounds.min, min(bounds.max, most)))


_Factory = Callable[[str, World, int], Contender]

_FACTORIES: dict[str, _Factory] = {
    "static": lambda name, world, _: Static(name, world, as_shipped(world)),
    "hpa": lambda name, world, _: Hpa(name, world.policy.spec.replicas, as_shipped(world)),
    "hpa-tuned": tuned_hpa,
    "kpa": lambda name, world, _: Kpa(name, world.policy.spec.replicas, as_shipped(world)),
    "keda-rate": lambda name, world, _: _keda(name, world, as_shipped(world)),
    "ray-serve": lambda name, world, _: RayServe(name, world.policy.spec.replicas, as_shipped(world)),
    "latency-ratio": lambda name, world, _: LatencyRatio(name, world.policy.spec.replicas, as_shipped(world)),
    "static-slack": lambda name, world, _: Static(name, world, with_slack(world)),
    "hpa-slack": lambda name, world, _: Hpa(name, world.policy.spec.replicas, with_slack(world)),
    "hpa-bounded": lambda name, world, _: Hpa(name, _bounded(world), as_shipped(world)),
    "keda-rate-slow": lambda name, world, _: _keda(name, world, slowest_clock(world)),
}

BASELINES = tuple(_FACTORIES)


def initial_replicas(world: World) -> int:
    """The fleet that every contender starts with: that of `static`, which was there before."""
    return static_replicas(world, as_shipped(world))


def baseline(name: str, world: World, initial: int) -> Contender:
    """`initial` as in `initial_replicas`. `hpa-tuned` simulates several times here.

    Raises UsageError for a name that is not in BASELINES, or one that this world has no place for.
    """
    factory = _FACTORIES.get(name)
    if factory is None:
        raise UsageError(f"contender {name}: unknown; allowed: {', '.join(BASELINES)}")
    return factory(name, world, initial)
