"""A fleet's link that is one stream to the scaler: the embedded bus, as a replica sees it."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from minwatt.v1 import bus_token
from minwatt.v1.errors import UsageError
from minwatt.v1.fleet_pb2 import OperatingPoint, ReplicaReport
from minwatt.v1.fleet_pb2_grpc import FleetStub
from service.fleet import AwayError

CHANNEL_OPTIONS = [
    ("grpc.enable_retries", 0),
    ("grpc.use_local_subchannel_pool", 1),  # the backoff is ours, not one that earlier channels left behind
]

Join = grpc.aio.StreamStreamCall[ReplicaReport, OperatingPoint]


_IN_ITS_OWN_WORDS = {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNAUTHENTICATED}


@dataclass(frozen=True, slots=True)
class JoinFiles:
    """What a scaler asks for, read at each joining. `token`: its first line is shown. `authority`: PEM, whose
    certificate the scaler must have; None: plaintext."""

    token: Path | None = None
    authority: Path | None = None

    def check(self) -> None:
        """Raises UsageError."""
        self.metadata()
        self.credentials()

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Raises UsageError."""
        if self.token is None:
            return ()
        first = bus_token.read_tokens(self.token, "scaler-token-file")[0]
        return ((bus_token.METADATA_KEY, bus_token.shown(first)),)

    def credentials(self) -> grpc.ChannelCredentials | None:
        """Raises UsageError."""
        if self.authority is None:
            return None
        try:
            pem = self.authority.read_bytes()
            tried = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # gRPC would only find the scaler unavailable
            tried.load_verify_locations(cadata=pem.decode("ascii", "ignore"))
        except (ssl.SSLError, ValueError) as error:  # the first is an OSError too
            raise UsageError(f"scaler-ca = {str(self.authority)!r}: no PEM certificate in it") from error
        except OSError as error:
            raise UsageError(f"scaler-ca = {str(self.authority)!r}: {error.strerror}") from error
        return grpc.ssl_channel_credentials(pem)


class GrpcLink:
    """A Link to HOST:PORT of a scaler."""

    def __init__(self, scaler: str, files: JoinFiles = JoinFiles()) -> None:
        self._scaler = scaler
        self._files = files

    def __str__(self) -> str:
        return f"scaler {self._scaler}"

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[GrpcSession]:
        try:
            async with self._channel() as channel:
                stub: Any = FleetStub(channel)
                call: Join = stub.Join(metadata=self._files.metadata())
                try:
                    yield GrpcSession(call)
                finally:
                    call.cancel()
        except grpc.aio.AioRpcError as error:
            raise AwayError(_in_words(error.code(), error.details())) from error
        except UsageError as error:  # of a file that was there at the start
            raise AwayError(str(error)) from error

    def _channel(self) -> grpc.aio.Channel:
        credentials = self._files.credentials()
        if credentials is None:
            return grpc.aio.insecure_channel(self._scaler, CHANNEL_OPTIONS)
        return grpc.aio.secure_channel(self._scaler, credentials, CHANNEL_OPTIONS)


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
    """The scaler's words name what a report or a replica lacks; gRPC's of a lost connection say little."""
    return f"{code.name}: {details}" if code in _IN_ITS_OWN_WORDS else str(code.name)
