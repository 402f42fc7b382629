"""The engine process's door: what its front ends have let in, and what they are told.

Stands where `service.door.Door` stands without front ends, and is opened, told to serve and closed like it.
Made by `supervisor` in the engine process; a front end's requests come through `Link`, one each.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from minwatt.v1.errors import UsageError
from service.access import Access
from service.cache.opening import Cache
from service.calls import Service, Unary
from service.fronts.channel import Ends
from service.fronts.link import Asked, Link
from service.fronts.messages import Close, ToldModel, World
from service.fronts.residents import Residents
from service.fronts.submitted import SubmittedInference
from service.inference import Inference
from service.lifecycle.models import Models
from service.lifecycle.resident import ResidentModel
from service.oip.statistics import ModelCounts
from service.telemetry import Telemetry

SEEN_S = 30.0  # a front end that takes longer to follow hangs
CLOSED_S = 8.0  # beyond the grace: connections linger, a process ends

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Engine:
    """The parts of a server that its door has to do with."""

    models: Models[ResidentModel]
    access: Access
    inference: Inference
    telemetry: Telemetry
    cache: Cache | None
    provider: str
    oip_counts: dict[str, ModelCounts]


class EngineDoor:
    """One per engine process; takes `front_ends` links from the supervisor, and new ones later."""

    def __init__(self, engine: Engine, control: socket.socket, address: str, front_ends: int) -> None:
        self._engine = engine
        self._control = control
        self._address = address
        self._front_ends = front_ends
        self._residents = Residents(engine.models)
        self._asked = Asked(
            engine.inference,
            SubmittedInference.beside(engine.inference),
            engine.telemetry,
            self._residents,
            engine.oip_counts,
        )
        self._links: list[Link] = []
        self._version = 0
        self._services: Sequence[Service] = ()
        self._listening = self._serving = False
        self._moved: asyncio.Event = asyncio.Event()  # a link came, went, or has seen something
        self._told: dict[str, tuple[object, str]] = {}  # tokenizers by digest, and as they are told
        self._attached = self._lost_links = 0
        self._closing = False
        engine.access.changed = self.tell

    # -- as `Door`

    async def open(self, services: Sequence[Service], files: Sequence[Any] = ()) -> str:  # noqa: ARG002
        """Returns host:port once all front ends listen. Raises UsageError where they don't."""
        self._services = [_telling(service, self.followed) for service in services]
        self._asked.methods = {
            f"/{service.name}/{name}": unary
            for service in self._services
            for name, unary in service.unary.items()
        }
        self._listening = True
        asyncio.get_running_loop().add_reader(self._control, self._handed)
        try:
            async with asyncio.timeout(SEEN_S):
                while self._attached < self._front_ends or not self._all_seen:
                    await self._next_move()
        except TimeoutError:
            raise UsageError(
                f"front-ends = {self._front_ends}: {len(self._links)} have come up in {SEEN_S:g} s"
            ) from None
        return self._address

    def set_serving(self, serving: bool) -> None:
        self._serving = serving
        self.tell()

    async def close(self, grace_s: float) -> None:
        """The front ends close their doors and end; what is in flight has `grace_s`."""
        self._closing = True
        self._engine.access.changed = lambda: None
        asyncio.get_running_loop().remove_reader(self._control)
        for link in self._links:
            link.tell(Close(grace_s))
        try:
            async with asyncio.timeout(grace_s + CLOSED_S):
                while self._links:
                    await self._next_move()
        except TimeoutError:
            log.error("%d front ends have not ended in time", len(self._links))
        for link in list(self._links):
            link.cut()
        self._residents.close()

    # -- beyond `Door`

    async def followed(self) -> None:
        """Returns when every front end goes by what is so now. One that hangs is ended (`tell`)."""
        wanted = self._version
        while any(link.seen < wanted for link in self._links):
            await self._next_move()

    @property
    def up(self) -> int:
        return len(self._links)

    @property
    def lost(self) -> int:
        """Front ends that have ended, and nobody had told them to."""
        return self._lost_links

    @property
    def cpu_s(self) -> float:
        """CPU seconds of all front ends there were."""
        return self._asked.front_ends_cpu_s

    def tell(self) -> None:
        """Something that front ends go by has changed: they are told."""
        if not self._services:
            return
        self._version += 1
        models = []
        for held in self._residents.now(self._version):
            loaded = held.model.loaded
            digest = f"{loaded.directory.spec.tokenizer.sha256}/{id(loaded.tokenizer)}"
            if digest not in self._told:
                self._told[digest] = (loaded.tokenizer, loaded.tokenizer.copied())
            models.append(ToldModel(held.number, loaded.directory, loaded.variant, digest))
        needed = {model.tokenizer for model in models}
        self._told = {digest: told for digest, told in self._told.items() if digest in needed}
        for link in self._links:
            link.tell(self._world(models, link))
        asyncio.get_running_loop().call_later(SEEN_S, self._end_hung, self._version, tuple(self._links))
        self._residents.release(link.seen for link in self._links)

    def _end_hung(self, version: int, told: Sequence[Link]) -> None:
        """Those that were told of `version` and don't go by it: models that were replaced wait for them."""
        for link in told:
            if link in self._links and link.seen < version and not self._closing:
                log.error("a front end has not followed in %g s: it is ended", SEEN_S)
                link.kill()

    def _world(self, models: Sequence[ToldModel], link: Link) -> World:
        cache = self._engine.cache
        fresh = {model.tokenizer for model in models} - link.tokenizers
        link.tokenizers = {model.tokenizer for model in models}
        return World(
            self._version,
            self._listening,
            self._serving,
            tuple(models),
            {digest: self._told[digest][1] for digest in fresh},
            self._engine.access.directory,
            {service.name: tuple(service.unary) for service in self._services},
            self._engine.provider,
            None if cache is None else cache.secret,
        )

    # -- links

    @property
    def _all_seen(self) -> bool:
        return all(link.seen == self._version for link in self._links)

    def _handed(self) -> None:
        """The supervisor has started a front end."""
        ends = Ends.receive(self._control)
        if ends is None:  # the supervisor has ended: the parent-death signal drains this process
            asyncio.get_running_loop().remove_reader(self._control)
            return
        self._links.append(Link(ends, self._asked, self._seen, self._lost))
        self._attached += 1
        self.tell()

    def _seen(self) -> None:
        self._residents.release(link.seen for link in self._links)
        self._move()

    def _lost(self, link: Link) -> None:
        """It has ended, and what it had in flight is withdrawn."""
        self._links.remove(link)
        self._lost_links += not self._closing
        self._seen()

    def _move(self) -> None:
        self._moved.set()

    async def _next_move(self) -> None:
        self._moved.clear()
        await self._moved.wait()


def _telling(service: Service, followed: Callable[[], Awaitable[None]]) -> Service:
    """Its calls that change which models there are return when all front ends know: the caller's next call
    may come through another one."""

    def then_followed(unary: Unary) -> Unary:
        async def call(message: bytes, call: Any) -> bytes:
            reply = await unary(message, call)
            await followed()
            return reply

        return call

    unary = {
        name: then_followed(handler) if name.startswith("RepositoryModel") else handler
        for name, handler in service.unary.items()
    }
    return Service(service.name, unary, service.streams)
