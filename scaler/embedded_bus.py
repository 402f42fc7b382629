"""The bus inside the scaler's own process: the `minwatt.v1.Fleet` service on a port of its own.

Owns the streams of the joined replicas; a stream's end means the replica is gone. Called by the control loop
and by `minwatt profile`.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import deque
from collections.abc import AsyncIterator, Callable

import grpc

from minwatt.v1 import fleet_pb2, fleet_pb2_grpc
from minwatt.v1.errors import UsageError
from scaler.bus import FleetView
from scaler.operating_point import OperatingPoint
from scaler.report import Report
from scaler.wire import point_to_proto, report_from_proto

# If nobody collects: some seconds of the largest fleets. Counters are cumulative: only samples would be lost.
_REPORTS_KEPT = 50_000
_CLOSE_GRACE_S = 1.0
_OPTIONS = (
    ("grpc.so_reuseport", 0),  # two buses on one port would each hear half of the fleet
    ("grpc.keepalive_time_ms", 10_000),  # a replica's host may vanish without closing the stream
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
)

_Context = grpc.aio.ServicerContext[fleet_pb2.ReplicaReport, fleet_pb2.OperatingPoint]


class EmbeddedBus:
    """A FleetBus. Made by `listen`; everything runs on the event loop it was made on."""

    def __init__(self, server: grpc.aio.Server, members: _Members, address: str) -> None:
        self._server = server
        self._members = members
        self.address = address  # host:port that replicas join

    @classmethod
    async def listen(
        cls, address: str = "127.0.0.1:0", *, clock: Callable[[], float] = time.monotonic
    ) -> EmbeddedBus:
        """Starts to serve; port 0 is chosen by the OS. Raises UsageError when the address can't be had."""
        # gRPC takes a port over 65535, and listens on some other.
        named = re.fullmatch(r".+:(\d{1,5})", address, re.ASCII)
        if named is None or int(named[1]) > 65535:
            raise UsageError(f"--listen = {address!r}: allowed: HOST:PORT, ports 0 to 65535")
        server = grpc.aio.server(options=_OPTIONS)
        members = _Members(clock)
        fleet_pb2_grpc.add_FleetServicer_to_server(members, server)
        try:
            port = server.add_insecure_port(address)
        except RuntimeError as error:
            raise UsageError(f"--listen = {address!r}: can't listen there; is the port taken?") from error
        await server.start()
        return cls(server, members, f"{address.rpartition(':')[0]}:{port}")

    async def publish(self, point: OperatingPoint) -> None:
        self._members.tell_all(point)

    async def collect(self) -> FleetView:
        return self._members.take()

    async def close(self) -> None:
        """Ends the streams; replicas go on at their last operating point."""
        self._members.end()
        await self._server.stop(grace=_CLOSE_GRACE_S)


class _Member:
    def __init__(self) -> None:
        self.name = ""  # until its first report
        self.news = asyncio.Event()


class _Members(fleet_pb2_grpc.FleetServicer):
    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._members: dict[str, _Member] = {}
        self._reports: deque[Report] = deque(maxlen=_REPORTS_KEPT)
        self._point: OperatingPoint | None = None
        self._closing = asyncio.Event()

    def end(self) -> None:
        """Ends every stream in good order."""
        self._closing.set()

    def take(self) -> FleetView:
        view = FleetView(frozenset(self._members), tuple(self._reports))
        self._reports.clear()
        return view

    def tell_all(self, point: OperatingPoint) -> None:
        self._point = point
        for member in self._members.values():
            member.news.set()

    async def Join(  # type: ignore[override]  # noqa: N802 - the stubs know only the blocking form
        self, request_iterator: AsyncIterator[fleet_pb2.ReplicaReport], context: _Context
    ) -> None:
        member = _Member()
        hearing = asyncio.create_task(self._hear(member, request_iterator, context))
        telling = asyncio.create_task(self._tell(member, context))
        closing = asyncio.create_task(self._closing.wait())
        tasks = {hearing, telling, closing}
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if hearing.done():
                await hearing  # raises what the replica did wrong
        finally:
            for task in tasks:
                task.cancel()
            if self._members.get(member.name) is member:
                del self._members[member.name]

    async def _hear(
        self, member: _Member, reports: AsyncIterator[fleet_pb2.ReplicaReport], context: _Context
    ) -> None:
        """Until the replica ends its stream."""
        async for message in reports:
            report = await self._checked(message, member.name, context)
            self._reports.append(report)
            if not member.name:
                member.name = report.replica_id
                self._members[member.name] = member  # a stream joined again replaces the one it lost
                member.news.set()

    async def _checked(self, message: fleet_pb2.ReplicaReport, name: str, context: _Context) -> Report:
        try:
            report = report_from_proto(message, self._clock())
        except ValueError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        if name and report.replica_id != name:
            await context.abort(
                grpc.StatusCode.INVALID_ARGUMENT,
                f"replica_id = {report.replica_id!r}: this stream is {name!r}",
            )
        return report

    async def _tell(self, member: _Member, context: _Context) -> None:
        """The newest operating point once joined, then each newer one; a slow reader misses some between."""
        while True:
            await member.news.wait()
            member.news.clear()
            if self._point is not None:
                await context.write(point_to_proto(self._point))
