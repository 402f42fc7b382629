"""One gRPC call: from a request's headers to its status, whatever either side does meanwhile.

Owns deadline, cancellation and how a refusal travels; and the calls of one message and one reply. A handler
sees it as a `Call` (`service.calls`); `http2` hands it the bytes. Each call ends once, with trailers or lost.
"""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Sequence
from dataclasses import dataclass

from service.calls import Unary
from service.front import headers as grpc_headers
from service.front.framing import Inflow, MessageReader, framed, whole_message
from service.front.http2 import Http2Connection
from service.front.receiver import Header
from service.statuses import (
    Refusal,
    Violation,
    deadline_exceeded,
    internal,
    invalid,
    unavailable,
)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CallLimits:
    max_message_bytes: int
    inflow: Inflow


class Exchange:
    """What unary and streaming calls have in common."""

    __slots__ = (
        "_begun",
        "_connection",
        "_deadline_s",
        "_headers",
        "_limits",
        "_loop",
        "_messages",
        "_over",
        "_request_ended",
        "_stream_id",
        "_task",
        "_timer",
    )

    def __init__(
        self,
        connection: Http2Connection,
        stream_id: int,
        headers: Sequence[Header],
        limits: CallLimits,
    ) -> None:
        self._connection = connection
        self._stream_id = stream_id
        self._headers = headers
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._deadline_s: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._messages: MessageReader | None = None
        self._task: asyncio.Task[None] | None = None
        self._begun = False  # response headers are sent
        self._request_ended = False
        self._over = False

    # -- Call

    @property
    def timeout_s(self) -> float | None:
        return None if self._deadline_s is None else self._deadline_s - self._loop.time()

    def metadata(self, key: str) -> str | None:
        name = key.encode("ascii")
        return next((value.decode("latin-1") for field, value in self._headers if field == name), None)

    @property
    def peer_identity(self) -> str | None:
        return self._connection.peer_identity

    # -- Receiver

    def lost(self) -> None:
        if not self._over:
            self._finish()
        if self._task is not None:
            self._task.cancel()

    def cut(self) -> None:
        self._refuse(unavailable("draining", "this replica is draining", 0.0))

    def task(self) -> asyncio.Task[None] | None:
        return self._task

    # -- the call's course

    def _begin(self, fields: dict[bytes, bytes]) -> None:
        """Raises Refusal."""
        timeout = fields.get(b"grpc-timeout")
        if timeout is not None:
            left_s = grpc_headers.timeout_s(timeout)
            if left_s <= 0:
                raise _late()
            self._deadline_s = self._loop.time() + left_s
            self._timer = self._loop.call_at(self._deadline_s, self._expire)
        encoding = grpc_headers.encoding(fields)
        if encoding is not None:
            self._messages = self._reader(encoding)

    def _reader(self, encoding: str | None) -> MessageReader:
        return MessageReader(self._limits.max_message_bytes, encoding, self._limits.inflow)

    def _read(self, chunk: bytes, ended: bool) -> list[bytes]:
        """The messages that are complete by now. Raises Refusal."""
        if self._messages is None:
            self._messages = self._reader(None)
        return self._messages.feed(chunk, ended)

    def _expire(self) -> None:
        self._refuse(_late())

    def _refuse(self, refusal: Refusal) -> None:
        """Ends the call with a status; whoever still computes for it is cancelled."""
        if self._over:
            return
        early = not self._request_ended
        trailers = grpc_headers.trailers_of(refusal)
        if self._begun:
            self._connection.trailers(self._stream_id, trailers, early)
        else:
            self._connection.respond_only(self._stream_id, [*grpc_headers.BEGINNING, *trailers], early)
        self._finish()
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()

    def _finish(self) -> None:
        self._over = True
        if self._timer is not None:
            self._timer.cancel()
        if self._messages is not None:
            self._messages.close()

    def _failed(self, error: Exception) -> None:
        where = "".join(traceback.format_tb(error.__traceback__))
        log.error("a call failed: %s\n%s", type(error).__name__, where)  # its words may be a client's
        self._refuse(internal(f"unexpected {type(error).__name__}"))


def _late() -> Refusal:
    return deadline_exceeded("the deadline passed before the answer was there")


class UnaryExchange(Exchange):
    """One message, one reply."""

    __slots__ = ("_handler", "_request")

    def __init__(
        self,
        connection: Http2Connection,
        stream_id: int,
        headers: Sequence[Header],
        limits: CallLimits,
        handler: Unary,
    ) -> None:
        super().__init__(connection, stream_id, headers, limits)
        self._handler = handler
        self._request: bytes | None = None

    def begin(self, fields: dict[bytes, bytes], ended: bool) -> None:
        try:
            self._begin(fields)
        except Refusal as refusal:
            self._request_ended = ended
            self._refuse(refusal)
        else:
            if ended:
                self.data(b"", True)

    def data(self, chunk: bytes, ended: bool) -> None:
        self._connection.consumed(self._stream_id, len(chunk))
        self._request_ended = ended
        if self._over:
            return
        whole = None
        if ended and self._messages is None:
            whole = whole_message(chunk, self._limits.max_message_bytes)
        if whole is None:
            try:
                whole = self._assembled(chunk, ended)
            except Refusal as refusal:
                self._refuse(refusal)
                return
        if whole is not None:
            self._task = self._loop.create_task(self._answer(whole))

    def closing(self) -> None:
        """It may finish."""

    def _assembled(self, chunk: bytes, ended: bool) -> bytes | None:
        for message in self._read(chunk, ended):
            if self._request is not None:
                raise invalid([Violation("(message)", "one is allowed on this method; more were sent")])
            self._request = message
        if not ended:
            return None
        if self._request is None:
            raise invalid([Violation("(message)", "missing")])
        return self._request

    async def _answer(self, message: bytes) -> None:
        try:
            reply = await self._handler(message, self)
        except Refusal as refusal:
            self._refuse(refusal)
        except Exception as error:
            self._failed(error)
        else:
            if not self._over:
                self._connection.answer(
                    self._stream_id, grpc_headers.BEGINNING, framed(reply), grpc_headers.OK
                )
                self._finish()
