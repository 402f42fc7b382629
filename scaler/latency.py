"""Tail latency, load and batch of one replica from its operating point and arrivals: the batch-service queue.

Pure. Used by `plan` for each candidate; tests/scaler/test_latency.py checks it against a discrete simulation.

A batch of b texts takes S(b) = α + β·b. Texts arrive as a Poisson process of rate λ. A batch starts when
the engine is free and it is full (B texts) or its oldest text has waited D. The prediction has three closed
parts:

- mean batch: while one batch computes, m = λ·S(b) texts arrive; the next has those, or one text if none came:
  b = m + e^(-m), at least the 1 + λ·D of an idle engine, at most B. A fixed point.
- wait by pacing: the tail text waits for D, or for the batch before it, S(b_q). The batch's q-quantile b_q is
  Poisson's, g + z·sqrt(g / (1 - (λβ)²)) of the g texts gathered: a batch in turn makes the next one larger.
- wait by congestion: when more than B wait, P(wait > t) ≈ ρ·e^(-x·μ·t), with capacity μ = B/S(B), ρ = λ/μ and
  x the positive root of ρ(e^x - 1) = x (the Lundberg exponent of Poisson arrivals with deterministic
  service; see Asmussen, "Applied Probability and Queues", 2003, ch. XIII).

Tail = max(both waits) + S(b_q). Against simulation it lies within -20% and +60%, high at light load where
latency is far below any SLO.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

_FIXED_POINT_STEPS = 30
_NEWTON_STEPS = 6
_MAX_FEEDBACK = 0.9  # nearer to 1 the batch is bounded by B, not by its own feedback


@dataclass(frozen=True, slots=True)
class BatchServer:
    """One replica. `alpha_s`, `beta_s_per_text`: the service time's line at the texts' present length."""

    alpha_s: float
    beta_s_per_text: float
    max_batch_texts: int
    max_delay_s: float

    def service_s(self, batch_texts: float) -> float:
        return self.alpha_s + self.beta_s_per_text * batch_texts

    @property
    def capacity_tps(self) -> float:
        """Texts a second with every batch full."""
        return self.max_batch_texts / self.service_s(self.max_batch_texts)


@dataclass(frozen=True, slots=True)
class Steady:
    """The steady state. `tail_s` is infinite at a load of 1 or more: the queue grows without end."""

    tail_s: float
    load: float  # arrivals over capacity; may exceed 1
    busy_fraction: float  # of time the engine computes
    batch_mean_texts: float


def steady_state(server: BatchServer, arrivals_tps: float, percentile: float) -> Steady:
    """`arrivals_tps` in texts a second, `percentile` in (0, 100)."""
    load = arrivals_tps / server.capacity_tps
    if load >= 1:
        return Steady(math.inf, load, 1.0, server.max_batch_texts)
    batch = _mean_batch(server, arrivals_tps)
    busy = arrivals_tps * server.service_s(batch) / batch
    miss = 1 - percentile / 100
    delay_s = server.max_delay_s if server.max_batch_texts > 1 else 0.0
    gathered = arrivals_tps * max(server.service_s(batch), delay_s)
    feedback = min(_MAX_FEEDBACK, arrivals_tps * server.beta_s_per_text)
    spread = NormalDist().inv_cdf(1 - miss) * math.sqrt(gathered / (1 - feedback**2))
    own_s = server.service_s(min(server.max_batch_texts, 1 + gathered + max(0.0, spread)))
    before_s = own_s if busy > 0 else 0.0
    wait_s = max(delay_s, before_s, _congestion_wait_s(load, server.capacity_tps, miss))
    return Steady(wait_s + own_s, load, min(1.0, busy), batch)


def _mean_batch(server: BatchServer, arrivals_tps: float) -> float:
    at_idle = 1 + arrivals_tps * server.max_delay_s
    batch = 1.0
    for _ in range(_FIXED_POINT_STEPS):
        arrived = arrivals_tps * server.service_s(batch)
        before, batch = batch, min(server.max_batch_texts, max(arrived + math.exp(-arrived), at_idle))
        if abs(batch - before) < 1e-3 * batch:
            break
    return batch


def _congestion_wait_s(load: float, capacity_tps: float, miss: float) -> float:
    """Newton from 2·ln(1/ρ), right of the root of a convex function: it falls to it monotonically."""
    if load <= miss:
        return 0.0
    exponent = 2 * math.log(1 / load)
    for _ in range(_NEWTON_STEPS):
        slope = load * math.exp(exponent) - 1
        if slope <= 0:
            break
        exponent -= (load * math.expm1(exponent) - exponent) / slope
    return math.log(load / miss) / max(exponent, 1e-9) / capacity_tps
