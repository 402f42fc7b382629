"""The stock Python client, `grpc.aio`, with the face of the lean one: what an application's own client sees.

Its CPU time is of the order of the server's. Called by `load`.
"""

from __future__ import annotations

import asyncio

import grpc

from bench.serving.http2 import OK, Answered


class Connection:
    """One channel; a task a call, as applications have."""

    def __init__(self, authority: str, path: str, answered: Answered) -> None:
        self._channel = grpc.aio.insecure_channel(
            authority,
            options=[("grpc.use_local_subchannel_pool", 1)],  # else all channels share a connection
        )
        self._method: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(path)
        self._answered = answered
        self._tickets = 0
        self._calls: set[asyncio.Task[None]] = set()

    def call(self, message: bytes) -> int:
        self._tickets += 1
        task = asyncio.create_task(self._call(self._tickets, message))
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)
        return self._tickets

    async def _call(self, ticket: int, message: bytes) -> None:
        try:
            reply = await self._method(message)
            status = OK
        except grpc.aio.AioRpcError as error:
            reply, status = b"", str(error.code().value[0])
        self._answered(self, ticket, status, reply)

    async def close(self) -> None:
        await self._channel.close()
