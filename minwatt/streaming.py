"""Many requests on one stream: each has an id, its own deadline and a future; replies come in any order.

Owns the life of the stream: opened when there is something to send, opened anew when it ends, and what it had
not answered is then sent again, by the rules for any other request. Called by `client`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import grpc

from minwatt.attempts import Request, Sender
from minwatt.failures import RequestFailed, Unavailable, item_failed, request_failed
from minwatt.results import Reply

T = TypeVar("T")

STREAM_IN_FLIGHT = 64
CLOSE_S = 1.0  # for the server to end a stream that has nothing left to say


@dataclass(frozen=True, slots=True)
class Wire(Generic[T]):
    """How one kind of stream travels."""

    open: Callable[[int], Any]  # the index of a connection -> the call, as grpc.aio has it
    item: Callable[[str, Sequence[str], float], Any]  # id, texts, seconds left -> the message to write
    reply: Callable[[Any], Reply[T]]  # the answer's message -> what the application gets


@dataclass(slots=True, eq=False)
class _Entry(Generic[T]):
    """A request from `send` to its answer."""

    id: str
    texts: Sequence[str]
    request: Request
    answer: asyncio.Future[Reply[T]]
    size_bytes: int = 0  # of the message, once written

    def expire(self) -> None:
        if not self.answer.done():
            self.answer.set_exception(self.request.expired())


class RequestStream(Generic[T]):
    """Entered with `async with`; leaving it waits for the answers due or, after an error, drops them."""

    def __init__(self, wire: Wire[T], sender: Sender, in_flight: int, timeout_s: float) -> None:
        if in_flight < 1:
            raise ValueError(f"in_flight = {in_flight}: allowed: 1 or more")
        self._wire = wire
        self._sender = sender
        self._timeout_s = timeout_s
        self._room = asyncio.Semaphore(in_flight)
        self._entries: dict[str, _Entry[T]] = {}  # accepted by `send` and not answered
        self._outbox: deque[_Entry[T]] = deque()  # those to be written
        self._on_wire: dict[str, _Entry[T]] = {}  # those written to the call that is open now
        self._wake = asyncio.Event()  # the outbox has filled, or the end has come
        self._ending = False
        self._count = 0
        self._running: asyncio.Task[None] | None = None

    async def send(self, texts: Sequence[str], *, timeout_s: float | None = None) -> asyncio.Future[Reply[T]]:
        """Waits until fewer than `in_flight` requests are unanswered, then returns what will be the answer.

        Awaiting that gives the Reply or raises RequestFailed; cancelling it gives the request up.
        """
        await self._room.acquire()
        try:
            entry = self._entry(texts, self._timeout_s if timeout_s is None else timeout_s)
        except BaseException:
            self._room.release()
            raise
        self._put(entry)
        return entry.answer

    def _entry(self, texts: Sequence[str], timeout_s: float) -> _Entry[T]:
        if self._running is None or self._running.done():
            raise RuntimeError("the stream is not open: use it inside `async with`")
        loop = asyncio.get_running_loop()
        request = self._sender.request(timeout_s, loop.time())
        self._count += 1
        entry = _Entry(str(self._count), texts, request, loop.create_future())
        self._wire.item(entry.id, texts, timeout_s)  # what can't be written is raised here and now
        timer = loop.call_later(timeout_s, entry.expire)
        self._entries[entry.id] = entry

        def end(_: asyncio.Future[Reply[T]]) -> None:
            timer.cancel()
            self._entries.pop(entry.id, None)
            self._on_wire.pop(entry.id, None)
            self._room.release()

        entry.answer.add_done_callback(end)
        return entry

    def _put(self, entry: _Entry[T]) -> None:
        if not entry.answer.done():
            self._outbox.append(entry)
            self._wake.set()

    async def _run(self) -> None:
        """One call after another, while there is something to send."""
        while self._outbox or not self._ending:
            if self._outbox:
                await self._converse()
            else:
                self._wake.clear()
                await self._wake.wait()

    async def _converse(self) -> None:
        """One call, from its opening to its end."""
        with self._sender.connection(asyncio.get_running_loop().time()) as connection:
            call = self._wire.open(connection)
            writing = asyncio.create_task(self._write(call))
            failure: Callable[[], RequestFailed] = partial(
                Unavailable, "UNAVAILABLE", "the server ended the stream"
            )
            try:
                while (message := await call.read()) is not grpc.aio.EOF:
                    self._sender.worked(connection)
                    self._received(message, connection)
            except grpc.aio.AioRpcError as error:
                failure = partial(_stream_failed, error)
            finally:
                writing.cancel()
                await asyncio.wait({writing})
                call.cancel()
            # What was about to be written would have gone the same way: it waits as the others do.
            unanswered = [*self._on_wire.values(), *self._outbox]
            self._on_wire.clear()
            self._outbox.clear()
            for entry in unanswered:
                self._failed(entry, failure(), connection)

    async def _write(self, call: Any) -> None:
        """The outbox, as it fills, until the call or the stream is over."""
        try:
            while self._outbox or not self._ending:
                while self._outbox:
                    entry = self._outbox.popleft()
                    left_s = entry.request.left_s(asyncio.get_running_loop().time())
                    if entry.answer.done() or left_s <= 0:
                        continue
                    message = self._wire.item(entry.id, entry.texts, left_s)
                    entry.size_bytes = message.ByteSize()
                    self._on_wire[entry.id] = entry
                    await call.write(message)
                self._wake.clear()
                if not self._ending:
                    await self._wake.wait()
            await call.done_writing()
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            return  # the call is over; whoever reads it hears why

    def _received(self, message: Any, connection: int) -> None:
        entry = self._entries.get(message.id)
        if message.WhichOneof("outcome") == "response":
            if entry is not None and not entry.answer.done():
                entry.answer.set_result(self._wire.reply(message.response))
            return
        if not message.id and self._on_wire:
            # A message that the server would not read, so that it knows no id. It was too large, as nothing
            # else is wrong with messages of this client: and if any was, the largest was.
            entry = max(self._on_wire.values(), key=lambda entry: entry.size_bytes)
        if entry is not None:
            self._failed(entry, item_failed(message.error), connection)

    def _failed(self, entry: _Entry[T], failure: RequestFailed, connection: int) -> None:
        self._on_wire.pop(entry.id, None)
        if entry.answer.done():
            return
        loop = asyncio.get_running_loop()
        wait_s = entry.request.failed(failure, connection, loop.time())
        if wait_s is None:
            entry.answer.set_exception(failure)
        else:
            loop.call_later(wait_s, self._put, entry)

    def _over(self, _: asyncio.Task[None]) -> None:
        """Nobody sends or reads any more: no answer is left waiting."""
        for entry in list(self._entries.values()):
            if not entry.answer.done():
                entry.answer.set_exception(Unavailable("UNAVAILABLE", "the stream was closed on this side"))

    async def __aenter__(self) -> Self:
        self._running = asyncio.create_task(self._run())
        self._running.add_done_callback(self._over)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        running = self._running
        assert running is not None  # noqa: S101 - it was entered
        try:
            if error is None:
                if self._entries:
                    await asyncio.wait([entry.answer for entry in self._entries.values()])
                self._ending = True
                self._wake.set()
                await asyncio.wait({running}, timeout=CLOSE_S)
        finally:
            for entry in list(self._entries.values()):
                entry.answer.cancel()
            running.cancel()
            await asyncio.wait({running})
        if not running.cancelled():
            running.result()  # a fault of this module must not go unseen


def _stream_failed(error: grpc.aio.AioRpcError) -> RequestFailed:
    """Why the call ended.

    grpc.aio hides that behind INTERNAL, "Internal error from Core", where a write meets the end of its call
    (grpc/grpc issue 36066): what the server or the broken connection said is then lost.
    """
    failure = request_failed(error)
    if failure.code == "INTERNAL" and not failure.answered:
        return Unavailable("UNAVAILABLE", f"the stream broke: {failure.message}")
    return failure
