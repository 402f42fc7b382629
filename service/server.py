"""One replica from start to exit: assemble, warm up, open the door, drain.

The only place that knows all parts. Called by `cli`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import uuid
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass

from energy.modelled import this_process
from minwatt.v1.fleet_pb2 import REPLICA_STATE_DRAINING, REPLICA_STATE_READY
from minwatt.v1.model_dir import ModelDirectory
from service.admission import AdmissionLimits
from service.batcher import Batcher
from service.clocks import CardClock, clocks_of_this_machine
from service.counters import Counters
from service.dispatch import Dispatcher
from service.door import Door, DoorOptions, authority
from service.engines import most_texts, workers_of
from service.fleet import FleetMember
from service.inference import Inference, RequestLimits
from service.lifecycle.lifecycle import Lifecycle
from service.lifecycle.loading import Loader, first_models
from service.lifecycle.memory import Memory, container_limit_bytes
from service.metrics import Metrics
from service.power import PowerBook, meter_of
from service.queue import BatchLimits
from service.replica import Process, Replica, Sources
from service.rpc import RpcLimits, handlers
from service.service_time import ServiceTimeEstimate
from service.settings import ServeSettings
from service.telemetry import Telemetry
from service.workers import Engines, Workers

LAST_CALLS_S = 0.005
LAST_CALLS_FEW = 5  # so few arrivals in LAST_CALLS_S are no backlog
LAST_CALLS_LOOKS = 20

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Parts:
    """A replica put together, not yet serving."""

    replica: Replica
    counters: Counters
    power: PowerBook
    metrics: Metrics
    workers: Workers
    lifecycle: Lifecycle
    inference: Inference
    card_clock: CardClock


def assemble(settings: ServeSettings) -> Parts:
    """Loads the models, opens the meter and, where it may set clocks, the card. Raises UsageError."""
    name = ModelDirectory.open(settings.model[0]).spec.name
    power = PowerBook(meter_of(settings.meter), settings.engine_threads)
    card_clock = CardClock(clocks_of_this_machine() if settings.gpu_clocks else None)
    limits = BatchLimits(settings.max_batch_texts, settings.max_batch_tokens, settings.max_delay_s)
    replica_id = settings.replica_id or f"{name}-{uuid.uuid4().hex[:8]}"
    process = Process(replica_id, socket.gethostname(), os.getpid())
    replica = Replica(process, limits, settings.slo_s, most_texts(settings))
    counters = Counters()
    metrics = Metrics(Sources(replica, counters, power, card_clock))
    telemetry = Telemetry(counters, metrics, power)

    workers = Workers(workers_of(settings))

    def new_batcher(engines: Engines) -> Batcher:
        dispatcher = Dispatcher(replica.limits, ServiceTimeEstimate(), replica.slo_s)
        return Batcher(dispatcher, engines, workers, telemetry, card_clock)

    loader = Loader(settings, new_batcher)
    memory = Memory(settings.memory_limit, container_limit_bytes())
    lifecycle = Lifecycle(loader, first_models(loader, memory, settings), replica, memory)
    metrics.watch_models(lifecycle)
    bounds = RequestLimits(
        settings.max_texts,
        settings.default_deadline_s,
        AdmissionLimits(settings.max_in_flight, settings.max_queue_texts),
    )
    inference = Inference(lifecycle.models, replica, telemetry, bounds)
    return Parts(replica, counters, power, metrics, workers, lifecycle, inference, card_clock)


async def run(settings: ServeSettings, on_ready: Callable[[str], None]) -> None:
    """Serves until SIGTERM or SIGINT, then drains; `on_ready` is told where. Raises UsageError."""
    last_acts: list[Callable[[], None]] = []
    stop = _stop_signal(last_acts)
    parts = assemble(settings)
    if not os.isatty(0):  # on a terminal the signal says that it was closed: then the replica ends too
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, parts.lifecycle.begin_reload_changed)
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(parts.card_clock.close)
        last_acts.append(parts.card_clock.close)
        stack.callback(parts.power.close)
        stack.callback(parts.inference.close)
        metrics_port = parts.metrics.serve(settings.host, settings.metrics_port)
        stack.callback(parts.metrics.close)
        member = _joined(settings, parts, stack)
        closing = asyncio.Event()
        door = Door(_door_options(settings))
        stack.push_async_callback(door.close, 0.0)
        await door.set_serving(False)
        handler = handlers(
            parts.inference, RpcLimits(settings.max_message_bytes, settings.max_in_flight), closing
        )

        # A shared port gets connections as soon as it listens: there the door opens when the model is warm.
        if not settings.reuse_port:
            parts.replica.address = await door.open(handler)
        loops = [_start(parts.power.keep_reading(), stack)]
        await parts.lifecycle.warm()
        await parts.power.share()
        parts.workers.start()
        stack.callback(parts.workers.stop)
        loops += [_start(parts.card_clock.run(), stack), _start(parts.lifecycle.run(), stack)]
        if settings.reuse_port:
            parts.replica.address = await door.open(handler)

        parts.replica.state = REPLICA_STATE_READY
        parts.replica.start_up_s = this_process().age_s
        await door.set_serving(True)
        if member is not None:
            member.changed()
        on_ready(_ready_line(parts, f"http://{authority(settings.host, metrics_port)}/metrics"))

        await _until(stop, loops)
        await _drain(settings, parts, door, closing, member)


async def _drain(
    settings: ServeSettings, parts: Parts, door: Door, closing: asyncio.Event, member: FleetMember | None
) -> None:
    """Readiness off, time for balancers to see it, GOAWAY, what is in flight finishes."""
    log.info("draining: %d requests in flight", parts.counters.in_flight)
    parts.replica.state = REPLICA_STATE_DRAINING
    await door.set_serving(False)
    if member is not None:
        member.changed()
    await asyncio.sleep(settings.drain_delay_s)
    parts.replica.closing = True
    closing.set()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(settings.drain_grace_s):
            await _answered(parts.counters)
    await door.close(settings.drain_grace_s)
    await parts.power.read()  # for the last report


async def _answered(counters: Counters) -> None:
    """Until every accepted request is answered and those that came meanwhile are refused.

    gRPC cancels what it has received and not yet handed over when it shuts down: that backlog is worked off
    first, for a bounded time, as a client that knows of no other replica goes on sending.
    """
    looks = 0
    while looks < LAST_CALLS_LOOKS:
        arrivals = counters.arrivals
        await asyncio.sleep(LAST_CALLS_S)
        if counters.in_flight:
            continue
        if counters.arrivals - arrivals <= LAST_CALLS_FEW:
            return
        looks += 1


def _joined(settings: ServeSettings, parts: Parts, stack: contextlib.AsyncExitStack) -> FleetMember | None:
    """Joins the fleet where there is a scaler; leaves it, with a last report, as the stack unwinds."""
    if settings.scaler is None:
        return None
    sources = Sources(parts.replica, parts.counters, parts.power, parts.card_clock)
    member = FleetMember(settings.scaler, sources, parts.lifecycle.follow)
    parts.lifecycle.changed = member.changed
    default, *others = parts.lifecycle.models.by_name
    if others:
        log.warning("the fleet is planned as if all requests were of model %s", default)
    stack.push_async_callback(member.leave, asyncio.create_task(member.run()))
    return member


def _start(loop: Coroutine[None, None, None], stack: contextlib.AsyncExitStack) -> asyncio.Task[None]:
    """Runs a loop as a task that ends with the stack."""
    task = asyncio.create_task(loop)

    async def end() -> None:
        task.cancel()
        await asyncio.wait({task})

    stack.push_async_callback(end)
    return task


async def _until(stop: asyncio.Event, loops: list[asyncio.Task[None]]) -> None:
    """Waits for the signal. A loop that breaks ends the replica: it must not stay up and hang."""
    stopped = asyncio.create_task(stop.wait())
    done, _ = await asyncio.wait({stopped, *loops}, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()


def _stop_signal(last_acts: Sequence[Callable[[], None]]) -> asyncio.Event:
    """Set by the first SIGTERM or SIGINT; the second one ends the process at once, after its last acts."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal(number: int) -> None:
        if stop.is_set():
            for act in last_acts:
                act()
            os._exit(128 + number)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    return stop


def _door_options(settings: ServeSettings) -> DoorOptions:
    return DoorOptions(
        settings.host,
        settings.port,
        settings.reuse_port,
        settings.max_message_bytes,
        settings.max_connection_age_s,
    )


def _ready_line(parts: Parts, metrics_url: str) -> str:
    models = ", ".join(map(str, parts.lifecycle.models.by_name.values()))
    return (
        f"ready: grpc {parts.replica.address} · metrics {metrics_url} · "
        f"model {models} · watts {parts.power.source}"
    )
