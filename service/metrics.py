"""Prometheus: the only file that imports its client. Base units; watts and joules carry their `source`.

Owns the registry and its HTTP server; names, words and labels are `metric_catalogue`'s. Fed by `telemetry`;
gauges are read from the replica at each scrape.
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
from service.access import Access
from service.cache.flights import Store, TextCounts
from service.capture.sampling import Sampling
from service.metric_catalogue import BY_NAME, SIZE_BUCKETS, TOKEN_BUCKETS, buckets
from service.replica import Residents, Sources
from service.statuses import REASONS
from service.tally import Tally

HZ_PER_MHZ = 1_000_000


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

        self._replica = sources.replica
        self._latency_bounds = buckets(BY_NAME["minwatt_request_duration_seconds"], sources.replica.slo_s)
        self.slo_met, self.slo_missed = 0, 0  # answered requests, by the SLO of that moment
        self.requests: dict[tuple[str, str], Tally] = {}  # by method and gRPC status
        self.queue = Tally(self._latency_bounds)
        self.compute = Tally(self._latency_bounds)
        self.batch_texts = Tally(SIZE_BUCKETS)
        self.batch_tokens = Tally(TOKEN_BUCKETS)
        self.registry.register(_Past(self, sources))
        self.registry.register(_Present(sources))

    def request(self, method: str, status: str, latency_s: float) -> None:
        """One that ended, however."""
        tally = self.requests.get((method, status))
        if tally is None:
            tally = self.requests[method, status] = Tally(self._latency_bounds)
        tally.observe(latency_s)
        if status == "OK":
            met = latency_s <= self._replica.slo_s
            self.slo_met += met
            self.slo_missed += not met

    def watch_cache(self, texts: TextCounts, store: Store) -> None:
        """Shows a cache where there is one."""
        self.registry.register(_Known(texts, store))

    def watch_models(self, changes: ModelChanges) -> None:
        """What is resident, and what was refused."""
        self.registry.register(_ByModel(changes))

    def watch_capture(self, sampling: Sampling) -> None:
        """Where requests are captured."""
        self.registry.register(_OfCapture(sampling))

    def watch_front_ends(self, front_ends: FrontEnds) -> None:
        """Where there are some."""
        self.registry.register(_OfFrontEnds(front_ends))

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

    def watch(self, access: Access) -> None:
        """Counts by tenant, of those that are configured now."""
        self.registry.register(_ByTenant(access))

    def close(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()


def _family(name: str, *samples: tuple[tuple[str, ...], float]) -> Metric:
    """A gauge or counter of the catalogue with its values by labels."""
    family = BY_NAME[name]
    made = (
        GaugeMetricFamily(name, family.text, labels=family.labels)
        if family.kind == "gauge"
        else CounterMetricFamily(name, family.text, labels=family.labels)
    )
    for labels, value in samples:
        made.add_metric(labels, value)
    return made


def _single(name: str, value: float) -> Metric:
    return _family(name, ((), value))


def _histogram(name: str, *samples: tuple[tuple[str, ...], Tally]) -> Metric:
    made = HistogramMetricFamily(name, BY_NAME[name].text, labels=BY_NAME[name].labels)
    for labels, tally in samples:
        made.add_metric(labels, *tally.cumulative())
    return made


class _Past(Collector):
    """What was counted since the start. Counters are the fleet report's own."""

    def __init__(self, metrics: Metrics, sources: Sources) -> None:
        self._metrics = metrics
        self._counters = sources.counters

    def collect(self) -> Iterator[Metric]:
        past, counters = self._metrics, self._counters
        yield _histogram("minwatt_request_duration_seconds", *list(past.requests.items()))
        yield _family("minwatt_slo_requests", (("met",), past.slo_met), (("missed",), past.slo_missed))
        yield _histogram("minwatt_queue_seconds", ((), past.queue))
        yield _histogram("minwatt_batch_compute_seconds", ((), past.compute))
        yield _histogram("minwatt_batch_texts", ((), past.batch_texts))
        yield _histogram("minwatt_batch_padded_tokens", ((), past.batch_tokens))
        yield _single("minwatt_tokens", counters.tokens)
        yield _single("minwatt_padded_tokens", counters.padded_tokens)
        # From the start at 0: a rate over the first refusal is then right.
        yield _family("minwatt_refusals", *(((reason,), counters.refusals[reason]) for reason in REASONS))


class _Known(Collector):
    """The cache, read when scraped. What a store can't know of itself is left out."""

    def __init__(self, texts: TextCounts, store: Store) -> None:
        self._texts = texts
        self._store = store

    def collect(self) -> Iterator[Metric]:
        texts, store = self._texts, self._store.counts()
        yield _family(
            "minwatt_cache_texts",
            (("hit",), texts.hit),
            (("joined",), texts.joined),
            (("missed",), texts.missed),
        )
        yield _single("minwatt_cache_up", float(store.up))
        yield _single("minwatt_cache_failures", store.failures)
        if store.entries is None or store.size_bytes is None:
            return
        yield _family("minwatt_cache_removed", (("room",), store.evicted), (("age",), store.expired))
        yield _single("minwatt_cache_entries", store.entries)
        yield _single("minwatt_cache_bytes", store.size_bytes)


class _OfCapture(Collector):
    """What was sampled, read when scraped."""

    def __init__(self, sampling: Sampling) -> None:
        self._sampling = sampling

    def collect(self) -> Iterator[Metric]:
        sampling = self._sampling
        yield _family(
            "minwatt_captured_requests", (("taken",), sampling.taken), (("dropped",), sampling.dropped)
        )


class _Present(Collector):
    """Gauges and the meter's counters, read when scraped."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources

    def collect(self) -> Iterator[Metric]:
        replica, counters = self._sources.replica, self._sources.counters
        who = replica.identity
        values = (who.model, who.model_version, who.variant, who.replica_id)
        info = BY_NAME["minwatt_replica"]
        yield InfoMetricFamily(info.name, info.text, dict(zip(info.labels, values, strict=True)))
        yield _single("minwatt_ready", replica.state == REPLICA_STATE_READY)
        yield _single("minwatt_start_up_seconds", replica.start_up_s)
        yield _single("minwatt_queue_depth_texts", replica.waiting_texts)
        yield _single("minwatt_batch_class_queue_depth_texts", replica.waiting_batch_class_texts)
        yield _single("minwatt_in_flight_requests", counters.in_flight)
        yield _single("minwatt_slo_seconds", replica.slo_s)
        yield _single("minwatt_max_batch_texts", replica.limits.max_texts)
        yield _single("minwatt_max_delay_seconds", replica.limits.max_delay_s)
        yield _single("minwatt_operating_point_version", replica.operating_point_version)
        yield _single("minwatt_reflex_raised", replica.raised)
        yield _single("minwatt_shedding", replica.shed_low_priority)
        yield _single("minwatt_arrivals", counters.arrivals)
        yield _single("minwatt_engine_busy_seconds", counters.busy_s)
        yield _single("minwatt_reflex_seconds", replica.reflex_s_total)
        yield from self._clock()
        yield from self._energy()

    def _clock(self) -> Iterator[Metric]:
        """A clock that was not set here is not told as one."""
        clock = self._sources.card_clock
        yield _single("minwatt_sm_clock_refused", bool(clock.refused))
        if clock.in_force_mhz:
            yield _single("minwatt_sm_clock_locked_hertz", clock.in_force_mhz * HZ_PER_MHZ)

    def _energy(self) -> Iterator[Metric]:
        """Watts are left out while unknown: a missing sample is not zero."""
        power = self._sources.power
        last, totals = power.last, power.totals
        yield _family("minwatt_meter_up", ((power.meter.source,), isinstance(last, Reading)))
        if not isinstance(last, Reading):
            return
        yield _family("minwatt_power_watts", ((last.source,), last.watts))
        yield _family("minwatt_energy_joules", ((last.source,), last.joules_total))
        yield _family(
            "minwatt_apportioned_joules",
            ((last.source, "start_up"), totals.start_up_j),
            ((last.source, "idle"), totals.idle_j),
            ((last.source, "requests"), totals.requests_j),
            ((last.source, "unpriced"), totals.unpriced_j),
        )


class _ByTenant(Collector):
    """A tenant that leaves the file leaves the metrics: there are never more labels than tenants."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def collect(self) -> Iterator[Metric]:
        callers = [(caller.tenant.name, caller.usage) for caller in self._access.callers]
        yield _family(
            "minwatt_tenant_requests",
            *(
                ((name, outcome), count)
                for name, usage in callers
                for outcome, count in sorted(usage.outcomes.items())
            ),
        )
        yield _family("minwatt_tenant_tokens", *(((name,), usage.tokens_total) for name, usage in callers))
        yield _family("minwatt_tenant_joules", *(((name,), usage.joules_total) for name, usage in callers))
        yield _family(
            "minwatt_tenant_in_flight_requests", *(((name,), usage.in_flight) for name, usage in callers)
        )


class FrontEnds(Protocol):
    """What is shown of front-end processes."""

    @property
    def up(self) -> int: ...
    @property
    def lost(self) -> int: ...
    @property
    def cpu_s(self) -> float: ...


class _OfFrontEnds(Collector):
    def __init__(self, front_ends: FrontEnds) -> None:
        self._front_ends = front_ends

    def collect(self) -> Iterator[Metric]:
        yield _single("minwatt_front_ends", self._front_ends.up)
        yield _single("minwatt_front_ends_lost", self._front_ends.lost)
        yield _single("minwatt_front_end_cpu_seconds", self._front_ends.cpu_s)


class _ByModel(Collector):
    """Names are those of the models that the replica was started with: never more labels."""

    def __init__(self, changes: ModelChanges) -> None:
        self._changes = changes

    def collect(self) -> Iterator[Metric]:
        info = BY_NAME["minwatt_model"]
        resident = InfoMetricFamily(info.name, info.text, labels=["model"])
        for name, model in self._changes.models.by_name.items():
            resident.add_metric([name], {"version": model.directory.spec.version, "variant": model.variant})
        yield resident
        for family, counts in (
            ("minwatt_model_replacements", self._changes.replacements),
            ("minwatt_model_reload_failures", self._changes.failures),
        ):
            yield _family(family, *(((name,), count) for name, count in counts.items()))
