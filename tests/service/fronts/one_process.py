"""A front end and an engine process on one event loop: for tests of what passes between them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

from minwatt.v1.fleet_pb2 import REPLICA_STATE_READY
from service.assembly import Parts, assemble
from service.calls import Service
from service.door import bound
from service.fronts.channel import new_channel
from service.fronts.engine_door import EngineDoor
from service.fronts.engine_process import parts_of
from service.fronts.front_end import FrontEnd
from service.fronts.remote import Remote
from service.oip.models import Deployed
from service.oip.repository import Repository
from service.oip.service import NAME, Served
from service.replies import AnyRequest, AnyResponse
from service.server import door_options
from service.settings import ServeSettings


@dataclass(frozen=True, slots=True)
class Replica:
    parts: Parts
    door: EngineDoor
    front_end: FrontEnd

    @property
    def remote(self) -> Remote:
        return self.front_end.remote

    async def ask(self, request: AnyRequest, timeout_s: float | None = None) -> AnyResponse:
        """Through the front end."""
        method = type(request).__name__.removesuffix("Request")
        return await self.remote.answer(request, self.remote.arrival(method, None, timeout_s))

    async def ask_engine(self, request: AnyRequest) -> AnyResponse:
        """As if there were no front ends."""
        method = type(request).__name__.removesuffix("Request")
        inference = self.parts.inference
        return await inference.answer(request, inference.arrival(method, None))


@contextlib.asynccontextmanager
async def replica(model: Path, **flags: object) -> AsyncIterator[Replica]:
    """Ready; nothing is left of it afterwards."""
    settings = ServeSettings.of_flags(
        **{"model": model, "meter": "modelled", "slo": "10s", "front_ends": 1, **flags}
    )
    parts = assemble(settings)
    (to_engine, engines), (to_front, fronts) = (
        socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(2)
    )
    served = Served(parts.replica, Repository(parts.lifecycle, lambda _: None), Deployed("cpu", 8), 4096, 8)
    door = EngineDoor(parts_of(parts, served, settings), engines, "here", 1)
    parts.lifecycle.changed = door.tell
    listening = tuple(bound("127.0.0.1", 0, reuse_port=True, listening=False))
    front_end = FrontEnd(settings, replace(door_options(settings), bound=listening), fronts)
    running = [asyncio.create_task(front_end.run()), asyncio.create_task(parts.lifecycle.run())]
    try:
        with new_channel() as (engines_end, fronts_end):
            engines_end.send(to_engine)
            fronts_end.send(to_front)
        await door.open([Service(NAME)])
        parts.replica.state = REPLICA_STATE_READY
        door.set_serving(True)
        await door.followed()
        yield Replica(parts, door, front_end)
    finally:
        await door.close(0.0)
        to_front.close()  # nobody is left to serve for
        await asyncio.wait({running[0]})
        running[1].cancel()
        await asyncio.wait({running[1]})
        for one in (to_engine, engines, fronts):
            one.close()
        parts.inference.close()
        parts.power.close()
