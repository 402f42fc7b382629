"""A fleet's link that is one stream to the scaler: the embedded bus, as a replica sees it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import grpc

from minwatt.v1.fleet_pb2 import OperatingPoint, ReplicaReport
from minwatt.v1.fleet_pb2_grpc import FleetStub
from service.fleet import AwayError

CHANNEL_OPTIONS = [
    ("grpc.enable_retries", 0),
    ("grpc.use_local_subchannel_pool", 1),  # the backoff is ours, not one that earlier channels left behind
]

Join = grpc.aio.StreamStreamCall[ReplicaReport, OperatingPoint]


class GrpcLink:
    """A Link to HOST:PORT of a scaler."""

    def __init__(self, scaler: str) -> None:
        self._scaler = scaler

    def __str__(self) -> str:
        return f"scaler {self._scaler}"

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[GrpcSession]:
        try:
            async with grpc.aio.insecure_channel(self._scaler, CHANNEL_OPTIONS) as channel:
                stub: Any = FleetStub(channel)
                call: Join = stub.Join()
                try:
                    yield GrpcSession(call)
                finally:
                    call.cancel()
        except grpc.aio.AioRpcError as error:
            raise AwayError(_in_words(error.code(), error.details())) from error


class GrpcSession:
    def __init__(self, call: Join) -> None:
        self._call = call

    async def send(self, message: ReplicaReport, *, last: bool) -> None:
        try:
            await self._call.write(message)
            if last:
                await self._call.done_writing()
                await self._call.code()  # the scaler has read it: to end the stream before might lose it
        except asyncio.InvalidStateError:  # grpc's word for writing to a stream that has ended
            code = await self._call.code()
            if code is not grpc.StatusCode.OK:
                raise AwayError(_in_words(code, await self._call.details())) from None

    async def points(self) -> AsyncIterator[OperatingPoint]:
        async for point in self._call:
            yield point


def _in_words(code: grpc.StatusCode, details: str | None) -> str:
    """The scaler's own words name what a report lacks; gRPC's of a lost connection say little."""
    return f"{code.name}: {details}" if code is grpc.StatusCode.INVALID_ARGUMENT else str(code.name)
