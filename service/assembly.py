"""A replica put together: each part is made here and handed those that it uses.

Called by `server`, which opens it to clients, and by tests.
"""

from __future__ import annotations

import os
import socket
import time
import uuid
from dataclasses import dataclass

from minwatt.v1.model_dir import ModelDirectory
from service.access import Access
from service.admission import AdmissionLimits
from service.agent_connection import agent_at
from service.batcher import Batcher
from service.cache.opening import Cache, open_cache
from service.capture.opening import Capture, open_capture
from service.capture.writer import Mask
from service.clocks import CardClock, ClockControl, clocks_of_this_machine
from service.counters import Counters
from service.dispatch import Dispatcher
from service.engines import most_texts, workers_of
from service.gate import Gate
from service.inference import Inference, RequestLimits
from service.lifecycle.lifecycle import Lifecycle
from service.lifecycle.loading import AS_SERVED, Loader, Makers, first_models
from service.lifecycle.memory import Memory, container_limit_bytes
from service.lifecycle.resident import Loaded, ResidentModel
from service.metrics import Metrics
from service.node_agent import AgentClocks
from service.power import PowerBook, meter_of
from service.queue import BatchLimits
from service.replica import Identity, Replica, Sources
from service.service_time import ServiceTimeEstimate
from service.settings import ServeSettings
from service.spans import Tracer
from service.telemetry import Telemetry
from service.tenants import OPEN_DIRECTORY, read_tenants
from service.workers import Workers


@dataclass(frozen=True, slots=True)
class Parts:
    """A replica put together, not yet serving."""

    replica: Replica
    counters: Counters
    power: PowerBook
    metrics: Metrics
    lifecycle: Lifecycle
    inference: Inference
    card_clock: CardClock
    access: Access
    cache: Cache | None
    tracer: Tracer | None
    telemetry: Telemetry
    capture: Capture | None


def assemble(settings: ServeSettings, makers: Makers = AS_SERVED, mask: Mask | None = None) -> Parts:
    """Loads the models, opens the meter and, where it may set clocks, the card. Raises UsageError."""
    identity = _identity(settings)
    capture = open_capture(settings, identity.replica_id, mask)
    access = Access(OPEN_DIRECTORY if settings.tenants is None else read_tenants(settings.tenants))
    power = PowerBook(meter_of(settings.meter, settings.node_agent), settings.engine_threads)
    card_clock = CardClock(_clock_control(settings))
    limits = BatchLimits(settings.max_batch_texts, settings.max_batch_tokens, settings.max_delay_s)
    replica = Replica(identity, limits, settings.slo_s, most_texts(settings))
    counters = Counters()
    metrics = Metrics(Sources(replica, counters, power, card_clock))
    metrics.watch(access)
    telemetry = Telemetry(counters, metrics, power)
    tracer = _tracer(settings, identity)
    bounds = RequestLimits(
        settings.max_texts,
        settings.default_deadline_s,
        AdmissionLimits(settings.max_in_flight, settings.max_queue_texts),
    )
    cache = open_cache(settings)
    if cache is not None:
        metrics.watch_cache(cache.flights.texts, cache.flights.store)
    workers = Workers(workers_of(settings))

    def assembled(loaded: Loaded) -> ResidentModel:
        dispatcher = Dispatcher(replica.limits, ServiceTimeEstimate(), replica.slo_s)
        batcher = Batcher(dispatcher, loaded.engines, workers, telemetry, card_clock, tracer)
        gate = Gate(batcher, replica, telemetry, bounds.admission, time.monotonic)
        known = None
        if cache is not None:
            known = cache.of_model(loaded.directory.spec, loaded.variant, settings.provider)
        return ResidentModel(loaded, batcher, gate, known)

    loader = Loader(settings, makers, assembled)
    memory = Memory(settings.memory_limit, container_limit_bytes())
    lifecycle = Lifecycle(loader, first_models(loader, memory, settings), workers, replica, memory)
    metrics.watch_models(lifecycle)
    sampling = None
    if capture is not None:
        sampling = capture.sampling
        metrics.watch_capture(sampling)
    inference = Inference(lifecycle.models, telemetry, bounds, access, tracer, sampling=sampling)
    return Parts(
        replica,
        counters,
        power,
        metrics,
        lifecycle,
        inference,
        card_clock,
        access,
        cache,
        tracer,
        telemetry,
        capture,
    )


def _clock_control(settings: ServeSettings) -> ClockControl | None:
    """Raises UsageError."""
    if not settings.gpu_clocks:
        return None
    if settings.node_agent is not None:
        return AgentClocks(agent_at(settings.node_agent))
    return clocks_of_this_machine()


def _identity(settings: ServeSettings) -> Identity:
    """As the replica starts. Raises UsageError."""
    spec = ModelDirectory.open(settings.model[0]).spec
    replica_id = settings.replica_id or f"{spec.name}-{uuid.uuid4().hex[:8]}"
    variant = settings.variant or spec.default_variant
    pid = os.getppid() if settings.front_ends else os.getpid()  # of the process that takes signals
    return Identity(replica_id, spec.name, spec.version, variant, settings.node or socket.gethostname(), pid)


def _tracer(settings: ServeSettings, identity: Identity) -> Tracer | None:
    if settings.otlp_endpoint is None:
        return None
    from service.tracing import otlp_tracer  # an extra: read only where it is asked for

    return otlp_tracer(settings.otlp_endpoint, identity, settings.trace_ratio)
