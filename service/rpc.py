"""`minwatt.v1.TextInference` on gRPC: unary calls, and streams that carry many requests.

Owns method names, (de)serialization and how a refusal travels. What a request means and gets is
`inference`'s matter.
"""

from __future__ import annotations

import asyncio
import operator
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import grpc
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
from service.inference import AnyRequest, AnyResponse, Inference
from service.statuses import Refusal, Violation, invalid, shortened, unavailable
from service.validation import check_timeout
from service.wire import Reader, Unreadable

SERVICE = DESCRIPTOR.services_by_name["TextInference"].full_name
STREAM_ENVELOPE_BYTES = 4096  # what a stream's item may have around its request

_SERIALIZE = operator.methodcaller("SerializeToString")

Context = grpc.aio.ServicerContext[Any, Any]
StreamRequest = ClassifyStreamRequest | ExtractEntitiesStreamRequest
StreamReply = ClassifyStreamResponse | ExtractEntitiesStreamResponse


@dataclass(frozen=True, slots=True)
class RpcLimits:
    max_message_bytes: int
    max_stream_in_flight: int  # requests of one stream not yet answered; then it isn't read further


class _GrpcCall:
    """grpc's context as a `calls.Call`."""

    def __init__(self, context: Context) -> None:
        self._context = context

    @property
    def timeout_s(self) -> float | None:
        remaining_s: float | None = self._context.time_remaining()
        return remaining_s

    def metadata(self, key: str) -> str | None:
        for name, value in self._context.invocation_metadata() or ():
            if name == key:
                return str(value)
        return None

    @property
    def peer_identity(self) -> str | None:
        for identity in self._context.peer_identities() or ():
            return str(identity, "utf-8", "replace")
        return None


def handlers(inference: Inference, limits: RpcLimits, closing: asyncio.Event) -> grpc.GenericRpcHandler:
    """The service's methods. Once `closing` is set, streams answer what they carry and end UNAVAILABLE."""

    def unary(method: str, request: type[Message]) -> grpc.RpcMethodHandler[Any, Any]:
        return grpc.unary_unary_rpc_method_handler(
            _unary(method, inference),
            request_deserializer=Reader(request, limits.max_message_bytes),
            response_serializer=_SERIALIZE,
        )

    def stream(
        method: str, request: type[Message], reply: Callable[..., StreamReply]
    ) -> grpc.RpcMethodHandler[Any, Any]:
        async def behaviour(_requests: object, context: Context) -> None:
            await _Stream(method, reply, inference, context, closing).run(limits.max_stream_in_flight)

        return grpc.stream_stream_rpc_method_handler(
            behaviour,
            request_deserializer=Reader(request, limits.max_message_bytes + STREAM_ENVELOPE_BYTES),
            response_serializer=_SERIALIZE,
        )

    return grpc.method_handlers_generic_handler(
        SERVICE,
        {
            "Classify": unary("Classify", ClassifyRequest),
            "ExtractEntities": unary("ExtractEntities", ExtractEntitiesRequest),
            "ClassifyStream": stream("ClassifyStream", ClassifyStreamRequest, ClassifyStreamResponse),
            "ExtractEntitiesStream": stream(
                "ExtractEntitiesStream",
                ExtractEntitiesStreamRequest,
                ExtractEntitiesStreamResponse,
            ),
        },
    )


def _unary(
    method: str, inference: Inference
) -> Callable[[AnyRequest | Unreadable, Context], Awaitable[AnyResponse]]:
    async def behaviour(message: AnyRequest | Unreadable, context: Context) -> AnyResponse:
        arrival = inference.arrival(method, _GrpcCall(context))
        try:
            return await inference.answer(message, arrival)
        except Refusal as refusal:
            await context.abort(refusal.code, refusal.message, refusal.trailing_metadata())

    return behaviour


class _Stream:
    """One client stream: each item is answered by a task of its own, replies go out as they come."""

    def __init__(
        self,
        method: str,
        reply: Callable[..., StreamReply],
        inference: Inference,
        context: Context,
        closing: asyncio.Event,
    ) -> None:
        self._method = method
        self._reply = reply
        self._inference = inference
        self._context = context
        self._closing = closing
        self._ids: set[str] = set()
        self._write = asyncio.Lock()

    async def run(self, max_in_flight: int) -> None:
        broken = False
        try:
            await self._answer_all(max_in_flight)
        except* grpc.aio.InternalError:  # a reply could not be written: the client is gone
            broken = True
        if broken:
            raise asyncio.CancelledError  # as gRPC itself does, a moment later
        if self._closing.is_set():
            refusal = unavailable("draining", "this replica is draining; open the stream anew", 0.0)
            await self._context.abort(refusal.code, refusal.message, refusal.trailing_metadata())

    async def _answer_all(self, max_in_flight: int) -> None:
        room = asyncio.Semaphore(max_in_flight)
        async with asyncio.TaskGroup() as answers:
            while True:
                await room.acquire()  # a client that doesn't read its replies isn't read either
                item = await self._read()
                if item is None:
                    break
                answers.create_task(self._answer(item)).add_done_callback(lambda _: room.release())

    async def _read(self) -> StreamRequest | Unreadable | None:
        """The next item; None when the client has sent its last or the server is closing."""
        reading = asyncio.ensure_future(self._context.read())
        closing = asyncio.ensure_future(self._closing.wait())
        try:
            await asyncio.wait({reading, closing}, return_when=asyncio.FIRST_COMPLETED)
            item: Any = reading.result() if reading.done() else grpc.aio.EOF
        finally:
            reading.cancel()
            closing.cancel()
        return None if item is grpc.aio.EOF else item

    async def _answer(self, item: StreamRequest | Unreadable) -> None:
        reply = await self._replied(item)
        async with self._write:
            await self._context.write(reply)

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
        arrival = self._inference.arrival(self._method, _GrpcCall(self._context), timeout_s)
        try:
            response = await self._inference.answer(message, arrival)
        except Refusal as refusal:
            status = refusal.status()
            error = StreamError(
                code=status.code, message=status.message, status_details=status.SerializeToString()
            )
            return self._reply(id=id_, error=error)
        return self._reply(id=id_, response=response)
