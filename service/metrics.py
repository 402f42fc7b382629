"""Prometheus: the only file that imports its client. Base units; watts and joules carry their `source`.

Owns the registry and its HTTP server. Fed by `telemetry`; all else is read at each scrape.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping
from typing import Protocol
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from energy import Reading
from minwatt.v1.errors import UsageError
from minwatt.v1.fleet_pb2 import REPLICA_STATE_READY
from service.replica import Residents, Sources
from service.statuses import REASONS
from service.tally import Tally

LATENCY_BUCKETS = (
    0.001,
    0.002,
    0.005,
    0.01,
    0.02,
    0.03,
    0.04,
    0.05,
    0.075,
    0.1,
    0.15,
    0.2,
    0.3,
    0.5,
    1,
    2,
    5,
    10,
)
HZ_PER_MHZ = 1_000_000
SIZE_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
TOKEN_BUCKETS = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)


class ModelChanges(Protocol):
    """Counts by model name since the start, and what is resident now."""

    @property
    def models(self) -> Residents: ...
    @property
    def replacements(self) -> Mapping[str, int]: ...
    @property
    def failures(self) -> Mapping[str, int]: ...


class Metrics:
    """A replica's metrics and, once `serve` was called, their HTTP endpoint."""

    def __init__(self, sources: Sources) -> None:
        self.registry = CollectorRegistry()
        self._server: WSGIServer | None = None
        self.requests: dict[tuple[str, str], Tally] = {}  # by method and gRPC status
        self.queue = Tally(LATENCY_BUCKETS)
        self.compute = Tally(LATENCY_BUCKETS)
        self.batch_texts = Tally(SIZE_BUCKETS)
        self.batch_tokens = Tally(TOKEN_BUCKETS)
        self.registry.register(_Past(self, sources))
        self.registry.register(_Present(sources))

    def watch_models(self, lifecycle: ModelChanges) -> None:
        """What is resident, and what was refused."""
        self.registry.register(_ByModel(lifecycle))

    def request(self, method: str, status: str, latency_s: float) -> None:
        """One that ended, however."""
        tally = self.requests.get((method, status))
        if tally is None:
            tally = self.requests[method, status] = Tally(LATENCY_BUCKETS)
        tally.observe(latency_s)

    def serve(self, host: str, port: int) -> int:
        """Serves `/metrics`; returns the port. Raises UsageError when it is taken."""
        try:
            self._server, _ = start_http_server(port, host, self.registry)
        except OSError as error:
            free = "; 0 takes a free one" if error.errno == errno.EADDRINUSE else ""
            raise UsageError(
                f"host = {host!r}, metrics-port = {port}: can't be bound ({error.strerror}){free}"
            ) from error
        return self._server.server_port

    def close(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()


class _Past(Collector):
    """What was counted since the start. Counters are the fleet report's own."""

    def __init__(self, metrics: Metrics, sources: Sources) -> None:
        self._metrics = metrics
        self._counters = sources.counters

    def collect(self) -> Iterator[Metric]:
        requests = HistogramMetricFamily(
            "minwatt_request_duration_seconds",
            "From the door to the reply, by method and gRPC status.",
            labels=["method", "status"],
        )
        for (method, status), tally in list(self._metrics.requests.items()):
            requests.add_metric([method, status], *tally.cumulative())
        yield requests
        for name, text, tally in (
            ("minwatt_queue_seconds", "From the door to the start of compute.", self._metrics.queue),
            ("minwatt_batch_compute_seconds", "Of a batch in the engine.", self._metrics.compute),
            ("minwatt_batch_texts", "Texts a batch.", self._metrics.batch_texts),
            ("minwatt_batch_padded_tokens", "Tokens a batch, padded.", self._metrics.batch_tokens),
        ):
            buckets, total = tally.cumulative()
            yield HistogramMetricFamily(name, text, buckets, total)
        counters = self._counters
        yield CounterMetricFamily("minwatt_tokens", "Computed, without padding.", counters.tokens)
        yield CounterMetricFamily("minwatt_padded_tokens", "Computed, with padding.", counters.padded_tokens)
        refusals = CounterMetricFamily("minwatt_refusals", "Requests without an answer.", labels=["reason"])
        for reason in REASONS:  # from the start at 0: a rate over the first refusal is then right
            refusals.add_metric([reason], counters.refusals[reason])
        yield refusals


class _Present(Collector):
    """Gauges and the meter's counters, read when scraped."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources

    def collect(self) -> Iterator[Metric]:
        replica, counters = self._sources.replica, self._sources.counters
        default = replica.default
        yield InfoMetricFamily(
            "minwatt_replica",
            "What this replica serves.",
            {
                "model": default.name,
                "version": default.directory.spec.version,
                "variant": default.variant,
                "replica_id": replica.process.replica_id,
            },
        )
        for name, text, value in (
            (
                "minwatt_ready",
                "1 while this replica takes requests.",
                float(replica.state == REPLICA_STATE_READY),
            ),
            ("minwatt_start_up_seconds", "From process start to ready.", replica.start_up_s),
            ("minwatt_queue_depth_texts", "Texts that wait.", float(replica.waiting_texts)),
            ("minwatt_in_flight_requests", "Accepted and not yet answered.", float(counters.in_flight)),
            (
                "minwatt_max_batch_texts",
                "Of the operating point.",
                float(replica.limits.max_texts),
            ),
            ("minwatt_max_delay_seconds", "Of the operating point.", replica.limits.max_delay_s),
            ("minwatt_operating_point_version", "In force.", float(replica.operating_point_version)),
            ("minwatt_reflex_raised", "1 while slack is short.", float(replica.raised)),
            ("minwatt_shedding", "1 while low priority is refused.", float(replica.shed_low_priority)),
        ):
            yield GaugeMetricFamily(name, text, value)
        yield CounterMetricFamily(
            "minwatt_arrivals", "Requests at the door, refused ones too.", counters.arrivals
        )
        yield CounterMetricFamily("minwatt_engine_busy_seconds", "Time the engine computed.", counters.busy_s)
        yield CounterMetricFamily(
            "minwatt_reflex_seconds", "Time in which slack was short.", replica.reflex_s_total
        )
        yield from self._clock()
        yield from self._energy()

    def _clock(self) -> Iterator[Metric]:
        """A clock that was not set here is not told as one."""
        clock = self._sources.card_clock
        yield GaugeMetricFamily(
            "minwatt_sm_clock_refused",
            "1 while the card is not at the clock it was to have.",
            float(bool(clock.refused)),
        )
        if clock.in_force_mhz:
            locked_hz = float(clock.in_force_mhz * HZ_PER_MHZ)
            yield GaugeMetricFamily("minwatt_sm_clock_locked_hertz", "Set by this replica.", locked_hz)

    def _energy(self) -> Iterator[Metric]:
        """Watts are left out while unknown: a missing sample is not zero."""
        power = self._sources.power
        known = GaugeMetricFamily("minwatt_meter_up", "1 while the meter gives watts.", labels=["source"])
        known.add_metric([power.meter.source], float(isinstance(power.last, Reading)))
        yield known
        if not isinstance(power.last, Reading):
            return
        watts = GaugeMetricFamily(
            "minwatt_power_watts", "Mean over the meter's last window.", labels=["source"]
        )
        watts.add_metric([power.last.source], power.last.watts)
        yield watts
        joules = CounterMetricFamily("minwatt_energy_joules", "Read from the meter.", labels=["source"])
        joules.add_metric([power.last.source], power.last.joules_total)
        yield joules
        shared = CounterMetricFamily(
            "minwatt_apportioned_joules", "Where the meter's joules went.", labels=["source", "part"]
        )
        totals = power.totals
        for part, value in (
            ("start_up", totals.start_up_j),
            ("idle", totals.idle_j),
            ("requests", totals.requests_j),
            ("unpriced", totals.unpriced_j),
        ):
            shared.add_metric([power.last.source, part], value)
        yield shared


class _ByModel(Collector):
    """Names are those of the directories that the replica was started with: never more labels."""

    def __init__(self, changes: ModelChanges) -> None:
        self._changes = changes

    def collect(self) -> Iterator[Metric]:
        resident = InfoMetricFamily("minwatt_model", "Resident now.", labels=["model"])
        replacements = CounterMetricFamily(
            "minwatt_model_replacements", "Loaded and put in its place.", labels=["model"]
        )
        failures = CounterMetricFamily(
            "minwatt_model_reload_failures", "Refused; what was there kept serving.", labels=["model"]
        )
        for name, model in self._changes.models.by_name.items():
            resident.add_metric([name], {"version": model.directory.spec.version, "variant": model.variant})
        for name, count in self._changes.replacements.items():
            replacements.add_metric([name], count)
        for name, count in self._changes.failures.items():
            failures.add_metric([name], count)
        yield from (resident, replacements, failures)
