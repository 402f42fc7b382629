"""What a replica meets in its life: requests of every kind, clients that leave, bytes that mean nothing, and
other models.

Each activity is a loop that ends when told to; whatever does not end as it should is written down as lost.
Called by `soak`.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

import minwatt
from bench.model_changes import ModelChanges
from bench.questions import Question

HANG_S = 5.0  # past its deadline: then a request has no end
REFUSED = {"INVALID_ARGUMENT", "NOT_FOUND", "UNIMPLEMENTED", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED"}


@dataclass(slots=True)
class Tally:
    """Counts since the start of the run."""

    asked: Counter[str] = field(default_factory=Counter)  # by activity
    lost: Counter[str] = field(default_factory=Counter)  # by activity and cause


@dataclass(frozen=True, slots=True)
class Mixture:
    """What the activities share."""

    client: minwatt.AsyncClient
    target: str
    asked: Sequence[Question]
    deadline_s: float
    tally: Tally
    stopping: asyncio.Event
    draw: random.Random
    changes: ModelChanges

    async def run(self, scale: float) -> None:
        """All activities until `stopping`; `scale` times as often as it says here."""
        paces: list[tuple[Callable[[], Awaitable[None]], float, int]] = [
            # what, how often a second, how many at a time
            (self.unary, 30.0, 4),
            (self.extract, 10.0, 2),
            (self.many, 0.5, 1),
            (self.stream, 0.5, 2),
            (self.health, 2.0, 1),
            (self.reflection, 0.5, 1),
            (self.cancel, 5.0, 2),
            (self.hurry, 2.0, 1),
            (self.bad_request, 2.0, 1),
            (self.bad_bytes, 2.0, 1),
            (self.reconnect, 1.0, 1),
            (self.no_http, 1.0, 1),
            (self.reload, 0.02, 1),
            (self.load, 0.02, 1),
            (self.damaged_reload, 0.02, 1),
            (self.damaged_load, 0.02, 1),
        ]
        async with asyncio.TaskGroup() as loops:
            for activity, per_s, workers in paces:
                for _ in range(workers):
                    loops.create_task(self._loop(activity, workers / (per_s * scale)))

    async def _loop(self, activity: Callable[[], Awaitable[None]], mean_pause_s: float) -> None:
        name = activity.__name__
        while not self.stopping.is_set():
            self.tally.asked[name] += 1
            try:
                async with asyncio.timeout(self.deadline_s + HANG_S):
                    await activity()
            except Exception as error:  # whatever it is, it is not how this should have ended
                cause = f"{type(error).__name__}: {' '.join(str(error).split())}"
                self.tally.lost[f"{name}: {cause}"[:200]] += 1
            try:
                pause_s = self.draw.expovariate(1 / mean_pause_s)
                await asyncio.wait_for(self.stopping.wait(), pause_s)
            except TimeoutError:
                continue

    def _question(self) -> Question:
        return self.draw.choice(self.asked)

    async def unary(self) -> None:
        question = self._question()
        _expect(question.labelled(await self.client.classify(question.texts)), "a wrong answer")

    async def extract(self) -> None:
        question = self._question()
        _expect(question.extracted(await self.client.extract_entities(question.texts)), "a wrong answer")

    async def many(self) -> None:
        drawn = [self._question() for _ in range(40)]
        texts = [text for question in drawn for text in question.texts]
        right = [result.label for question in drawn for result in question.labels]
        got = [result.label async for result in self.client.classify_many(texts, priority="interactive")]
        _expect(got == right, "a wrong answer")

    async def stream(self) -> None:
        async with self.client.classify_stream(in_flight=16) as stream:
            drawn = [self._question() for _ in range(40)]
            answers = [await stream.send(question.texts) for question in drawn]
            for question, answer in zip(drawn, answers, strict=True):
                _expect(question.labelled(await answer), "a wrong answer")

    async def health(self) -> None:
        async with grpc.aio.insecure_channel(self.target) as channel:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            request = health_pb2.HealthCheckRequest()
            reply = await stub.Check(request, timeout=self.deadline_s)
            watch = stub.Watch(request, timeout=self.deadline_s)
            _expect((await watch.read()).status == reply.status == reply.SERVING, "not serving")
            watch.cancel()

    async def reflection(self) -> None:
        channel: Any
        async with grpc.aio.insecure_channel(self.target) as channel:
            stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
            call = stub.ServerReflectionInfo(timeout=self.deadline_s)
            await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
            names = {service.name for service in (await call.read()).list_services_response.service}
            await call.done_writing()
            _expect("minwatt.v1.TextInference" in names, "the service is not listed")

    async def cancel(self) -> None:
        """A client that leaves: before its request came in, in the queue, in a batch, or too late."""
        asking = asyncio.ensure_future(self.client.classify(self._question().texts * 8))
        await asyncio.sleep(self.draw.expovariate(200))
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)

    async def hurry(self) -> None:
        """A deadline that may well pass."""
        try:
            await self.client.classify(self._question().texts, timeout_s=self.draw.uniform(1e-4, 0.02))
        except minwatt.RequestFailed as failed:
            _expect(failed.code in REFUSED, str(failed))

    async def bad_request(self) -> None:
        """A request that is read and refused."""
        text = self._question().texts[0]
        texts = self.draw.choice([[], [""], [text, " "], [f"{text} " * 400], [text] * 3000])
        await self._refused(self.client.classify(texts, top_k=self.draw.choice([1, 2**31])))

    async def bad_bytes(self) -> None:
        """A message that is none."""
        async with grpc.aio.insecure_channel(self.target) as channel:
            call: Any = channel.unary_unary("/minwatt.v1.TextInference/Classify")
            # A field of a length that the message doesn't have: never well formed, whatever follows.
            message = b"\x12\xff\xff\x7f" + self.draw.randbytes(self.draw.randint(0, 2000))
            await self._refused(call(message, timeout=self.deadline_s))

    async def _refused(self, asking: Awaitable[object]) -> None:
        try:
            await asking
        except minwatt.RequestFailed as failed:
            _expect(failed.code in REFUSED, str(failed))
        except grpc.aio.AioRpcError as error:
            _expect(error.code().name in REFUSED, f"{error.code().name}: {error.details()}")
        else:
            raise LookupError("what is wrong was answered")

    async def reconnect(self) -> None:
        async with minwatt.AsyncClient(self.target, timeout_s=self.deadline_s) as client:
            question = self._question()
            _expect(question.labelled(await client.classify(question.texts)), "a wrong answer")

    async def no_http(self) -> None:
        """A connection that never speaks HTTP/2, or stops in the middle of its greeting."""
        host, _, port = self.target.rpartition(":")
        _, writer = await asyncio.open_connection(host, int(port))
        preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        writer.write(
            self.draw.choice([b"", b"GET / HTTP/1.1\r\n\r\n", preface[:9], self.draw.randbytes(300)])
        )
        await asyncio.sleep(0.01)
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)

    async def reload(self) -> None:
        await self.changes.by_signal()

    async def load(self) -> None:
        await self.changes.by_call()

    async def damaged_reload(self) -> None:
        await self.changes.damaged_by_signal()

    async def damaged_load(self) -> None:
        await self.changes.damaged_by_call()


def _expect(right: bool, otherwise: str) -> None:
    if not right:
        raise LookupError(otherwise)
