"""Stock grpcio clients against the front end: streams in any order, at any pace."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import grpc
import pytest

from service.front.http2 import CONNECTION_WINDOW_BYTES, STREAM_WINDOW_BYTES
from tests.contract.front_end import PATIENCE_S, FrontEnd, drained, path

pytestmark = pytest.mark.both_modes

KIB = 1024


@pytest.fixture
def front_end(front_ends: int) -> Iterator[FrontEnd]:
    with FrontEnd(max_streams=64) as front_end:
        yield front_end


async def test_messages_go_both_ways_as_they_come(front_end: FrontEnd) -> None:
    async with grpc.aio.insecure_channel(front_end.target) as channel:
        call = channel.stream_stream(path("EchoStream"))(timeout=PATIENCE_S)
        for number in range(100):
            await call.write(str(number).encode())
            assert await call.read() == str(number).encode()
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF
        assert await call.code() is grpc.StatusCode.OK


def test_replies_after_the_client_has_sent_its_last(front_end: FrontEnd) -> None:
    with grpc.insecure_channel(front_end.target) as channel:
        reverse = channel.stream_stream(path("Reverse"))
        assert list(reverse(iter([b"1", b"2", b"3"]), timeout=PATIENCE_S)) == [b"3", b"2", b"1"]
        assert list(reverse(iter([]), timeout=PATIENCE_S)) == []
        large = [bytes([number]) * 200 * KIB for number in range(10)]
        assert list(reverse(iter(large), timeout=PATIENCE_S)) == large[::-1]


def test_a_stream_that_is_refused_midway(front_end: FrontEnd) -> None:
    with grpc.insecure_channel(front_end.target) as channel:
        for _ in range(20):
            replies = channel.stream_stream(path("RefuseSecond"))(
                iter([bytes(50 * KIB)] * 10), timeout=PATIENCE_S
            )
            with pytest.raises(grpc.RpcError) as ended:
                list(replies)
            assert ended.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert channel.unary_unary(path("Echo"))(b"on", timeout=PATIENCE_S) == b"on"


async def test_a_client_that_reads_slowly_is_not_written_ahead(front_end: FrontEnd) -> None:
    messages = 2000  # 31 MiB
    narrow = [("grpc.http2.bdp_probe", 0)]  # or the client's window grows to take it all
    async with grpc.aio.insecure_channel(front_end.target, narrow) as channel:
        call = channel.stream_stream(path("Flood"))(timeout=60)
        await call.write(str(messages).encode())
        assert len(await call.read()) == 16 * KIB
        before = -1
        while before != front_end.probe.written:  # until it is stuck
            before = front_end.probe.written
            await asyncio.sleep(0.3)
        assert before < messages / 2
        assert await channel.unary_unary(path("Echo"))(b"on", timeout=PATIENCE_S) == b"on"
        for _ in range(messages - 1):
            assert len(await call.read()) == 16 * KIB
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF


async def test_streams_that_are_not_read_hold_up_only_themselves(front_end: FrontEnd) -> None:
    async with grpc.aio.insecure_channel(front_end.target) as channel:
        stuck = []
        for _ in range(3):
            call = channel.stream_stream(path("Ignore"))()
            stuck.append((call, asyncio.ensure_future(self_filling(call))))
        await asyncio.to_thread(drained, front_end.probe.seen, ["started"] * 3)
        await asyncio.sleep(0.3)
        assert not any(filling.done() for _, filling in stuck)
        echo = channel.unary_unary(path("Echo"))
        assert await echo(bytes(200 * KIB), timeout=PATIENCE_S) == bytes(200 * KIB)
        for call, filling in stuck:
            call.cancel()
            filling.cancel()
        await asyncio.wait([filling for _, filling in stuck])


async def self_filling(call: grpc.aio.StreamStreamCall[bytes, bytes]) -> None:
    """Many times what the server's window takes."""
    for _ in range(10 * STREAM_WINDOW_BYTES // KIB):
        await call.write(bytes(KIB))


async def test_streams_that_are_abandoned_unread_give_their_window_back(front_end: FrontEnd) -> None:
    async with grpc.aio.insecure_channel(front_end.target) as channel:
        for _ in range(2 * CONNECTION_WINDOW_BYTES // STREAM_WINDOW_BYTES):
            call = channel.stream_stream(path("Ignore"))()
            for _ in range(4):
                await call.write(bytes(50 * KIB))
            await asyncio.to_thread(drained, front_end.probe.seen, ["started"])
            call.cancel()
        echo = channel.unary_unary(path("Echo"))
        assert await echo(bytes(200 * KIB), timeout=PATIENCE_S) == bytes(200 * KIB)


async def test_a_cancelled_stream_ends_its_handler(front_end: FrontEnd) -> None:
    async with grpc.aio.insecure_channel(front_end.target) as channel:
        call = channel.stream_stream(path("EchoStream"))()
        await call.write(b"1")
        assert await call.read() == b"1"
        call.cancel()
        await asyncio.to_thread(drained, front_end.probe.seen, ["cancelled"])


async def test_a_connection_carries_no_more_streams_than_allowed(front_end: FrontEnd) -> None:
    async with grpc.aio.insecure_channel(front_end.target) as channel:
        assert await channel.unary_unary(path("Echo"))(b"") == b""  # by now the client knows the limit
        sleep = channel.unary_unary(path("Sleep"))
        slept = await asyncio.gather(*(sleep(b"0.02", timeout=PATIENCE_S) for _ in range(300)))
    assert slept == [b"slept"] * 300
    assert 32 < front_end.probe.most_at_once <= 64
