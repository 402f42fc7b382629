"""One pair of processes: a ring each way for what is frequent, a socket for what is rare or large.

The supervisor makes a channel and hands one end to a front end, the other to the engine process. Its memory
and its bells have no names, so nothing is left when both are gone; the socket tells each side that the other
has ended. A process that finds nothing in its ring says so and sleeps; only then is its bell rung. On an
event loop; used by `engine_door` and `front_end`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import mmap
import os
import signal
import socket
import struct
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum

from service.fronts.ring import HEADER_BYTES, Ring, fence

RING_BYTES = 2 * 1024 * 1024 + HEADER_BYTES  # each way: some thousands of short requests that nobody has read
READ_AT_ONCE = 64  # records in one turn of the loop
_LENGTH = struct.Struct("=Q")
_READ_BYTES = 256 * 1024

log = logging.getLogger(__name__)


class Side(Enum):
    ENGINE = 0
    FRONT = 1


@dataclass(slots=True)
class Ends:
    """What one process holds of a channel: file descriptors, which it closes."""

    memory: int
    own_bell: int
    others_bell: int
    stream: int
    others_process: int | None = None  # a pidfd, for who may kill it

    def all(self) -> list[int]:
        process = [] if self.others_process is None else [self.others_process]
        return [self.memory, self.own_bell, self.others_bell, self.stream, *process]

    def close(self) -> None:
        for number in self.all():
            os.close(number)

    def send(self, through: socket.socket) -> None:
        """To the process at the other end. Raises OSError."""
        socket.send_fds(through, [b"channel"], self.all())

    @classmethod
    def receive(cls, through: socket.socket) -> Ends | None:
        """None where the sender has ended. Raises OSError."""
        try:
            message, numbers, _, _ = socket.recv_fds(through, 64, 5)
        except ConnectionResetError:  # it had not read all that it was told
            return None
        if not message:
            return None
        return cls(*numbers)


@contextlib.contextmanager
def new_channel() -> Iterator[tuple[Ends, Ends]]:
    """The engine process's end and the front end's, to be sent within."""
    memory = os.memfd_create("minwatt-front-end", os.MFD_CLOEXEC)
    engine_bell, front_bell = (os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK) for _ in range(2))
    here, there = socket.socketpair()
    try:
        os.truncate(memory, 2 * RING_BYTES)
        yield (
            Ends(memory, engine_bell, front_bell, here.fileno()),
            Ends(memory, front_bell, engine_bell, there.fileno()),
        )
    finally:
        here.close()
        there.close()
        for number in (memory, engine_bell, front_bell):
            os.close(number)


class Channel:
    """One process's side. Records and messages come as calls; `on_lost` is the last one, and comes once."""

    def __init__(
        self,
        ends: Ends,
        side: Side,
        on_record: Callable[[bytes], None],
        on_message: Callable[[bytes], None],
        on_lost: Callable[[], None],
    ) -> None:
        """Takes the ends over. Raises OSError."""
        self._loop = asyncio.get_running_loop()
        self._on_record, self._on_message, self._on_lost = on_record, on_message, on_lost
        self._own_bell, self._others_bell = ends.own_bell, ends.others_bell
        self._others_process = ends.others_process
        # All of it now: later the rings' first rounds would look like a leak, and may find no memory.
        self._memory = mmap.mmap(ends.memory, 2 * RING_BYTES, mmap.MAP_SHARED | mmap.MAP_POPULATE)
        os.close(ends.memory)
        view = memoryview(self._memory)
        to_engine, to_front = view[:RING_BYTES], view[RING_BYTES:]
        incoming, outgoing = (to_engine, to_front) if side is Side.ENGINE else (to_front, to_engine)
        self._incoming, self._outgoing = Ring(incoming), Ring(outgoing)
        self._overflow: deque[bytes] = deque()
        self._socket = socket.socket(fileno=ends.stream)
        self._socket.setblocking(False)
        self._unsent = bytearray()
        self._unread = bytearray()
        self._reading = False
        self._ring_due = False
        self.lost = False
        self._loop.add_reader(self._own_bell, self._rung)
        self._loop.add_reader(self._socket, self._readable)
        self._read()

    @property
    def most_bytes(self) -> int:
        """Of a record; what is larger goes as a message."""
        return self._outgoing.most_bytes

    @property
    def unsent_bytes(self) -> int:
        """Of messages that the other side has no room for yet."""
        return len(self._unsent)

    def offer(self, record: bytes) -> bool:
        """Sends a record; False where there is no room for it."""
        if self.lost or self._overflow or not self._outgoing.put(record):
            return False
        self._ring()
        return True

    def send(self, record: bytes) -> None:
        """As soon as there is room: for what must arrive."""
        if not self.offer(record) and not self.lost:
            self._overflow.append(record)
            self._outgoing.want_room()
            self._send_more()

    def send_message(self, *parts: bytes) -> None:
        """Of any size; in order among messages, not among records."""
        if self.lost:
            return
        idle = not self._unsent
        self._unsent += _LENGTH.pack(sum(map(len, parts)))
        for part in parts:
            self._unsent += part
        if idle:
            self._send_messages()

    def close(self) -> None:
        """The other side finds it lost."""
        if self.lost:
            return
        self.lost = True
        self._loop.remove_reader(self._own_bell)
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        self._socket.close()
        os.close(self._own_bell)
        os.close(self._others_bell)
        if self._others_process is not None:
            os.close(self._others_process)
        self._incoming.release()
        self._outgoing.release()
        with contextlib.suppress(BufferError):  # a view is in use up the stack: it goes with the process
            self._memory.close()
        self._on_lost()

    def kill(self) -> None:
        """The process at the other end, if it is known; then as `close`."""
        if self._others_process is not None and not self.lost:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._others_process, signal.SIGKILL)
        self.close()

    # -- records

    def _ring(self) -> None:
        """Once for all that is sent in this turn of the loop, and only if it sleeps."""
        if not self._ring_due:
            self._ring_due = True
            self._loop.call_soon(self._ring_now)

    def _ring_now(self) -> None:
        self._ring_due = False
        if not self.lost:
            fence()
            if self._outgoing.reader_sleeps:
                self._wake_other()

    def _wake_other(self) -> None:
        with contextlib.suppress(BlockingIOError):  # it has been rung more often than it can count
            os.eventfd_write(self._others_bell, 1)

    def _rung(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._own_bell)
        self._send_more()
        if not self._reading and not self.lost:
            self._read()

    def _send_more(self) -> None:
        sent = False
        while self._overflow and not self.lost and self._outgoing.put(self._overflow[0]):
            self._overflow.popleft()
            sent = True
        if self.lost:
            return
        if self._overflow:
            self._outgoing.want_room()
        if sent:
            self._ring()

    def _read(self) -> None:
        """Some records; the rest in the next turn, after what else is due."""
        self._reading = True
        if self.lost:
            return
        self._incoming.wake()
        try:
            for _ in range(READ_AT_ONCE):
                record = self._incoming.take()
                if record is None:
                    break
                self._on_record(record)
                if self.lost:
                    return
        except Exception as error:
            self._fail(error)
            return
        if self._incoming.writer_waits():
            self._wake_other()
        if self._incoming.sleep():
            self._reading = False
        else:
            self._loop.call_soon(self._read)

    def _ended(self) -> None:
        """The other side has: what it had written is read to the end."""
        try:
            while not self.lost and (record := self._incoming.take()) is not None:
                self._on_record(record)
        except Exception as error:
            self._fail(error)
        self.close()

    def _fail(self, error: Exception) -> None:
        """What came can't be read or acted upon: nothing that comes after it can be relied on."""
        log.error("a process at the other end has sent what is of no use: %s", type(error).__name__)
        self.close()

    # -- messages

    def _readable(self) -> None:
        try:
            data = self._socket.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._ended()
            return
        self._unread += data
        try:
            for message in self._whole_messages():
                if self.lost:
                    return
                self._on_message(message)
        except Exception as error:
            self._fail(error)

    def _whole_messages(self) -> list[bytes]:
        """Taken off what has come."""
        messages = []
        at = 0
        while len(self._unread) - at >= _LENGTH.size:
            size = _LENGTH.unpack_from(self._unread, at)[0]
            begin = at + _LENGTH.size
            if len(self._unread) - begin < size:
                break
            at = begin + size
            messages.append(bytes(self._unread[begin:at]))
        del self._unread[:at]
        return messages

    def _send_messages(self) -> None:
        try:
            while self._unsent:
                del self._unsent[: self._socket.send(self._unsent)]
        except BlockingIOError:
            self._loop.add_writer(self._socket, self._send_messages)
            return
        except OSError:  # the other side has ended: its records are still to be read, then `recv` says so
            self._unsent.clear()
        self._loop.remove_writer(self._socket)
