"""Records from one process to another through shared memory: one writer, one reader, in order, each once.

A record is published by one store of the writer's position after all of its bytes are there, so of a writer
that dies nothing half-written is ever read. Pure: bytes in a buffer that both processes see; who is woken
and when is `channel`'s matter. Positions only grow, and are words of their own cache lines:

    0: the writer's position   64: the reader's   128: the reader sleeps   192: the writer waits for room
    256 …: records, each a length of 4 bytes, its bytes, and padding to 8; none runs over the end

Python has no memory barriers. The order of stores that this needs is what x86-64 gives by itself; for a store
that must be seen before a later load (`fence`) an uncontended lock is taken, which is one `lock cmpxchg`.
"""

from __future__ import annotations

import platform
import struct
import threading

HEADER_BYTES = 256
_WRITTEN, _READ, _SLEEPS, _WAITS = 0, 8, 16, 24  # in words
_LENGTH = struct.Struct("=I")
_ALIGN = 8
_TO_THE_START = 0xFFFFFFFF  # in the place of a length: the next record begins at the start
SMALLEST_BYTES = HEADER_BYTES + 1024
_lock = threading.Lock()


class Damaged(Exception):  # noqa: N818 - says what the memory is
    """What the other side has written is no record."""


def orders_stores() -> bool:
    """Whether this machine's memory keeps the order that a ring needs."""
    return platform.machine() in {"x86_64", "AMD64"}


def fence() -> None:
    """All stores before it are seen by others before any load after it."""
    with _lock:
        pass


class Ring:
    """One process's view. A process is its writer or its reader, for as long as both live."""

    def __init__(self, memory: memoryview) -> None:
        """`memory`: zeros at first, the same for both; at least SMALLEST_BYTES, a multiple of 8."""
        self._words = memory[:HEADER_BYTES].cast("Q")
        self._data = memory[HEADER_BYTES:]
        self._size = len(self._data)
        self.most_bytes = self._size // 4 - _LENGTH.size  # of a record: it fits, whatever the position

    # -- the writer's

    def put(self, record: bytes) -> bool:
        """False where there is no room for it now: then nothing is written."""
        words = self._words
        length = len(record)
        if length > self.most_bytes:
            raise ValueError(f"a record has at most {self.most_bytes} bytes, not {length}")
        at = written = words[_WRITTEN]
        offset = at % self._size
        needed = _padded(_LENGTH.size + length)
        to_the_end = self._size - offset
        if needed > to_the_end:
            at += to_the_end
        if at + needed - words[_READ] > self._size:
            return False
        if at != written:
            _LENGTH.pack_into(self._data, offset, _TO_THE_START)
            offset = 0
        _LENGTH.pack_into(self._data, offset, length)
        begin = offset + _LENGTH.size
        self._data[begin : begin + length] = record
        words[_WRITTEN] = at + needed
        return True

    @property
    def reader_sleeps(self) -> bool:
        """After `put` and a fence: whether somebody must wake it."""
        return self._words[_SLEEPS] != 0

    def want_room(self) -> None:
        """The reader is to wake the writer once it has read something; then `put` may be tried again."""
        self._words[_WAITS] = 1
        fence()

    # -- the reader's

    def take(self) -> bytes | None:
        """The next record, if there is one. Raises Damaged."""
        words = self._words
        at, written = words[_READ], words[_WRITTEN]
        if at == written:
            return None
        offset = at % self._size
        length = self._length(offset)
        if length == _TO_THE_START:
            at += self._size - offset
            offset = 0
            length = self._length(offset) if at < written else _TO_THE_START
        needed = _padded(_LENGTH.size + length)
        begin = offset + _LENGTH.size
        if length > self.most_bytes or at + needed > written or begin + length > self._size:
            raise Damaged(f"a length of {length} at {offset}")
        record = bytes(self._data[begin : begin + length])
        words[_READ] = at + needed
        return record

    @property
    def empty(self) -> bool:
        return self._words[_READ] == self._words[_WRITTEN]

    def sleep(self) -> bool:
        """False where something has come meanwhile: then it must be read first."""
        self._words[_SLEEPS] = 1
        fence()
        if self.empty:
            return True
        self.wake()
        return False

    def wake(self) -> None:
        self._words[_SLEEPS] = 0

    def writer_waits(self) -> bool:
        """After some were taken: whether the writer must be told of the room; once."""
        fence()
        if self._words[_WAITS] == 0:
            return False
        self._words[_WAITS] = 0
        return True

    def release(self) -> None:
        """Before the memory is closed."""
        self._words.release()
        self._data.release()

    def _length(self, offset: int) -> int:
        length: int = _LENGTH.unpack_from(self._data, offset)[0]
        return length


def _padded(size: int) -> int:
    return -(-size // _ALIGN) * _ALIGN
