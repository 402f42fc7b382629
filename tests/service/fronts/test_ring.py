"""A ring gives out what was put in: once, in order, whole, whatever the sizes and whoever comes first."""

from __future__ import annotations

import mmap
import os
import signal
import struct
from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.fronts.ring import HEADER_BYTES, SMALLEST_BYTES, Damaged, Ring

SIZE = SMALLEST_BYTES


def ends() -> tuple[Ring, Ring, bytearray]:
    """A writer, a reader and the memory between them."""
    memory = bytearray(SIZE)
    return Ring(memoryview(memory)), Ring(memoryview(memory)), memory


@given(st.lists(st.one_of(st.binary(max_size=252), st.none()), max_size=200))
def test_any_records_come_out_once_and_in_order(steps: list[bytes | None]) -> None:
    """Bytes are put, None takes; what is refused for want of room is not there."""
    writer, reader, _ = ends()
    inside: deque[bytes] = deque()
    for step in steps:
        if step is None:
            assert reader.take() == (inside.popleft() if inside else None)
        elif writer.put(step):
            inside.append(step)
        else:
            assert sum(map(len, inside)) > SIZE // 4, "refused while there was room"
        assert reader.empty == (not inside)
    while inside:
        assert reader.take() == inside.popleft()
    assert reader.take() is None


@given(st.integers(0, 2000), st.integers(0, 252))
def test_an_empty_ring_has_room_wherever_it_stands(records: int, length: int) -> None:
    writer, reader, _ = ends()
    for _ in range(records % 97):
        assert writer.put(b"some")
        assert reader.take() == b"some"
    record = bytes(range(length))
    assert writer.put(record)
    assert reader.take() == record


@given(st.binary(min_size=1, max_size=252), st.integers(0, 255))
def test_a_record_of_a_writer_that_died_is_never_read(record: bytes, written: int) -> None:
    """All of a record's bytes, or some, are there; its position is not."""
    writer, reader, memory = ends()
    assert writer.put(b"first")
    before = bytes(memory[:HEADER_BYTES])
    assert writer.put(record)
    memory[:HEADER_BYTES] = before
    memory[HEADER_BYTES + 16 + written :] = bytes(SIZE - HEADER_BYTES - 16 - written)
    assert reader.take() == b"first"
    assert reader.take() is None


def test_what_is_no_record_is_told() -> None:
    writer, reader, memory = ends()
    assert writer.put(b"hello")
    struct.pack_into("=I", memory, HEADER_BYTES, 10_000)
    with pytest.raises(Damaged):
        reader.take()
    struct.pack_into("=I", memory, HEADER_BYTES, 0xFFFFFFFF)
    with pytest.raises(Damaged):
        reader.take()


def test_too_large_a_record_is_the_writers_mistake() -> None:
    writer, _, _ = ends()
    with pytest.raises(ValueError, match="at most 252 bytes"):
        writer.put(bytes(253))


def test_who_sleeps_is_woken_and_who_waits_is_told() -> None:
    writer, reader, _ = ends()
    assert reader.sleep()
    assert writer.put(b"one")
    assert writer.reader_sleeps
    reader.wake()
    assert not writer.reader_sleeps
    assert not reader.sleep(), "something is there"
    assert not writer.reader_sleeps
    assert not reader.writer_waits()
    while writer.put(bytes(200)):
        pass
    writer.want_room()
    assert reader.take() == b"one"
    assert reader.writer_waits()
    assert not reader.writer_waits()


def test_two_processes() -> None:
    """A child writes as fast as it can, and is killed: what had come out by then is a beginning."""
    memory = mmap.mmap(-1, 64 * 1024)
    writer = os.fork()
    if not writer:
        ring, number = Ring(memoryview(memory)), 0
        while True:
            record = struct.pack("=Q", number) * (1 + number % 300)
            number += ring.put(record)
    ring = Ring(memoryview(memory))
    try:
        for expected in range(20_000):
            while (record := ring.take()) is None:
                pass
            assert record == struct.pack("=Q", expected) * (1 + expected % 300)
    finally:
        os.kill(writer, signal.SIGKILL)
        os.waitpid(writer, 0)
    left = 0
    while (record := ring.take()) is not None:
        number = 20_000 + left
        assert record == struct.pack("=Q", number) * (1 + number % 300)
        left += 1
    ring.release()
