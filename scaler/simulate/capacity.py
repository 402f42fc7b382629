"""What one replica can do within the SLO: the question of every law that scales by a rate.

Pure but for the tables' cache in `steady`. Called by baselines, and by `run` to say which times were under-
and overprovisioned.
"""

from __future__ import annotations

from scaler.operating_point import OperatingPoint
from scaler.simulate.rules import rules_of
from scaler.simulate.steady import arrival_c2, steady_table
from scaler.simulate.world import World

_BATCHES_IN_SLO = 2.5  # the one in the engine, one's own, and half of one that still waits


def rate_at_slo(world: World, point: OperatingPoint, miss: float, replicas: float = 1) -> float:
    """Requests/s of one of `replicas` with at most `miss` of them over the SLO; 0 if no rate keeps it."""
    return steady_table(rules_of(world, point), arrival_c2(world.arrival_cv, replicas)).rate_at(miss)


def best_rate_at_slo(world: World, miss: float, replicas: float = 1) -> float:
    """As `rate_at_slo`, at the full clock, without delay, and with the largest batches that the policy allows
    and of which two and a half take no longer than the SLO.
    """
    spec = world.policy.spec
    engine = world.engine()
    fitting = ((spec.slo.latency_s / _BATCHES_IN_SLO) - engine.alpha_s) / engine.beta_s_per_text
    point = OperatingPoint(
        version=1,
        max_batch_texts=max(1, min(spec.batching.max_size, int(fitting))),
        max_batch_tokens=world.profile.replica.max_batch_tokens,
        max_delay_s=0.0,
        slo_latency_s=spec.slo.latency_s,
    )
    return rate_at_slo(world, point, miss, replicas)
