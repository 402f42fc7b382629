"""Another version of a replica's model, or a damaged one: by SIGHUP and by the repository's RPC, checked.

Writes the model's directory. The weights stay the same, so answers that were right before are right after.
Called by `mixture`.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import grpc

from bench.working_copy import WorkingCopy
from service.oip import open_inference_pb2 as pb
from tests.e2e.replica_process import ReplicaProcess
from tests.service.lifecycle.damage import DAMAGES

LOOK_EVERY_S = 0.2
# The caller of no key is an admin: the soak's one tenant does everything.
TENANTS = "default: {roles: [infer, admin]}\n"

Order = Callable[[], Awaitable[bool]]  # asks for a reload; whether the new model serves now


@dataclass(slots=True)
class ModelChanges:
    """Of a model that a replica serves alone; one change at a time, whoever asks."""

    replica: ReplicaProcess
    model: WorkingCopy
    deadline_s: float
    draw: random.Random
    _versions: itertools.count[int] = field(default_factory=lambda: itertools.count(2))
    _one_at_a_time: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def by_signal(self) -> None:
        await self._taken(self._hang_up)

    async def by_call(self) -> None:
        await self._taken(self._load)

    async def damaged_by_signal(self) -> None:
        await self._refused(self._hang_up)

    async def damaged_by_call(self) -> None:
        await self._refused(self._load)

    async def _taken(self, order: Order) -> None:
        async with self._one_at_a_time:
            version = self._write()
            if not await order():
                raise LookupError("another version was not put in place")
            await self._served(version)

    async def _refused(self, order: Order) -> None:
        damage = self.draw.choice(list(DAMAGES))
        async with self._one_at_a_time:
            before = await self._version()
            self._write()
            damage(self.model.path)
            if await order() or await self._version() != before:
                raise LookupError(f"a model with {damage.__name__} was put in place")
            self._write()  # whole again, though never served as this

    def _write(self) -> str:
        version = str(next(self._versions))
        self.model.write(version)
        return version

    async def _hang_up(self) -> bool:
        taken, refused = await self._counts()
        self.replica.reload()
        while (now := await self._counts()) == (taken, refused):  # noqa: ASYNC110 - nobody is told
            await asyncio.sleep(LOOK_EVERY_S)
        return now[0] > taken

    async def _load(self) -> bool:
        async with grpc.aio.insecure_channel(self.replica.target) as channel:
            load = channel.unary_unary(
                "/inference.GRPCInferenceService/RepositoryModelLoad",
                pb.RepositoryModelLoadRequest.SerializeToString,
                pb.RepositoryModelLoadResponse.FromString,
            )
            try:
                await load(
                    pb.RepositoryModelLoadRequest(model_name=self.model.path.name), timeout=self.deadline_s
                )
            except grpc.aio.AioRpcError as error:
                if error.code() is grpc.StatusCode.FAILED_PRECONDITION:
                    return False
                raise
        return True

    async def _counts(self) -> tuple[float, float]:
        """Of models put in place, and refused."""
        names = ("minwatt_model_replacements_total", "minwatt_model_reload_failures_total")
        labelled = [f'{name}{{model="{self.model.path.name}"}}' for name in names]
        taken, refused = [await asyncio.to_thread(self.replica.metric, name) for name in labelled]
        return taken, refused

    async def _served(self, version: str) -> None:
        """After a signal a front-end process learns of it a moment later than it is counted."""
        async with asyncio.timeout(self.deadline_s):
            while await self._version() != version:  # noqa: ASYNC110 - nobody is told
                await asyncio.sleep(LOOK_EVERY_S)

    async def _version(self) -> str:
        async with grpc.aio.insecure_channel(self.replica.target) as channel:
            ask = channel.unary_unary(
                "/inference.GRPCInferenceService/ModelMetadata",
                pb.ModelMetadataRequest.SerializeToString,
                pb.ModelMetadataResponse.FromString,
            )
            reply = await ask(
                pb.ModelMetadataRequest(name=f"{self.model.path.name}.{self.model.task}"),
                timeout=self.deadline_s,
            )
        return str(reply.versions[0])
