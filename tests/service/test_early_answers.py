"""Who is answered before all of the request came gets the whole answer, then the reset. In memory."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import ngh2
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from service.front.connections import Connections
from service.front.frames import ended_streams
from service.front.http2 import Http2Connection, Http2Options
from service.front.receiver import Header

HEADERS = [(b":status", b"200")]
TRAILERS = [(b"grpc-status", b"0")]
REQUEST = [(b":method", b"POST"), (b":scheme", b"http"), (b":authority", b"x"), (b":path", b"/")]
ROUNDS = 5  # of the loop; an answer and its reset take two


class Wire(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()

    def write(self, data: Any) -> None:
        self.written += data

    def get_write_buffer_size(self) -> int:
        return 0

    def close(self) -> None: ...

    def abort(self) -> None: ...

    def taken(self) -> bytes:
        taken, self.written = bytes(self.written), bytearray()
        return taken


class Silent:
    """A receiver that leaves the answer to the test."""

    def data(self, chunk: bytes, ended: bool) -> None: ...
    def lost(self) -> None: ...
    def closing(self) -> None: ...
    def cut(self) -> None: ...
    def task(self) -> asyncio.Task[None] | None:
        return None


class Conversation:
    """One request that never ends, over a connection in memory. `heard`: what the client saw, in order."""

    def __init__(self, window_bytes: int) -> None:
        self.wire = Wire()
        options = Http2Options(max_streams=10, max_age_s=3600.0, max_unsent_bytes=1 << 30)
        self.server = Http2Connection(options, self._start, Connections())
        self.client = ngh2.Connection(ngh2.Role.CLIENT, ngh2.Configuration(auto_window_update=False))
        self.body = b""
        self.heard: list[str] = []
        self._not_given_back = 0
        self.server.connection_made(self.wire)
        self.client.initiate_connection({ngh2.Setting.INITIAL_WINDOW_SIZE: window_bytes})
        self.stream_id = self.client.send_request(REQUEST)
        self.client.send_data(self.stream_id, b"not the last", end_stream=False)

    def _start(
        self, _connection: Http2Connection, _stream_id: int, _headers: Sequence[Header], _ended: bool
    ) -> Silent:
        return Silent()

    async def settle(self) -> None:
        for _ in range(ROUNDS):
            self.server.data_received(self.client.data_to_send())
            await asyncio.sleep(0)
            self.client.receive_data(self.wire.taken())
            for event in self.client.events():
                self._hear(event)

    def _hear(self, event: ngh2.Event) -> None:
        match event:
            case ngh2.DataReceived(data=data):
                self.body += data
                self._not_given_back += len(data)
            case ngh2.TrailersReceived():
                self.heard.append("trailers")
            case ngh2.StreamReset(error_code=code):
                self.heard.append(f"reset {code}")

    def give_back(self) -> bool:
        """The window that was used; whether any was."""
        size_bytes, self._not_given_back = self._not_given_back, 0
        if size_bytes and "trailers" not in self.heard:
            self.client.acknowledge_received_data(size_bytes, self.stream_id)
        return size_bytes > 0


@given(
    window_bytes=st.integers(1, 300),
    sizes=st.lists(st.integers(0, 300), max_size=5),
    at_once=st.booleans(),
)
@example(window_bytes=100, sizes=[100], at_once=False)  # used up by the last byte, the trailers still to come
@example(window_bytes=100, sizes=[60, 140], at_once=False)
def test_an_early_answer_comes_whole_and_then_the_reset(
    window_bytes: int, sizes: list[int], at_once: bool
) -> None:
    """Whatever the client's window; `at_once`: nothing leaves between the parts."""

    async def talk() -> None:
        talk = Conversation(window_bytes)
        await talk.settle()
        talk.server.respond(talk.stream_id, HEADERS)
        for size in sizes:
            talk.server.respond(talk.stream_id, (), bytes(size))
            if not at_once:
                await talk.settle()
        talk.server.trailers(talk.stream_id, TRAILERS, early=True)
        await talk.settle()
        while talk.give_back():
            await talk.settle()
        assert len(talk.body) == sum(sizes)
        assert talk.heard == ["trailers", "reset 0"]
        talk.server.connection_lost(None)

    asyncio.run(talk())


@pytest.mark.parametrize("early", [True, False])
def test_an_answer_of_headers_alone_needs_no_window(early: bool) -> None:
    async def talk() -> None:
        talk = Conversation(0)
        await talk.settle()
        talk.server.respond_only(talk.stream_id, [*HEADERS, *TRAILERS], early)
        await talk.settle()
        assert talk.heard == (["reset 0"] if early else [])
        talk.server.connection_lost(None)

    asyncio.run(talk())


def test_the_end_of_a_stream_is_read_off_its_frames() -> None:
    async def talk() -> None:
        talk = Conversation(100)
        talk.server.data_received(talk.client.data_to_send())
        talk.server.respond(talk.stream_id, HEADERS, bytes(10))
        await asyncio.sleep(0)
        assert ended_streams(talk.wire.taken()) == set()
        talk.server.trailers(talk.stream_id, TRAILERS, early=False)
        await asyncio.sleep(0)
        assert ended_streams(talk.wire.taken()) == {talk.stream_id}
        talk.server.connection_lost(None)

    asyncio.run(talk())
