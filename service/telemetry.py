"""What happens to requests and batches, told to counters (for the fleet), metrics (for people) and the
ledger.

Called on the event loop by `inference` and `batcher`; the only writer of the counters.
"""

from __future__ import annotations

from collections.abc import Sequence

from service.counters import Counters
from service.metrics import Metrics
from service.power import PowerBook
from service.request import ComputedBatch, Cost
from service.statuses import Refusal


class Telemetry:
    """One per replica."""

    def __init__(self, counters: Counters, metrics: Metrics, power: PowerBook) -> None:
        self.counters = counters
        self._metrics = metrics
        self._power = power

    @property
    def energy_source(self) -> str:
        return self._power.source

    def arrived(self) -> None:
        """At the door, before anything is looked at."""
        self.counters.arrivals += 1

    def entered(self) -> None:
        self.counters.in_flight += 1

    def left(self) -> None:
        self.counters.in_flight -= 1

    def answered(self, method: str, latency_s: float, cost: Cost, texts: int) -> None:
        """Latency from the door to the reply's being handed to gRPC."""
        self.counters.completions += 1
        self.counters.texts += texts
        self.counters.took(latency_s)
        self._metrics.request(method, "OK", latency_s)
        if cost.batch_texts:  # else all was known: nothing of it has queued
            self._metrics.queue.observe(cost.queue_s)

    def refused(self, method: str, latency_s: float, refusal: Refusal) -> None:
        self._lost(method, latency_s, refusal.reason, refusal.code.name)

    def cancelled(self, method: str, latency_s: float) -> None:
        """The client left."""
        self._lost(method, latency_s, "cancelled", "CANCELLED")

    def batch_computed(self, computed: ComputedBatch, tokens: Sequence[int]) -> Sequence[float] | None:
        """The joules of each of the batch's texts, or None."""
        total = sum(tokens)
        self.counters.tokens += total
        self.counters.padded_tokens += computed.padded_tokens
        self.counters.batch_sizes[len(tokens)] += 1
        self.counters.busy_s += computed.compute_s
        self._metrics.compute.observe(computed.compute_s)
        self._metrics.batch_texts.observe(len(tokens))
        self._metrics.batch_tokens.observe(computed.padded_tokens)
        return self._power.charge(computed.compute_s, tokens)

    def _lost(self, method: str, latency_s: float, reason: str, status: str) -> None:
        self.counters.refusals[reason] += 1
        self._metrics.request(method, status, latency_s)
