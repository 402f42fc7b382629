"""The engine process: the server as it is, behind an `EngineDoor`. Started by `supervisor`."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress

from energy.modelled import ModelledMeter
from service import event_loop, logs
from service.assembly import Parts
from service.fronts.engine_door import Engine, EngineDoor
from service.lifecycle.loading import Makers
from service.oip.service import Served
from service.server import run
from service.settings import ServeSettings

READY = b"ready"


def engine(
    settings: ServeSettings,
    control: socket.socket,
    address: str,
    on_ready: Callable[[str], None],
    makers: Makers,
    begun_before_s: float,
) -> None:
    """Until it has drained. `control`: channels come through it; READY, or what is wrong, goes back."""

    async def main() -> None:
        logs.watch(asyncio.get_running_loop())
        doors: list[EngineDoor] = []
        telling: list[asyncio.Task[None]] = []

        def entrance(settings: ServeSettings, parts: Parts, served: Served) -> EngineDoor:
            door = EngineDoor(parts_of(parts, served, settings), control, address, settings.front_ends)
            others_learn = parts.lifecycle.changed

            def changed() -> None:
                others_learn()
                door.tell()

            parts.lifecycle.changed = changed
            if isinstance(parts.power.meter, ModelledMeter):
                parts.power.meter.count_also(lambda: door.cpu_s)
            parts.metrics.watch_front_ends(door)
            doors.append(door)
            return door

        async def tell(line: str) -> None:
            """Once health says so at every front end."""
            await doors[0].followed()
            with suppress(OSError):
                control.send(READY)
            on_ready(line)

        def ready(line: str) -> None:
            telling.append(asyncio.get_running_loop().create_task(tell(line)))

        await run(settings, ready, makers, entrance, begun_before_s)

    event_loop.run(main())


def parts_of(parts: Parts, served: Served, settings: ServeSettings) -> Engine:
    return Engine(
        parts.lifecycle.models,
        parts.access,
        parts.inference,
        parts.telemetry,
        parts.cache,
        settings.provider,
        served.counts,
    )
