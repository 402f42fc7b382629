"""`grpc.health.v1.Health`: whether a service is served here, asked once or watched."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from grpc_health.v1.health_pb2 import DESCRIPTOR, HealthCheckRequest, HealthCheckResponse

from service.calls import Call, Service, StreamCall
from service.statuses import not_found, unavailable
from service.wire import Reader, Unreadable

NAME: str = DESCRIPTOR.services_by_name["Health"].full_name
MAX_BYTES = 4096

Status = int  # HealthCheckResponse.ServingStatus


class Health:
    """One answer for all services of this server, which "" stands for too."""

    def __init__(self, names: Iterable[str], serving: bool) -> None:
        self._names = frozenset(("", *names))
        self._serving = serving
        self._closed = False
        self._changed = asyncio.Event()
        self._read = Reader(HealthCheckRequest, MAX_BYTES)

    def set(self, serving: bool) -> None:
        self._serving = serving
        self._tell()

    def close(self) -> None:
        """Ends what watches."""
        self._closed = True
        self._tell()

    def _tell(self) -> None:
        self._changed.set()  # whoever waits holds this event; the next change has its own
        self._changed = asyncio.Event()

    def _status(self, name: str) -> Status:
        if name not in self._names:
            return HealthCheckResponse.SERVICE_UNKNOWN
        return HealthCheckResponse.SERVING if self._serving else HealthCheckResponse.NOT_SERVING

    def service(self) -> Service:
        return Service(NAME, {"Check": self._check}, {"Watch": self._watch})

    async def _check(self, message: bytes, call: Call) -> bytes:  # noqa: ARG002 - Unary's
        status = self._status(self._asked(message))
        if status == HealthCheckResponse.SERVICE_UNKNOWN:
            raise not_found("no such service is served here")
        return _reply(status)

    async def _watch(self, call: StreamCall) -> None:
        """Each change once, until the client leaves or the server closes."""
        name = self._asked(await call.read() or b"")
        told: Status | None = None
        while not self._closed:
            changed = self._changed
            status = self._status(name)
            if status != told:
                await call.write(_reply(status))
                told = status
            else:
                await changed.wait()
        raise unavailable("draining", "this replica is draining", 0.0)

    def _asked(self, message: bytes) -> str:
        request = self._read(message)
        if isinstance(request, Unreadable):
            raise request.refusal
        return request.service


def _reply(status: Status) -> bytes:
    return HealthCheckResponse(status=status).SerializeToString()
