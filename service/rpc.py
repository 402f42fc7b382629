"""`minwatt.v1.TextInference` on gRPC: unary calls, and streams that carry many requests.

Owns method names, (de)serialization and how a stream's refusals travel. What a request means and gets is
`inference`'s matter; how bytes come and go that of `service.front`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message

from minwatt.v1.inference_pb2 import (
    DESCRIPTOR,
    ClassifyRequest,
    ClassifyStreamRequest,
    ClassifyStreamResponse,
    ExtractEntitiesRequest,
    ExtractEntitiesStreamRequest,
    ExtractEntitiesStreamResponse,
    StreamError,
)
from service.answering import Answering
from service.calls import Call, Service, Stream, StreamCall, Unary
from service.replies import AnyRequest
from service.statuses import Refusal, Violation, invalid, shortened
from service.validation import check_timeout
from service.wire import Reader, Unreadable

SERVICE = DESCRIPTOR.services_by_name["TextInference"].full_name
STREAM_ENVELOPE_BYTES = 4096  # what a stream's item may have around its request

StreamRequest = ClassifyStreamRequest | ExtractEntitiesStreamRequest
StreamReply = ClassifyStreamResponse | ExtractEntitiesStreamResponse


@dataclass(frozen=True, slots=True)
class RpcLimits:
    max_message_bytes: int
    max_stream_in_flight: int  # requests of one stream not yet answered; then it isn't read further


def text_inference(inference: Answering, limits: RpcLimits) -> Service:
    """The service; each of its methods takes and gives serialized messages."""

    def unary(method: str, request: type[Message]) -> Unary:
        read: Reader[Any] = Reader(request, limits.max_message_bytes)

        async def behaviour(message: bytes, call: Call) -> bytes:
            arrival = inference.arrival(method, call)
            reply = await inference.answer(read(message), arrival)
            return reply.SerializeToString()

        return behaviour

    def stream(method: str, request: type[Message], reply: Callable[..., StreamReply]) -> Stream:
        read = Reader(request, limits.max_message_bytes + STREAM_ENVELOPE_BYTES)

        async def behaviour(call: StreamCall) -> None:
            await _Stream(method, read, reply, inference, call).run(limits.max_stream_in_flight)

        return behaviour

    return Service(
        SERVICE,
        {
            "Classify": unary("Classify", ClassifyRequest),
            "ExtractEntities": unary("ExtractEntities", ExtractEntitiesRequest),
        },
        {
            "ClassifyStream": stream("ClassifyStream", ClassifyStreamRequest, ClassifyStreamResponse),
            "ExtractEntitiesStream": stream(
                "ExtractEntitiesStream", ExtractEntitiesStreamRequest, ExtractEntitiesStreamResponse
            ),
        },
    )


class _Stream:
    """One client stream: each item is answered by a task of its own, replies go out as they come."""

    def __init__(
        self,
        method: str,
        read: Reader[Any],
        reply: Callable[..., StreamReply],
        inference: Answering,
        call: StreamCall,
    ) -> None:
        self._method = method
        self._read = read
        self._reply = reply
        self._inference = inference
        self._call = call
        self._ids: set[str] = set()

    async def run(self, max_in_flight: int) -> None:
        """Until the client has sent its last, or the server is closing; what was read is answered."""
        room = asyncio.Semaphore(max_in_flight)
        async with asyncio.TaskGroup() as answers:
            while True:
                await room.acquire()  # a client that doesn't read its replies isn't read either
                message = await self._call.read()
                if message is None:
                    break
                answers.create_task(self._answer(message)).add_done_callback(lambda _: room.release())

    async def _answer(self, message: bytes) -> None:
        reply = await self._replied(self._read(message))
        await self._call.write(reply.SerializeToString())

    async def _replied(self, item: StreamRequest | Unreadable) -> StreamReply:
        if isinstance(item, Unreadable):
            return await self._outcome("", item, None)  # its id could not be read either
        if item.id in self._ids:
            taken = f"{shortened(item.id)!r} is in flight on this stream already"
            return await self._outcome(item.id, Unreadable(invalid([Violation("id", taken)])), None)
        self._ids.add(item.id)
        try:
            check_timeout(item.timeout_seconds)
        except Refusal as refusal:
            return await self._outcome(item.id, Unreadable(refusal), None)
        else:
            return await self._outcome(item.id, item.request, item.timeout_seconds or None)
        finally:
            self._ids.discard(item.id)

    async def _outcome(
        self, id_: str, message: AnyRequest | Unreadable, timeout_s: float | None
    ) -> StreamReply:
        arrival = self._inference.arrival(self._method, self._call, timeout_s)
        try:
            response = await self._inference.answer(message, arrival)
        except Refusal as refusal:
            status = refusal.status()
            error = StreamError(
                code=status.code, message=status.message, status_details=status.SerializeToString()
            )
            return self._reply(id=id_, error=error)
        return self._reply(id=id_, response=response)
