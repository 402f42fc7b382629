"""A gRPC client connection that costs its machine little: prepared messages out, outcomes in.

Owns the frames of one HTTP/2 connection (RFC 9113) as far as a client needs them that sends unary calls, or
one stream of messages, of a few kilobytes. A stock Python client takes as much CPU a call as a server does;
client and server share this machine's cores, so what is measured would be the client. What a stock client
sees is measured beside it. Called by `load`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from struct import Struct
from typing import Any

from hpack import Decoder, Encoder, HPACKDecodingError

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, END_HEADERS, ACK = 0x1, 0x4, 0x1
HEADER_TABLE_SIZE, INITIAL_WINDOW_SIZE = 1, 4
WIDEST_WINDOW = 2**31 - 1
FIRST_WINDOW = 65_535
MAX_FRAME = 16_384
OK = "0"
BROKEN = "broken"  # the connection or the stream ended without a status

_FRAME = Struct(">IBI")  # length << 8 | type, flags, stream
_MESSAGE = Struct(">BI")  # gRPC: compressed, length
_SETTING = Struct(">HI")
_WORD = Struct(">I")

Answered = Callable[[Any, int, str, bytes], None]  # connection, ticket, status, reply


def framed(message: bytes) -> bytes:
    """A message as gRPC puts it into DATA frames."""
    return _MESSAGE.pack(0, len(message)) + message


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return _FRAME.pack(len(payload) << 8 | kind, flags, stream) + payload


class Connection(asyncio.Protocol):
    """`answered(connection, ticket, status, reply)` is called for each end of a call, and for each message
    of a stream; `status` is gRPC's number, or BROKEN. `reply` is the message, without its frame."""

    def __init__(self, authority: str, path: str, answered: Answered) -> None:
        self._answered = answered
        headers = (
            (":method", "POST"),
            (":scheme", "http"),
            (":path", path),
            (":authority", authority),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            ("user-agent", "minwatt-bench"),
        )
        encoder = Encoder()
        # The first call enters its headers into the server's table; each later one names them by number.
        self._first_headers: bytes = encoder.encode(headers)
        self._headers: bytes = encoder.encode(headers)
        self._statuses: dict[bytes, str] = {}
        self._transport: asyncio.Transport | None = None
        self._out: list[bytes] = [
            PREFACE,
            frame(
                SETTINGS,
                0,
                0,
                # No table of the server's headers: what begins alike is then equal bytes, read once.
                _SETTING.pack(HEADER_TABLE_SIZE, 0) + _SETTING.pack(INITIAL_WINDOW_SIZE, WIDEST_WINDOW),
            ),
            frame(WINDOW_UPDATE, 0, 0, _WORD.pack(WIDEST_WINDOW - FIRST_WINDOW)),
        ]
        self._rest = b""
        self._next_stream = 1
        self._bodies: dict[int, bytes] = {}
        self._window = FIRST_WINDOW
        self._stream_window = FIRST_WINDOW  # of the one long stream
        self._blocked: deque[bytes] = deque()
        self._long_stream = 0
        self._reading = False

    # What the load does ------------------------------------------------------------------------------

    def call(self, message: bytes) -> int:
        """Sends a framed message as a unary call; returns its ticket."""
        stream = self._open()
        self._bodies[stream] = b""
        self._queue(frame(DATA, END_STREAM, stream, message), stream)
        return stream

    def open_stream(self) -> None:
        """Begins the one long stream of this connection."""
        self._long_stream = self._open()
        self._bodies[self._long_stream] = b""
        self.flush()

    def write(self, message: bytes) -> None:
        """Sends a framed message on the long stream."""
        self._queue(frame(DATA, 0, self._long_stream, message), self._long_stream)

    def end_stream(self) -> None:
        self._out.append(frame(DATA, END_STREAM, self._long_stream))
        self.flush()

    def flush(self) -> None:
        """What was sent goes out; while replies are read, all of it goes out at once after the last."""
        if not self._reading and self._out and self._transport is not None:
            self._transport.write(b"".join(self._out))
            self._out.clear()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    # What the network does ---------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - of create_connection
        self._transport = transport
        self.flush()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - of the base class
        for stream in list(self._bodies):
            self._end(stream, BROKEN)

    def data_received(self, data: bytes) -> None:
        if self._rest:
            data = self._rest + data
        at, end = 0, len(data)
        self._reading = True
        while end - at >= _FRAME.size:
            head, flags, stream = _FRAME.unpack_from(data, at)
            after = at + _FRAME.size + (head >> 8)
            if after > end:
                break
            self._frame(head & 0xFF, flags, stream & WIDEST_WINDOW, data[at + _FRAME.size : after])
            at = after
        self._rest = data[at:]
        self._reading = False
        self.flush()

    def _frame(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == DATA:
            self._data(stream, payload)
            if flags & END_STREAM:
                self._end(stream, BROKEN)
        elif kind == HEADERS:
            if flags & END_STREAM:
                self._end(stream, self._status(payload, flags))
        elif kind == WINDOW_UPDATE:
            self._widen(stream, _WORD.unpack(payload)[0])
        elif kind == SETTINGS and not flags & ACK:
            self._settings(payload)
        elif kind == PING and not flags & ACK:
            self._out.append(frame(PING, ACK, 0, payload))
        elif kind == RST_STREAM:
            self._end(stream, BROKEN)

    def _data(self, stream: int, payload: bytes) -> None:
        if stream not in self._bodies:
            return
        body = self._bodies[stream] + payload
        if stream == self._long_stream:
            while len(body) >= _MESSAGE.size:
                after = _MESSAGE.size + _MESSAGE.unpack_from(body)[1]
                if len(body) < after:
                    break
                self._answered(self, stream, OK, body[_MESSAGE.size : after])
                body = body[after:]
        self._bodies[stream] = body

    def _end(self, stream: int, status: str) -> None:
        body = self._bodies.pop(stream, None)
        if body is None:
            return
        if stream == self._long_stream:
            self._long_stream = 0
            if status == OK:
                return
        self._answered(self, stream, status, body[_MESSAGE.size :])

    def _status(self, block: bytes, flags: int) -> str:
        for beginning, known in self._statuses.items():
            if block.startswith(beginning):
                return known
        if not flags & END_HEADERS or flags & ~(END_HEADERS | END_STREAM):
            return BROKEN  # padded, prioritised or continued: no server here does that
        found = dict(Decoder().decode(block, raw=True))
        if b"grpc-status" not in found:
            return BROKEN
        status = self._statuses[_through_status(block)] = found[b"grpc-status"].decode("ascii")
        return status

    def _settings(self, payload: bytes) -> None:
        for name, value in _SETTING.iter_unpack(payload):
            if name == INITIAL_WINDOW_SIZE:
                self._stream_window += value - FIRST_WINDOW  # servers send their settings once
        self._out.append(frame(SETTINGS, ACK, 0))

    # Flow control ------------------------------------------------------------------------------------

    def _open(self) -> int:
        stream, self._next_stream = self._next_stream, self._next_stream + 2
        headers = self._headers if stream > 1 else self._first_headers
        self._out.append(frame(HEADERS, END_HEADERS, stream, headers))
        return stream

    def _queue(self, data: bytes, stream: int) -> None:
        if len(data) - _FRAME.size > MAX_FRAME:
            raise ValueError(f"a message of {len(data)} bytes; this client sends up to {MAX_FRAME}")
        if self._blocked or not self._fits(data, stream):
            self._blocked.append(data)
        else:
            self._take(data, stream)
        self.flush()

    def _fits(self, data: bytes, stream: int) -> bool:
        size = len(data) - _FRAME.size
        return size <= self._window and (stream != self._long_stream or size <= self._stream_window)

    def _take(self, data: bytes, stream: int) -> None:
        self._window -= len(data) - _FRAME.size
        if stream == self._long_stream:
            self._stream_window -= len(data) - _FRAME.size
        self._out.append(data)

    def _widen(self, stream: int, by: int) -> None:
        if stream == 0:
            self._window += by
        elif stream == self._long_stream:
            self._stream_window += by
        while self._blocked:
            first = self._blocked[0]
            stream = _FRAME.unpack_from(first)[2]
            if not self._fits(first, stream):
                break
            self._take(self._blocked.popleft(), stream)


def _through_status(block: bytes) -> bytes:
    """The block's beginning up to its gRPC status: the words of each refusal that follow it differ."""
    for size in range(1, len(block)):
        try:
            found = list(Decoder().decode(block[:size], raw=True))
        except HPACKDecodingError:
            continue
        if found and found[-1][0] == b"grpc-status":
            return block[:size]
    return block
