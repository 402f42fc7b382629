"""A front end on a thread of its own, with services that do what tests ask; and a client that breaks rules.

Used by `test_grpc_*`: stock grpcio clients on one side, a real socket between, `service.door` on the other,
or front-end processes with the services behind them (`front_processes`).
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import queue
import socket
import struct
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import ngh2
import psutil

from service import event_loop
from service.calls import Call, Service, StreamCall
from service.door import Door, DoorOptions
from service.front.tls import TlsFiles
from service.statuses import Violation, invalid
from tests.contract.front_processes import Nursery, ProcessesDoor, Tell

T = TypeVar("T")
NAME = "test.Probe"
MAX_MESSAGE_BYTES = 64 * 1024
PATIENCE_S = 20.0

log = logging.getLogger(__name__)


class StreamProbe:
    """Handlers of streams; they say in lines what they see."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell

    def service(self) -> Service:
        streams = {
            "EchoStream": self.echo_stream,
            "Reverse": self.reverse,
            "Flood": self.flood,
            "Ignore": self.ignore,
            "RefuseSecond": self.refuse_second,
        }
        return Service(NAME, {}, streams)

    async def echo_stream(self, call: StreamCall) -> None:
        try:
            for number in itertools.count(1):
                message = await call.read()
                if message is None:
                    break
                if number == 2:
                    self._tell("second read")
                await call.write(message)
        except asyncio.CancelledError:
            self._tell("seen cancelled")
            raise

    async def reverse(self, call: StreamCall) -> None:
        """Answers when all has come, the last first."""
        messages = []
        while (message := await call.read()) is not None:
            messages.append(message)
        for message in reversed(messages):
            await call.write(message)

    async def flood(self, call: StreamCall) -> None:
        """Writes as many messages of 16 KiB as it is asked to."""
        for number in range(int(await call.read() or b"0")):
            await call.write(bytes(16 * 1024))
            self._tell(f"written {number + 1}")

    async def ignore(self, call: StreamCall) -> None:
        """Reads nothing."""
        self._tell("seen started")
        await asyncio.Event().wait()

    async def refuse_second(self, call: StreamCall) -> None:
        await call.write(await call.read() or b"")
        await call.read()
        raise invalid([Violation("field", "the second is one too many")])


def streams(tell: Tell) -> Service:
    """For a process that is told how to make them."""
    return StreamProbe(tell).service()


class Probe:
    """Handlers, and what they saw; those of streams may be elsewhere."""

    def __init__(self) -> None:
        self.seen: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.at_once = 0
        self.most_at_once = 0
        self.written = 0
        self.second_read = threading.Event()

    def told(self, line: str) -> None:
        what, _, value = line.partition(" ")
        match what:
            case "seen":
                self.seen.put(value)
            case "second":
                self.second_read.set()
            case "written":
                self.written = int(value)
            case "log":
                level, _, words = value.partition(" ")
                log.log(int(level), "%s", words)
            case _:
                raise ValueError(line)

    def service(self) -> Service:
        unary = {
            "Echo": self.echo,
            "Zeros": self.zeros,
            "Sleep": self.sleep,
            "Metadata": self.metadata,
            "Timeout": self.timeout,
            "Identity": self.identity,
            "Refuse": self.refuse,
            "Break": self.broken,
        }
        return Service(NAME, unary, streams(self.told).streams)

    async def echo(self, message: bytes, call: Call) -> bytes:
        return message

    async def zeros(self, message: bytes, call: Call) -> bytes:
        """As many as it is asked for."""
        return bytes(int(message))

    async def sleep(self, message: bytes, call: Call) -> bytes:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        self.seen.put("started")
        try:
            await asyncio.sleep(float(message))
        except asyncio.CancelledError:
            self.seen.put("cancelled")
            raise
        finally:
            self.at_once -= 1
        return b"slept"

    async def metadata(self, message: bytes, call: Call) -> bytes:
        return repr(call.metadata(message.decode())).encode()

    async def timeout(self, message: bytes, call: Call) -> bytes:
        return repr(call.timeout_s).encode()

    async def identity(self, message: bytes, call: Call) -> bytes:
        return repr(call.peer_identity).encode()

    async def refuse(self, message: bytes, call: Call) -> bytes:
        raise invalid([Violation("field", message.decode())])

    async def broken(self, message: bytes, call: Call) -> bytes:
        raise RuntimeError(message.decode())


@dataclass(frozen=True, slots=True)
class Processes:
    """Front ends of their own processes, for each `FrontEnd` from now on (`conftest`)."""

    count: int
    model: Path
    nursery: Nursery


class FrontEnd:
    """Entered: listening. Left: closed, with nothing left behind."""

    processes: Processes | None = None  # None: it speaks to clients on its own loop

    def __init__(
        self, max_age_s: float = 3600.0, max_streams: int = 1024, tls: TlsFiles | None = None
    ) -> None:
        self.options = DoorOptions("127.0.0.1", 0, False, MAX_MESSAGE_BYTES, max_age_s, max_streams, tls)
        self.probe = Probe()
        self.target = ""
        self._ready: Future[str] = Future()
        self._thread = threading.Thread(target=lambda: event_loop.run(self._serve()))

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        try:
            self.door = self._made()
            self._ready.set_result(await self.door.open([self.probe.service()]))
        except BaseException as error:
            self._ready.set_exception(error)
            raise
        await self._stop.wait()
        await self.door.close(0.0)

    def _made(self) -> Door | ProcessesDoor:
        one = self.processes
        if one is None:
            return Door(self.options)
        return ProcessesDoor(self.options, one.model, one.count, one.nursery, streams, self.probe.told)

    def run(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        """On the server's loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def connections(self) -> int:
        """That are open, as the kernel has it."""
        port = int(self.target.rpartition(":")[2])
        pids = [os.getpid()] if isinstance(self.door, Door) else self.door.pids
        open_ones = [one for pid in pids for one in psutil.Process(pid).net_connections("tcp")]
        return sum(one.status == psutil.CONN_ESTABLISHED and one.laddr.port == port for one in open_ones)

    def set_serving(self, serving: bool) -> None:
        async def act() -> None:
            if isinstance(self.door, Door):
                self.door.set_serving(serving)
            else:
                await self.door.set_serving(serving)

        self.run(act()).result(PATIENCE_S)

    def __enter__(self) -> Self:
        self._thread.start()
        self.target = self._ready.result(PATIENCE_S)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()


@dataclass(slots=True)
class Answer:
    """What came back on one stream."""

    headers: dict[str, str] = field(default_factory=dict)  # of response and trailers
    body: bytes = b""
    reset: int | None = None
    closed: bool = False

    @property
    def status(self) -> int:
        return int(self.headers["grpc-status"])


class RawClient:
    """HTTP/2 by hand: sends what no gRPC library would."""

    def __init__(self, target: str, takes_bodies: bool = True) -> None:
        """`takes_bodies`: gives the server's window back what has come; else 64 KiB are all that comes."""
        host, _, port = target.rpartition(":")
        self._socket = socket.create_connection((host, int(port)), PATIENCE_S)
        self._http2 = ngh2.Connection(
            ngh2.Role.CLIENT,
            ngh2.Configuration(auto_window_update=takes_bodies, max_send_header_block_length=1024 * 1024),
        )
        self._http2.initiate_connection()
        self.answers: dict[int, Answer] = {}
        self.goaways: list[int] = []
        self.reasons: list[tuple[int, bytes]] = []  # of the goaways
        self.hung_up = False

    def send(
        self, path: str, body: bytes, *headers: tuple[str, str], method: str = "POST", end: bool = True
    ) -> int:
        """Begins a request; returns its stream."""
        fields = {":method": method, ":scheme": "http", ":authority": "x", ":path": path, "te": "trailers"}
        fields |= {"content-type": "application/grpc"} | dict(headers)
        stream_id = self._http2.send_request([(k.encode(), v.encode()) for k, v in fields.items()])
        self._http2.send_data(stream_id, body, end_stream=end)
        self.answers[stream_id] = Answer()
        self._flush()
        return stream_id

    def more(self, stream_id: int, body: bytes, end: bool = False) -> None:
        self._http2.send_data(stream_id, body, end_stream=end)
        self._flush()

    def reset(self, stream_id: int) -> None:
        self._http2.reset_stream(stream_id)
        self._flush()

    def hang_up(self) -> None:
        """Sends no more; what the server has to say is still read."""
        self._socket.shutdown(socket.SHUT_WR)

    def write(self, data: bytes) -> None:
        """Past HTTP/2."""
        self._socket.sendall(data)

    def answer(self, stream_id: int) -> Answer:
        """When it is complete."""
        while not self.answers[stream_id].closed and not self.hung_up:
            self.pump()
        return self.answers[stream_id]

    def pump(self) -> None:
        """Takes what the server has sent; waits for it."""
        data = self._socket.recv(65536)
        if not data:
            self.hung_up = True
            return
        self._http2.receive_data(data)
        for event in self._http2.events():
            self._handle(event)
        self._flush()

    def _handle(self, event: ngh2.Event) -> None:
        if isinstance(event, ngh2.ResponseReceived | ngh2.TrailersReceived):
            fields = {name.decode(): value.decode() for name, value in event.headers}
            self.answers[event.stream_id].headers |= fields
        elif isinstance(event, ngh2.DataReceived):
            self.answers[event.stream_id].body += event.data
        elif isinstance(event, ngh2.StreamReset):
            self.answers[event.stream_id].reset = event.error_code
        elif isinstance(event, ngh2.StreamClosed):
            self.answers[event.stream_id].closed = True
        elif isinstance(event, ngh2.GoAwayReceived):
            self.goaways.append(event.last_stream_id)
            self.reasons.append((event.error_code, event.debug_data))

    def _flush(self) -> None:
        self._socket.sendall(self._http2.data_to_send())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()


def frame(message: bytes, flag: int = 0) -> bytes:
    return struct.pack(">BI", flag, len(message)) + message


def path(method: str) -> str:
    return f"/{NAME}/{method}"


def drained(seen: queue.SimpleQueue[str], wanted: Sequence[str]) -> None:
    """Waits until the handlers have seen just that."""
    assert [seen.get(timeout=PATIENCE_S) for _ in wanted] == list(wanted)


def eventually(what: Callable[[], bool]) -> None:
    until_s = time.monotonic() + PATIENCE_S
    while not what():
        assert time.monotonic() < until_s
        time.sleep(0.02)
