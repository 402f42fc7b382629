"""The load generator's own HTTP/2: replies are read however they are cut, windows are kept to."""

from __future__ import annotations

import asyncio
from struct import Struct
from typing import Any

import pytest
from hpack import Encoder
from hypothesis import given
from hypothesis import strategies as st

from bench.serving import http1
from bench.serving.http2 import (
    ACK,
    BROKEN,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    OK,
    PING,
    PREFACE,
    RST_STREAM,
    WINDOW_UPDATE,
    Connection,
    frame,
    framed,
)

_FRAME = Struct(">IBI")


class Wire(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""

    def write(self, data: Any) -> None:
        self.written += data

    def frames(self) -> list[tuple[int, int, int, bytes]]:
        """Kind, flags, stream and payload of all that was written after the preface."""
        assert self.written.startswith(PREFACE)
        found, at = [], len(PREFACE)
        while at < len(self.written):
            head, flags, stream = _FRAME.unpack_from(self.written, at)
            after = at + _FRAME.size + (head >> 8)
            found.append((head & 0xFF, flags, stream, self.written[at + _FRAME.size : after]))
            at = after
        return found


class Answers(list[tuple[int, str, bytes]]):
    def __call__(self, _connection: Any, ticket: int, status: str, reply: bytes) -> None:
        self.append((ticket, status, reply))


def connected() -> tuple[Connection, Wire, Answers]:
    answers, wire = Answers(), Wire()
    connection = Connection("127.0.0.1:1", "/a.B/C", answers)
    connection.connection_made(wire)
    return connection, wire, answers


def reply(stream: int, message: bytes, status: str = OK) -> bytes:
    encoder = Encoder()
    begin = frame(HEADERS, END_HEADERS, stream, encoder.encode([(":status", "200")]))
    trailers = Encoder().encode([("grpc-status", status), ("grpc-message", "")])
    body = frame(DATA, 0, stream, framed(message)) if status == OK else b""
    return begin + body + frame(HEADERS, END_HEADERS | END_STREAM, stream, trailers)


@given(st.lists(st.tuples(st.binary(max_size=50), st.sampled_from((OK, "8", "14"))), max_size=6), st.data())
def test_replies_are_read_however_they_are_cut(calls: list[tuple[bytes, str]], data: st.DataObject) -> None:
    connection, _, answers = connected()
    tickets = [connection.call(framed(b"a text")) for _ in calls]
    sent = b"".join(reply(ticket, *call) for ticket, call in zip(tickets, calls, strict=True))
    while sent:
        size = data.draw(st.integers(1, len(sent)))
        connection.data_received(sent[:size])
        sent = sent[size:]
    expected = [
        (ticket, status, message if status == OK else b"")
        for ticket, (message, status) in zip(tickets, calls, strict=True)
    ]
    assert answers == expected


@given(st.lists(st.tuples(st.sampled_from((OK, "8", "14")), st.text(max_size=40)), max_size=12))
def test_a_status_is_read_once_whatever_words_follow_it(ends: list[tuple[str, str]]) -> None:
    connection, _, answers = connected()
    encoder = Encoder()
    encoder.header_table_size = 0  # as it asks its server for
    encoder.encode([])  # which the first block tells
    for status, words in ends:
        ticket = connection.call(framed(b"a text"))
        fields = [(":status", "200"), ("grpc-status", status), ("grpc-message", words)]
        connection.data_received(frame(HEADERS, END_HEADERS | END_STREAM, ticket, encoder.encode(fields)))
    assert [status for _, status, _ in answers] == [status for status, _ in ends]
    assert len(connection._statuses) == len({status for status, _ in ends})


def test_a_call_is_headers_and_one_message() -> None:
    connection, wire, _ = connected()
    first, second = connection.call(framed(b"one")), connection.call(framed(b"two"))
    calls = [one for one in wire.frames() if one[0] in (HEADERS, DATA)]
    assert [(kind, stream) for kind, _, stream, _ in calls] == [
        (HEADERS, first),
        (DATA, first),
        (HEADERS, second),
        (DATA, second),
    ]
    assert calls[3][3] == framed(b"two")
    assert calls[3][1] == END_STREAM
    assert len(calls[2][3]) < len(calls[0][3])  # named by number


@given(st.lists(st.integers(1, 16_000), max_size=40), st.lists(st.integers(1, 60_000), max_size=10))
def test_no_more_is_sent_than_the_server_has_room_for(sizes: list[int], widened: list[int]) -> None:
    connection, wire, _ = connected()
    for size in sizes:
        connection.call(b"x" * size)
    for by in widened:
        connection.data_received(frame(WINDOW_UPDATE, 0, 0, by.to_bytes(4, "big")))
    sent = [len(payload) for kind, _, _, payload in wire.frames() if kind == DATA]
    assert sum(sent) <= 65_535 + sum(widened)
    assert sent == sizes[: len(sent)]  # in order, each whole
    rest = sizes[len(sent) :]
    assert not rest or sum(sent) + rest[0] > 65_535 + sum(widened)


def test_a_long_stream_hands_out_each_message() -> None:
    connection, wire, answers = connected()
    connection.open_stream()
    connection.write(framed(b"item"))
    assert wire.frames()[-1] == (DATA, 0, 1, framed(b"item"))
    both = framed(b"first") + framed(b"second")
    connection.data_received(frame(DATA, 0, 1, both[:8]))
    connection.data_received(frame(DATA, 0, 1, both[8:]))
    assert answers == [(1, OK, b"first"), (1, OK, b"second")]


@pytest.mark.parametrize("end", [frame(RST_STREAM, 0, 1, bytes(4)), frame(DATA, END_STREAM, 1)])
def test_a_call_that_ends_without_a_status_is_broken(end: bytes) -> None:
    connection, _, answers = connected()
    connection.call(framed(b"a text"))
    connection.data_received(end)
    assert answers == [(1, BROKEN, b"")]


def test_a_lost_connection_breaks_what_was_in_flight() -> None:
    connection, _, answers = connected()
    tickets = [connection.call(framed(b"a text")) for _ in range(3)]
    connection.connection_lost(None)
    assert answers == [(ticket, BROKEN, b"") for ticket in tickets]


def test_a_ping_is_answered() -> None:
    connection, wire, _ = connected()
    connection.data_received(frame(PING, 0, 0, b"12345678"))
    assert wire.frames()[-1] == (PING, ACK, 0, b"12345678")


@given(st.binary(max_size=60), st.data())
def test_http1_replies_are_read_however_they_are_cut(body: bytes, data: st.DataObject) -> None:
    answers, wire = Answers(), Wire()
    connection = http1.Connection("127.0.0.1:1", "/inference", answers)
    connection.connection_made(wire)
    ticket = connection.call(b"{}")
    assert wire.written.endswith(b"content-length: 2\r\n\r\n{}")
    sent = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    while sent:
        size = data.draw(st.integers(1, len(sent)))
        connection.data_received(sent[:size])
        sent = sent[size:]
    assert answers == [(ticket, OK, body)]
