"""Calls to a replica at planned times, or a closed loop of them, by a client that costs its machine little.

Called by `overload`. The HTTP/2 is `bench.serving.http2`'s: a stock Python client takes more CPU for a call
that is refused than the server, and they share this machine's cores.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import cycle
from typing import Any

from bench.serving.http2 import BROKEN, OK, Connection, framed

CONNECTIONS = 4
PATIENCE_S = 30.0  # after the last call was sent


@dataclass(frozen=True, slots=True)
class End:
    """How one call ended. Times count from the run's start; `status` is gRPC's number."""

    planned_s: float
    sent_s: float
    ended_s: float
    status: str
    reply: bytes

    @property
    def latency_s(self) -> float:
        """From the planned time."""
        return self.ended_s - self.planned_s


class Client:
    """A few connections to one method of a replica."""

    def __init__(self, connections: Sequence[Connection], messages: Sequence[bytes], ended: _Ended) -> None:
        self._connections = cycle(connections)
        self._messages = cycle([framed(message) for message in messages])
        self._ended = ended

    def _call(self, then: Callable[[str, bytes], None]) -> None:
        connection = next(self._connections)
        self._ended.then[connection, connection.call(next(self._messages))] = then

    async def closed_loop(self, in_flight: int, seconds: float) -> float:
        """Answers a second."""
        loop = asyncio.get_running_loop()
        answered, until_s, over = 0, loop.time() + seconds, loop.create_future()

        def then(status: str, _reply: bytes) -> None:
            nonlocal answered
            answered += status == OK
            if loop.time() < until_s and status != BROKEN:
                self._call(then)
            elif not self._ended.then and not over.done():
                over.set_result(None)

        for _ in range(in_flight):
            self._call(then)
        async with asyncio.timeout(seconds + PATIENCE_S):
            await over
        return answered / seconds

    async def open_loop(self, planned_s: Sequence[float]) -> list[End]:
        """One call at each time. Raises TimeoutError where one does not end."""
        loop = asyncio.get_running_loop()
        start_s, ends, over = loop.time(), [], asyncio.Event()

        def send(at_s: float) -> None:
            sent_s = loop.time() - start_s

            def then(status: str, reply: bytes) -> None:
                ends.append(End(at_s, sent_s, loop.time() - start_s, status, reply))
                if len(ends) == len(planned_s):
                    over.set()

            self._call(then)

        for at_s in planned_s:
            wait_s = start_s + at_s - loop.time()
            if wait_s > 0:
                await asyncio.sleep(wait_s)
            send(at_s)
        if len(planned_s):
            async with asyncio.timeout(PATIENCE_S):
                await over.wait()
        return ends


class _Ended:
    """What is to be done when a call ends, by connection and ticket."""

    def __init__(self) -> None:
        self.then: dict[tuple[Connection, int], Callable[[str, bytes], None]] = {}

    def __call__(self, connection: Any, ticket: int, status: str, reply: bytes) -> None:
        self.then.pop((connection, ticket))(status, reply)


@asynccontextmanager
async def connected(address: str, path: str, messages: Sequence[bytes]) -> AsyncIterator[Client]:
    """Sends the messages in turn. Raises OSError where nobody listens."""
    host, _, port = address.rpartition(":")
    loop, ended = asyncio.get_running_loop(), _Ended()
    pairs = [
        await loop.create_connection(lambda: Connection(address, path, ended), host, int(port))
        for _ in range(CONNECTIONS)
    ]
    try:
        yield Client([connection for _, connection in pairs], messages, ended)
    finally:
        for _, connection in pairs:
            connection.close()
