"""A front-end process: a door to clients, a channel to the engine process.

Opens its door when the engine process says so and closes it when told to; ends when that is done, or when
nobody is left to serve for. If the engine process dies it keeps its connections, says NOT_SERVING and waits
for the next one. Started by `supervisor`.
"""

from __future__ import annotations

import asyncio
import logging
import resource
import socket
from collections import defaultdict
from collections.abc import Sequence
from functools import partial

from minwatt.v1.inference_pb2 import DESCRIPTOR as TEXT_INFERENCE
from service.calls import Call, Service, Unary
from service.door import Door, DoorOptions
from service.fronts import messages
from service.fronts.channel import Channel, Ends, Side
from service.fronts.messages import Close, LargeAnswer, Replied, Spent, World
from service.fronts.records import OipCounted
from service.fronts.remote import Remote
from service.fronts.told import FrontModel, Told, told_of
from service.oip import open_inference_pb2 as pb
from service.oip.infer import Inferring
from service.oip.models import Catalog
from service.oip.service import NAME as OPEN_INFERENCE_NAME
from service.oip.service import probes
from service.oip.statistics import ModelCounts, Took
from service.request import Cost
from service.rpc import RpcLimits, text_inference
from service.settings import ServeSettings

SPENT_EVERY_S = 1.0
ALONE_S = 60.0  # without an engine process; then the supervisor starts another front end

log = logging.getLogger(__name__)


class FrontEnd:
    """One per process; `run` is all it does."""

    def __init__(self, settings: ServeSettings, options: DoorOptions, control: socket.socket) -> None:
        """Reads the certificates. Raises UsageError."""
        self._settings = settings
        self._control: socket.socket | None = control
        self._door = Door(options)
        self.remote = Remote(settings.max_texts, settings.default_deadline_s, settings.max_in_flight)
        self._channel: Channel | None = None
        self._told: Told | None = None
        self._open = False
        self._spent_before_s = 0.0  # CPU, for engine processes before this one
        self._alone: asyncio.TimerHandle | None = None  # there is no engine process
        self._worlds: asyncio.Queue[tuple[Channel, World]] = asyncio.Queue()

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[None] = loop.create_future()
        assert self._control is not None  # noqa: S101 - it was given one
        loop.add_reader(self._control, self._handed)
        tasks = [loop.create_task(self._follow()), loop.create_task(self._tell_spent())]
        try:
            done, _ = await asyncio.wait({self._ended, *tasks}, return_when=asyncio.FIRST_COMPLETED)
            for one in done:
                one.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            if self._alone is not None:
                self._alone.cancel()
            if self._control is not None:
                loop.remove_reader(self._control)
            await self._door.close(0.0)
            if self._channel is not None:
                self._channel.close()
            self.remote.close()

    # -- the supervisor

    def _handed(self) -> None:
        """Another engine process, the first or the next; or nobody who would hand us one."""
        assert self._control is not None  # noqa: S101 - it is read while it is there
        ends = Ends.receive(self._control)
        if ends is None:
            asyncio.get_running_loop().remove_reader(self._control)
            self._control = None
            if self._channel is None:
                self._end()
            return
        if self._channel is not None:
            self._channel.close()
        if self._alone is not None:
            self._alone.cancel()
        self._spent_before_s = _cpu_s()
        self._channel = Channel(ends, Side.FRONT, self.remote.record, self._message, self._lost)
        self.remote.attach(self._channel)

    def _lost(self) -> None:
        """The engine process has ended."""
        self._channel = None
        self._door.set_serving(False)
        self.remote.detach()
        if self._control is None:
            self._end()
        elif not self._ended.done():
            self._alone = asyncio.get_running_loop().call_later(ALONE_S, self._give_up)

    def _give_up(self) -> None:
        """The engine process may live, and have found this one to be out of order."""
        log.error("no engine process has come in %g s", ALONE_S)
        self._end()

    def _end(self) -> None:
        if not self._ended.done():
            self._ended.set_result(None)

    # -- the engine process

    def _message(self, data: bytes) -> None:
        message = messages.in_front(data)
        match message:
            case Replied():
                self.remote.replied(message)
            case LargeAnswer(record=record):
                self.remote.record(record)
            case World():
                assert self._channel is not None  # noqa: S101 - it has just told
                self._worlds.put_nowait((self._channel, message))
            case Close(grace_s=grace_s):
                self._closing = asyncio.get_running_loop().create_task(self._close(grace_s))

    async def _close(self, grace_s: float) -> None:
        await self._door.close(grace_s)
        self._end()

    async def _follow(self) -> None:
        """State after state, in order."""
        while True:
            channel, world = await self._worlds.get()
            known = {} if self._told is None else self._told.tokenizers
            told = await asyncio.to_thread(told_of, world, known)
            if channel is not self._channel:
                continue  # of an engine process that has ended
            self._told = told
            if world.listening and not self._open:
                self._open = True
                await self._door.open(self._services(world), [TEXT_INFERENCE, pb.DESCRIPTOR])
            if channel is self._channel:
                self._door.set_serving(world.serving)
                self.remote.follow(told)

    async def _tell_spent(self) -> None:
        """What this process computes belongs to the replica's watts."""
        while True:
            if self._channel is not None:
                spent = Spent(_cpu_s() - self._spent_before_s)
                self._channel.send_message(*messages.for_engine(spent))
            await asyncio.sleep(SPENT_EVERY_S)

    # -- services

    @property
    def by_name(self) -> dict[str, FrontModel]:
        """The models that the catalog of the Open Inference Protocol tells of."""
        return {} if self._told is None else self._told.by_name  # type: ignore[return-value]

    def _services(self, world: World) -> Sequence[Service]:
        """Texts are read here, and probes answered, engine process or not; all else is forwarded."""
        limits = RpcLimits(self._settings.max_message_bytes, self._settings.max_in_flight)
        counts = _CountedThere(self.remote)
        catalog = Catalog(self)
        inferring = Inferring(
            self.remote, catalog, limits.max_message_bytes, limits.max_stream_in_flight, counts
        )
        here: dict[str, Unary] = {
            **probes(catalog, lambda: self.remote.serving, limits.max_message_bytes),
            "ModelInfer": inferring.unary,
        }
        forwarded = {
            name: partial(self._forward, f"/{OPEN_INFERENCE_NAME}/{name}")
            for name in world.methods[OPEN_INFERENCE_NAME]
        }
        return [
            text_inference(self.remote, limits),
            Service(OPEN_INFERENCE_NAME, {**forwarded, **here}, {"ModelStreamInfer": inferring.stream}),
        ]

    async def _forward(self, path: str, message: bytes, call: Call) -> bytes:
        return await self.remote.forward(path, message, call)


def _cpu_s() -> float:
    """Of this process, since it started."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


class _CountedThere(defaultdict[str, ModelCounts]):
    """By model; what is counted is counted in the engine process."""

    def __init__(self, remote: Remote) -> None:
        super().__init__()
        self._remote = remote

    def __missing__(self, model: str) -> ModelCounts:
        counts = self[model] = _Counted(self._remote, model)
        return counts


class _Counted(ModelCounts):
    def __init__(self, remote: Remote, model: str) -> None:
        super().__init__()
        self._remote = remote
        self._model = model

    def answered(self, now_s: float, took: Took, texts: int, cost: Cost) -> None:
        times = (took.latency_s, took.input_s, took.output_s)
        self._remote.count_oip(OipCounted(self._model, now_s, times, texts, cost))

    def unanswered(self, now_s: float, latency_s: float) -> None:
        self._remote.count_oip(OipCounted(self._model, now_s, (latency_s, 0.0, 0.0)))
