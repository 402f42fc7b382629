"""Services of `calls` on grpc.aio.

Owns how a call of gRPC looks as a Call, and how a Refusal ends it. Called by `server`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from service.calls import Service, Stream, Unary
from service.statuses import Refusal, unavailable

Context = grpc.aio.ServicerContext[Any, Any]


class _Call:
    def __init__(self, context: Context, closing: asyncio.Event) -> None:
        self._context = context
        self._closing = closing

    @property
    def timeout_s(self) -> float | None:
        return self._context.time_remaining()

    def metadata(self, key: str) -> str | None:
        pairs: Any = self._context.invocation_metadata() or ()
        return next((value for name, value in pairs if name == key), None)

    @property
    def peer_identity(self) -> str | None:
        return None  # this transport has no TLS

    async def read(self) -> bytes | None:
        reading = asyncio.ensure_future(self._context.read())
        closing = asyncio.ensure_future(self._closing.wait())
        try:
            await asyncio.wait({reading, closing}, return_when=asyncio.FIRST_COMPLETED)
            item: Any = reading.result() if reading.done() else grpc.aio.EOF
        finally:
            reading.cancel()
            closing.cancel()
        return None if item is grpc.aio.EOF else item

    async def write(self, message: bytes) -> None:
        try:
            await self._context.write(message)
        except grpc.aio.InternalError:  # the client is gone
            raise asyncio.CancelledError from None


def handlers_of(service: Service, closing: asyncio.Event) -> grpc.GenericRpcHandler:
    """Once `closing` is set, streams answer what they carry and end UNAVAILABLE."""
    unary: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        name: grpc.unary_unary_rpc_method_handler(_unary(method, closing))
        for name, method in service.unary.items()
    }
    streams: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        name: grpc.stream_stream_rpc_method_handler(_stream(method, closing))
        for name, method in service.streams.items()
    }
    return grpc.method_handlers_generic_handler(service.name, unary | streams)


def _unary(method: Unary, closing: asyncio.Event) -> Callable[[bytes, Context], Awaitable[bytes]]:
    async def behaviour(data: bytes, context: Context) -> bytes:
        try:
            return await method(data, _Call(context, closing))
        except Refusal as refusal:
            await context.abort(refusal.code, refusal.message, refusal.trailing_metadata())

    return behaviour


def _stream(method: Stream, closing: asyncio.Event) -> Callable[[object, Context], Awaitable[None]]:
    async def behaviour(_requests: object, context: Context) -> None:
        try:
            await method(_Call(context, closing))
            if closing.is_set():
                raise unavailable("draining", "this replica is draining; open the stream anew", 0.0)
        except Refusal as refusal:
            await context.abort(refusal.code, refusal.message, refusal.trailing_metadata())

    return behaviour
