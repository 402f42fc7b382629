"""A call of which both sides send any number of messages, at the pace of whoever reads. Begun by `router`."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

from service.calls import Stream
from service.front import headers as grpc_headers
from service.front.exchange import CallLimits, Exchange
from service.front.framing import framed
from service.front.http2 import Http2Connection
from service.front.receiver import Header
from service.statuses import Refusal, unavailable


class StreamExchange(Exchange):
    """Messages both ways, in any order."""

    __slots__ = ("_arrived", "_closing", "_cut_short", "_handler", "_reader_waits", "_unread_bytes")

    def __init__(
        self,
        connection: Http2Connection,
        stream_id: int,
        headers: Sequence[Header],
        limits: CallLimits,
        handler: Stream,
    ) -> None:
        super().__init__(connection, stream_id, headers, limits)
        self._handler = handler
        self._arrived: deque[bytes] = deque()
        self._unread_bytes = 0  # not yet given back to the client's window
        self._reader_waits: asyncio.Future[None] | None = None
        self._closing = False
        self._cut_short = False  # the client has sent more than was, or will be, read

    def begin(self, fields: dict[bytes, bytes], ended: bool) -> None:
        self._request_ended = ended
        try:
            self._begin(fields)
        except Refusal as refusal:
            self._refuse(refusal)
        else:
            self._task = self._loop.create_task(self._serve())

    # -- StreamCall

    async def read(self) -> bytes | None:
        """One reader at a time."""
        while not self._arrived and not self._request_ended and not self._closing:
            self._reader_waits = self._loop.create_future()
            await self._reader_waits
        if self._arrived:
            message = self._arrived.popleft()
            if not self._arrived:
                self._give_back()
            return message
        self._cut_short = self._cut_short or not self._request_ended
        return None

    async def write(self, message: bytes) -> None:
        if self._over:
            raise asyncio.CancelledError
        beginning = () if self._begun else grpc_headers.BEGINNING
        self._begun = True
        self._connection.respond(self._stream_id, beginning, framed(message))
        await self._connection.room(self._stream_id)

    # -- Receiver

    def data(self, chunk: bytes, ended: bool) -> None:
        if self._over or self._closing:
            self._connection.consumed(self._stream_id, len(chunk))
            self._request_ended = ended
            self._cut_short = self._cut_short or bool(chunk)
            return
        self._unread_bytes += len(chunk)
        try:
            self._arrived.extend(self._read(chunk, ended))
        except Refusal as refusal:
            self._give_back()
            self._refuse(refusal)
            return
        self._request_ended = ended
        if not self._arrived:
            self._give_back()  # the rest of a message that is longer than the window must be able to come
        self._wake_reader()

    def closing(self) -> None:
        """What has come is still answered."""
        self._closing = True
        self._wake_reader()

    def _give_back(self) -> None:
        self._connection.consumed(self._stream_id, self._unread_bytes)
        self._unread_bytes = 0

    def _wake_reader(self) -> None:
        if self._reader_waits is not None and not self._reader_waits.done():
            self._reader_waits.set_result(None)

    def _finish(self) -> None:
        super()._finish()
        self._arrived.clear()
        self._give_back()

    async def _serve(self) -> None:
        try:
            await self._handler(self)
        except Refusal as refusal:
            self._refuse(refusal)
        except Exception as error:
            self._failed(error)
        else:
            if self._cut_short:
                self._refuse(unavailable("draining", "this replica is draining; open the stream anew", 0.0))
            elif not self._over:
                if not self._begun:
                    self._begun = True
                    self._connection.respond(self._stream_id, grpc_headers.BEGINNING)
                self._connection.trailers(self._stream_id, grpc_headers.OK, early=not self._request_ended)
                self._finish()
