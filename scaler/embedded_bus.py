"""The bus inside the scaler's own process: the `minwatt.v1.Fleet` service on a port of its own.

Owns the streams of the joined replicas, and who may join; a stream belongs to the fleet that its first report
names, and its end means the replica is gone. Called by the control loops and by `minwatt profile`.
"""

from __future__ import annotations

import asyncio
import logging
import math
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from urllib.parse import unquote

import grpc

from minwatt.v1 import bus_token, fleet_pb2, fleet_pb2_grpc
from minwatt.v1.errors import UsageError
from minwatt.v1.fleet_keys import DEFAULT_FLEET, checked_fleet
from scaler.bus import FleetView
from scaler.grpc_tls import TlsFiles, credentials
from scaler.operating_point import OperatingPoint
from scaler.pages import Unread
from scaler.report import Report
from scaler.wire import point_to_proto, report_from_proto

log = logging.getLogger(__name__)

# If nobody collects: some seconds of the largest fleets. Counters are cumulative: only samples would be lost.
_REPORTS_KEPT = 50_000
_STRAY_REPORTS_KEPT = 100  # of a fleet that nobody asks for, should its policy come later
_CLOSE_GRACE_S = 1.0
_TOLD_EVERY_S = 60.0
_ON_THIS_MACHINE = re.compile(r"(localhost|127\..+|\[::1\]):")
_OPTIONS = (
    ("grpc.max_receive_message_length", 65_536),  # a report is some hundred bytes, with its sketch a few KiB
    ("grpc.so_reuseport", 0),  # two buses on one port would each hear half of the fleet
    ("grpc.keepalive_time_ms", 10_000),  # a replica's host may vanish without closing the stream
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
)

_Context = grpc.aio.ServicerContext[fleet_pb2.ReplicaReport, fleet_pb2.OperatingPoint]


class EmbeddedHub:
    """A Hub. Made by `listen`; everything runs on the event loop it was made on."""

    def __init__(self, server: grpc.aio.Server, fleets: _Fleets, address: str) -> None:
        self._server = server
        self._fleets = fleets
        self._address = address

    @property
    def address(self) -> str:
        """host:port that replicas join."""
        return self._address

    @classmethod
    async def listen(
        cls,
        address: str = "127.0.0.1:0",
        *,
        token_file: Path | None = None,
        tls: TlsFiles | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> EmbeddedHub:
        """Starts to serve; port 0 is chosen by the OS. Without `token_file` anybody may join.

        Raises UsageError: of the address or the files.
        """
        check_address(address)
        if token_file is not None and tls is None and not _ON_THIS_MACHINE.match(address):
            log.warning("--bus-token-file without --bus-tls-cert: tokens travel in plain text")
        server = grpc.aio.server(options=_OPTIONS)
        fleets = _Fleets(clock, None if token_file is None else _Door(token_file, clock))
        fleet_pb2_grpc.add_FleetServicer_to_server(fleets, server)
        try:
            port = (
                server.add_insecure_port(address)
                if tls is None
                else server.add_secure_port(address, credentials(tls))
            )
        except RuntimeError as error:
            raise UsageError(f"--listen = {address!r}: can't listen there; is the port taken?") from error
        await server.start()
        return cls(server, fleets, f"{address.rpartition(':')[0]}:{port}")

    def fleet(self, name: str) -> EmbeddedBus:
        bus = self._fleets.named(checked_fleet(name))
        bus.asked = True
        return bus

    async def strays(self) -> Mapping[str, int]:
        return self._fleets.strays()

    async def close(self) -> None:
        """Ends the streams; replicas go on at their last operating point."""
        self._fleets.end()
        await self._server.stop(grace=_CLOSE_GRACE_S)


def check_address(address: str) -> None:
    """Raises UsageError."""
    # gRPC takes a port over 65535, and listens on some other.
    named = re.fullmatch(r".+:(\d{1,5})", address, re.ASCII)
    if named is None or int(named[1]) > 65535:
        raise UsageError(f"--listen = {address!r}: allowed: HOST:PORT, ports 0 to 65535")


class EmbeddedBus:
    """A FleetBus: the streams of one fleet. Those of a fleet that nobody asks for are told nothing."""

    def __init__(self) -> None:
        self.asked = False
        self.point: OperatingPoint | None = None
        self.members: dict[str, _Stream] = {}
        self._unread = Unread()

    async def publish(self, point: OperatingPoint) -> None:
        if self.point is None or point.version >= self.point.version:
            self.point = point
            for member in self.members.values():
                member.news.set()

    async def collect(self) -> FleetView:
        told = 0 if self.point is None else self.point.version
        return FleetView(frozenset(self.members), self._unread.taken(), told_version=told)

    async def close(self) -> None:
        self.asked = False
        self.point = None

    def joins(self, replica_id: str, stream: _Stream) -> None:
        self.members[replica_id] = stream  # a stream joined again replaces the one it lost
        stream.fleet, stream.replica_id = self, replica_id
        stream.news.set()

    def hears(self, report: Report) -> None:
        self._unread.add(report)
        self._unread.keep(_REPORTS_KEPT if self.asked else _STRAY_REPORTS_KEPT)


class _Stream:
    """A replica's; of no fleet until its first report."""

    def __init__(self) -> None:
        self.fleet: EmbeddedBus | None = None
        self.replica_id = ""
        self.news = asyncio.Event()

    def ends(self) -> None:
        if self.fleet is not None and self.fleet.members.get(self.replica_id) is self:
            del self.fleet.members[self.replica_id]


class _Door:
    """Of a port that asks for a token. Its file is read at each joining; an unusable one leaves the last."""

    def __init__(self, file: Path, clock: Callable[[], float]) -> None:
        self._file = file
        self._clock = clock
        self._tokens = self._read()
        self._told_s: dict[str, float] = {}

    def lets_in(self, context: _Context) -> bool:
        try:
            self._tokens = self._read()
        except UsageError as error:
            self._tell("file", f"{error}: the last tokens stay in force")
        said = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
        value = said.get(bus_token.METADATA_KEY, "")
        if value and bus_token.admits(self._tokens, value):
            return True
        shows = "another token than --bus-token-file holds" if value else "no token"
        self._tell("joining", f"a replica at {unquote(context.peer())} may not join: it shows {shows}")
        return False

    def _read(self) -> Sequence[str]:
        return bus_token.read_tokens(self._file, "--bus-token-file")

    def _tell(self, what: str, line: str) -> None:
        """Replicas try again and again: once a minute is enough."""
        if self._clock() - self._told_s.get(what, -math.inf) >= _TOLD_EVERY_S:
            self._told_s[what] = self._clock()
            log.warning("%s", line)


class _Fleets(fleet_pb2_grpc.FleetServicer):
    def __init__(self, clock: Callable[[], float], door: _Door | None) -> None:
        self._clock = clock
        self._door = door
        self._fleets: dict[str, EmbeddedBus] = {}
        self._closing = asyncio.Event()

    def named(self, name: str) -> EmbeddedBus:
        for other in [other for other, bus in self._fleets.items() if not (bus.asked or bus.members)]:
            del self._fleets[other]
        return self._fleets.setdefault(name, EmbeddedBus())

    def strays(self) -> Mapping[str, int]:
        streams = {name: len(bus.members) for name, bus in self._fleets.items() if not bus.asked}
        return {name: replicas for name, replicas in streams.items() if replicas}

    def end(self) -> None:
        """Ends every stream in good order."""
        self._closing.set()

    async def Join(  # type: ignore[override]  # noqa: N802 - the stubs know only the blocking form
        self, request_iterator: AsyncIterator[fleet_pb2.ReplicaReport], context: _Context
    ) -> None:
        if self._door is not None and not self._door.lets_in(context):
            words = "the scaler asks for a token (--scaler-token-file), and this is none of its own"
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, words)
        stream = _Stream()
        hearing = asyncio.create_task(self._hear(stream, request_iterator, context))
        telling = asyncio.create_task(self._tell(stream, context))
        closing = asyncio.create_task(self._closing.wait())
        tasks = {hearing, telling, closing}
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if hearing.done():
                await hearing  # raises what the replica did wrong
        finally:
            for task in tasks:
                task.cancel()
            stream.ends()

    async def _hear(
        self, stream: _Stream, reports: AsyncIterator[fleet_pb2.ReplicaReport], context: _Context
    ) -> None:
        """Until the replica ends its stream."""
        own = ""
        async for message in reports:
            try:
                report = report_from_proto(message, self._clock())
                own = own or _fleet_of(message)
                if report.replica_id != (stream.replica_id or report.replica_id):
                    was = stream.replica_id
                    raise ValueError(f"replica_id = {report.replica_id!r}: this stream is {was!r}")
                if own != _fleet_of(message):
                    raise ValueError(f"fleet = {message.fleet!r}: this stream is of {own!r}")
            except ValueError as error:
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
            fleet = stream.fleet
            if fleet is None:
                fleet = self.named(own)
                fleet.joins(report.replica_id, stream)
            fleet.hears(report)

    async def _tell(self, stream: _Stream, context: _Context) -> None:
        """The newest operating point once joined, then each newer one; a slow reader misses some between."""
        while True:
            await stream.news.wait()
            stream.news.clear()
            if stream.fleet is not None and stream.fleet.point is not None:
                await context.write(point_to_proto(stream.fleet.point))


def _fleet_of(message: fleet_pb2.ReplicaReport) -> str:
    """Raises ValueError on what is no name of one."""
    name = message.fleet or DEFAULT_FLEET
    try:
        return checked_fleet(name)
    except ValueError as error:
        raise ValueError(f"fleet = {name[:80]!r}: {error}") from error
