"""An HTTP/1.1 connection that posts prepared bodies one after the other, for peers that speak no gRPC.

The counterpart of `http2.Connection`, as lean and with the same face. Called by `load`.
"""

from __future__ import annotations

import asyncio

from bench.serving.http2 import BROKEN, OK, Answered

_END = b"\r\n\r\n"
_LENGTH = b"content-length:"


class Connection(asyncio.Protocol):
    """One call at a time. `answered` as in `http2`; `status` is OK for 200, else HTTP's number."""

    def __init__(self, authority: str, path: str, answered: Answered) -> None:
        self._answered = answered
        self._head = (
            f"POST {path} HTTP/1.1\r\nhost: {authority}\r\ncontent-type: application/json\r\ncontent-length: "
        ).encode()
        self._transport: asyncio.Transport | None = None
        self._rest = b""
        self._ticket = 0
        self._open = False

    def call(self, body: bytes) -> int:
        if self._transport is None or self._open:
            raise RuntimeError("not connected, or a call is under way")
        self._ticket += 1
        self._open = True
        self._transport.write(b"%s%d%s%s" % (self._head, len(body), _END, body))
        return self._ticket

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - of create_connection
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - of the base class
        self._end(BROKEN, b"")

    def data_received(self, data: bytes) -> None:
        self._rest += data
        head, found, body = self._rest.partition(_END)
        if not found:
            return
        lowered = head.lower()
        at = lowered.find(_LENGTH)
        if at < 0:  # chunked: no server here does that
            self._end(BROKEN, b"")
            return
        length = int(lowered[at + len(_LENGTH) :].split(b"\r\n", 1)[0])
        if len(body) < length:
            return
        self._rest = b""
        status = head.split(b" ", 2)[1].decode("ascii")
        self._end(OK if status == "200" else status, body)

    def _end(self, status: str, body: bytes) -> None:
        if self._open:
            self._open = False
            self._answered(self, self._ticket, status, body)
