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
from pathlib import Path

import grpc

from service.oip import open_inference_pb2 as pb
from tests.e2e.replica_process import ReplicaProcess
from tests.service.lifecycle.damage import DAMAGES
from tests.tiny_model import write_tiny_model

LOOK_EVERY_S = 0.2
# The caller of no key is an admin: the soak's one tenant does everything.
TENANTS = "default: {roles: [infer, admin]}\n"

Order = Callable[[], Awaitable[bool]]  # asks for a reload; whether the new model serves now


@dataclass(slots=True)
class ModelChanges:
    """Of a tiny model that a replica serves alone; one change at a time, whoever asks."""

    replica: ReplicaProcess
    model: Path
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
            if not await order() or await self._version() != version:
                raise LookupError("another version was not put in place")

    async def _refused(self, order: Order) -> None:
        damage = self.draw.choice(list(DAMAGES))
        async with self._one_at_a_time:
            before = await self._version()
            self._write()
            damage(self.model)
            if await order() or await self._version() != before:
                raise LookupError(f"a model with {damage.__name__} was put in place")
            self._write()  # whole again, though never served as this

    def _write(self) -> str:
        version = str(next(self._versions))
        write_tiny_model(self.model, version=version)
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
                await load(pb.RepositoryModelLoadRequest(model_name=self.model.name), timeout=self.deadline_s)
            except grpc.aio.AioRpcError as error:
                if error.code() is grpc.StatusCode.FAILED_PRECONDITION:
                    return False
                raise
        return True

    async def _counts(self) -> tuple[float, float]:
        """Of models put in place, and refused."""
        names = ("minwatt_model_replacements_total", "minwatt_model_reload_failures_total")
        labelled = [f'{name}{{model="{self.model.name}"}}' for name in names]
        taken, refused = [await asyncio.to_thread(self.replica.metric, name) for name in labelled]
        return taken, refused

    async def _version(self) -> str:
        async with grpc.aio.insecure_channel(self.replica.target) as channel:
            ask = channel.unary_unary(
                "/inference.GRPCInferenceService/ModelMetadata",
                pb.ModelMetadataRequest.SerializeToString,
                pb.ModelMetadataResponse.FromString,
            )
            reply = await ask(
                pb.ModelMetadataRequest(name=f"{self.model.name}.intent"), timeout=self.deadline_s
            )
        return str(reply.versions[0])
