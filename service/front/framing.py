"""gRPC's length-prefixed messages: cut out of a stream of bytes, within limits, and put into one.

Pure. Every way in which a client can get the framing wrong is a Refusal that says what is wrong.
Used by `front.exchange`.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

from service.statuses import Refusal, Violation, invalid, too_large, too_much_at_once

PREFIX_BYTES = 5  # one byte: compressed or not; four: the length, big-endian
ENCODINGS = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}  # zlib's names for them
ACCEPTED = ("identity", *ENCODINGS)


@dataclass(slots=True)
class Inflow:
    """Bytes of messages that have come in part, of all connections together."""

    limit_bytes: int
    held_bytes: int = 0

    def take(self, size_bytes: int) -> None:
        if self.held_bytes + size_bytes > self.limit_bytes:
            raise too_much_at_once(self.limit_bytes)
        self.held_bytes += size_bytes


class MessageReader:
    """Cuts messages out of one call's body. `encoding`: what grpc-encoding says; None: identity."""

    __slots__ = ("_buffer", "_encoding", "_inflow", "_limit_bytes")

    def __init__(self, limit_bytes: int, encoding: str | None, inflow: Inflow) -> None:
        self._limit_bytes = limit_bytes
        self._encoding = encoding
        self._inflow = inflow
        self._buffer = bytearray()

    def feed(self, chunk: bytes, ended: bool) -> list[bytes]:
        """The messages that are complete by now. Raises Refusal."""
        self._inflow.take(len(chunk))
        self._buffer += chunk
        messages = []
        while (message := self._next()) is not None:
            messages.append(message)
        if ended and self._buffer:
            raise _malformed("the body ends within a message")
        return messages

    def close(self) -> None:
        self._drop(len(self._buffer))

    def _next(self) -> bytes | None:
        buffer = self._buffer
        if len(buffer) < PREFIX_BYTES:
            return None
        if buffer[0] > 1:
            raise _malformed(f"its first byte is {buffer[0]}; 0 and 1 are allowed")
        size_bytes = int.from_bytes(buffer[1:PREFIX_BYTES])
        if size_bytes > self._limit_bytes:
            raise too_large(size_bytes, self._limit_bytes)
        end = PREFIX_BYTES + size_bytes
        if len(buffer) < end:
            return None
        message = bytes(memoryview(buffer)[PREFIX_BYTES:end])
        compressed = bool(buffer[0])
        self._drop(end)
        return self._inflated(message) if compressed else message

    def _drop(self, size_bytes: int) -> None:
        del self._buffer[:size_bytes]
        self._inflow.held_bytes -= size_bytes

    def _inflated(self, message: bytes) -> bytes:
        """At most the limit comes out, whatever a bomb holds."""
        if self._encoding not in ENCODINGS:
            raise _malformed("it is marked compressed and grpc-encoding names no compression")
        inflate = zlib.decompressobj(ENCODINGS[self._encoding])
        try:
            plain = inflate.decompress(message, self._limit_bytes + 1)
        except zlib.error as error:
            raise _malformed(f"it is not {self._encoding}") from error
        if len(plain) > self._limit_bytes:
            raise too_large(len(plain), self._limit_bytes)
        if not inflate.eof or inflate.unused_data:
            raise _malformed(f"it is not {self._encoding}")
        return plain


def whole_message(chunk: bytes, limit_bytes: int) -> bytes | None:
    """The one message, uncompressed, that a body of one chunk holds; None where it is anything else."""
    size_bytes = len(chunk) - PREFIX_BYTES
    if (
        0 <= size_bytes <= limit_bytes
        and not chunk[0]
        and int.from_bytes(chunk[1:PREFIX_BYTES]) == size_bytes
    ):
        return chunk[PREFIX_BYTES:]
    return None


def framed(message: bytes) -> bytes:
    """As it goes on the wire. Replies are small: compressing them would cost more than it saves."""
    return b"\0" + len(message).to_bytes(4) + message


def _malformed(why: str) -> Refusal:
    return invalid([Violation("(message)", f"not a gRPC message: {why}")])
