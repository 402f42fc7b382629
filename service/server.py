"""One replica from start to exit: assemble, warm up, open the door, drain.

Leaves what it is made of to `assembly`. Called by `cli`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol

from energy.modelled import this_process
from minwatt.v1.fleet_pb2 import REPLICA_STATE_DRAINING, REPLICA_STATE_READY
from minwatt.v1.inference_pb2 import DESCRIPTOR as TEXT_INFERENCE
from service.assembly import Parts, assemble
from service.calls import Service
from service.capture.writer import Mask
from service.door import Door, DoorOptions, authority
from service.fleet import FleetMember
from service.fleet_opening import open_link
from service.front.tls import TlsFiles
from service.lifecycle.loading import AS_SERVED, Makers
from service.lifecycle.memory import map_large_blocks
from service.oip.models import Deployed
from service.oip.open_inference_pb2 import DESCRIPTOR as OPEN_INFERENCE
from service.oip.repository import Repository
from service.oip.service import Served, open_inference
from service.replica import Sources
from service.rpc import RpcLimits, text_inference
from service.settings import ServeSettings

log = logging.getLogger(__name__)

ONE_SIGNAL_S = 1.0  # to stop that come within it count as one


class Entrance(Protocol):
    """What clients come through: `Door`, or what stands for it where other processes speak with them."""

    async def open(self, services: Sequence[Service], files: Sequence[Any] = ()) -> str: ...

    def set_serving(self, serving: bool) -> None: ...

    async def close(self, grace_s: float) -> None: ...


def own_door(settings: ServeSettings, parts: Parts, served: Served) -> Entrance:  # noqa: ARG001
    """Clients come to this process. Raises UsageError."""
    return Door(door_options(settings))


async def run(
    settings: ServeSettings,
    on_ready: Callable[[str], None],
    makers: Makers = AS_SERVED,
    entrance: Callable[[ServeSettings, Parts, Served], Entrance] = own_door,
    begun_before_s: float = 0.0,
    mask: Mask | None = None,
) -> None:
    """Serves until SIGTERM or SIGINT, then drains; `on_ready` is told where. Raises UsageError.

    `begun_before_s`: how much earlier than this process the replica was started. `mask`: of captured texts.
    """
    map_large_blocks()
    last_acts: list[Callable[[], None]] = []
    stop = _stop_signal(last_acts)
    parts = assemble(settings, makers, mask)
    if not os.isatty(0):  # on a terminal the signal says that it was closed: then the replica ends too
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, parts.lifecycle.begin_reload_changed)
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(parts.card_clock.close)
        last_acts.append(parts.card_clock.close)
        stack.callback(parts.power.close)
        if parts.tracer is not None:
            stack.callback(parts.tracer.close)
        if parts.capture is not None:
            parts.capture.writer.start()
            stack.callback(parts.capture.writer.close)
        if parts.cache is not None:
            stack.push_async_callback(parts.cache.flights.store.close)
        stack.callback(parts.inference.close)
        metrics_port = parts.metrics.serve(settings.host, settings.metrics_port)
        stack.callback(parts.metrics.close)
        member = _joined(settings, parts, stack)
        served = _served(settings, parts)
        door = entrance(settings, parts, served)
        stack.push_async_callback(door.close, 0.0)
        limits = RpcLimits(settings.max_message_bytes, settings.max_in_flight)
        services = [
            text_inference(parts.inference, limits),
            open_inference(parts.inference, served),
        ]
        files = [TEXT_INFERENCE, OPEN_INFERENCE]

        # A shared port gets connections as soon as it listens: there the door opens when the model is warm.
        if not settings.reuse_port:
            parts.replica.address = await door.open(services, files)
        loops = [_start(parts.power.keep_reading(), stack)]
        await parts.lifecycle.warm()
        await parts.power.share()
        loops += [_start(parts.card_clock.run(), stack), _start(parts.lifecycle.run(), stack)]
        if settings.tenants is not None:
            loops.append(_start(parts.access.keep_reading(settings.tenants), stack))
        if settings.reuse_port:
            parts.replica.address = await door.open(services, files)

        parts.replica.state = REPLICA_STATE_READY
        parts.replica.start_up_s = this_process().age_s + begun_before_s
        door.set_serving(True)
        if member is not None:
            member.changed()
        on_ready(_ready_line(parts, f"http://{authority(settings.host, metrics_port)}/metrics"))

        await _until(stop, loops)
        await _drain(settings, parts, door, member)


async def _drain(settings: ServeSettings, parts: Parts, door: Entrance, member: FleetMember | None) -> None:
    """Readiness off, time for balancers to see it, GOAWAY, what is in flight finishes."""
    log.info("draining: %d requests in flight", parts.counters.in_flight)
    parts.replica.state = REPLICA_STATE_DRAINING
    door.set_serving(False)
    if member is not None:
        member.changed()
    await asyncio.sleep(settings.drain_delay_s)
    await door.close(settings.drain_grace_s)
    await parts.power.read()  # for the last report


def _joined(settings: ServeSettings, parts: Parts, stack: contextlib.AsyncExitStack) -> FleetMember | None:
    """Joins the fleet where there is one; leaves it, with a last report, as the stack unwinds."""
    link = open_link(settings)
    if link is None:
        return None
    sources = Sources(parts.replica, parts.counters, parts.power, parts.card_clock)
    member = FleetMember(link, settings.fleet, sources, parts.lifecycle.follow)
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
    """Set by the first SIGTERM or SIGINT; the second one ends the process at once, after its last acts.

    A service manager signals all processes of a service, and the supervisor passes on what it gets: signals
    that come together are one.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    first_s = 0.0

    def on_signal(number: int) -> None:
        nonlocal first_s
        if not stop.is_set():
            first_s = loop.time()
            stop.set()
        elif loop.time() - first_s >= ONE_SIGNAL_S:
            for act in last_acts:
                act()
            os._exit(128 + number)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    return stop


def _served(settings: ServeSettings, parts: Parts) -> Served:
    return Served(
        parts.replica,
        Repository(parts.lifecycle, lambda call: parts.access.caller(call, "admin")),
        Deployed(settings.provider, settings.max_texts),
        settings.max_message_bytes,
        settings.max_in_flight,
    )


def door_options(settings: ServeSettings) -> DoorOptions:
    tls = None
    if settings.tls_cert is not None and settings.tls_key is not None:
        tls = TlsFiles(settings.tls_cert, settings.tls_key, settings.tls_client_ca)
    return DoorOptions(
        settings.host,
        settings.port,
        settings.reuse_port,
        settings.max_message_bytes,
        settings.max_connection_age_s,
        settings.max_connection_streams,
        tls,
    )


def _ready_line(parts: Parts, metrics_url: str) -> str:
    models = ", ".join(map(str, parts.lifecycle.models.by_name.values()))
    return (
        f"ready: grpc {parts.replica.address} · metrics {metrics_url} · "
        f"model {models} · watts {parts.power.source}"
    )
