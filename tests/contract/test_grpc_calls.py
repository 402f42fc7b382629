"""Stock grpcio clients against the front end: what one call may do, and what it gets."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator

import grpc
import pytest
from google.rpc.error_details_pb2 import BadRequest
from grpc_status import rpc_status

from service.logs import TextLine
from tests.contract.front_end import MAX_MESSAGE_BYTES, PATIENCE_S, FrontEnd, drained, path

pytestmark = pytest.mark.both_modes

TOO_LARGE = 5 * MAX_MESSAGE_BYTES
UNLIMITED = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]


@pytest.fixture(scope="module")
def front_end(front_ends: int) -> Iterator[FrontEnd]:
    with FrontEnd() as front_end:
        yield front_end


@pytest.fixture
def channel(front_end: FrontEnd) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(front_end.target, UNLIMITED) as channel:
        yield channel


def refused(channel: grpc.Channel, method: str, message: bytes = b"", **options: object) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as raised:
        channel.unary_unary(path(method))(message, **{"timeout": PATIENCE_S, **options})
    return raised.value


@pytest.mark.parametrize("size", [0, 1, 16_379, 16_380, MAX_MESSAGE_BYTES, 4 * MAX_MESSAGE_BYTES])
def test_messages_of_any_size_up_to_the_limit(channel: grpc.Channel, size: int) -> None:
    message = bytes(range(256)) * (size // 256) + bytes(size % 256)
    assert channel.unary_unary(path("Echo"))(message, timeout=PATIENCE_S) == message


def test_a_message_over_the_limit_is_refused_before_it_is_read(channel: grpc.Channel) -> None:
    error = refused(channel, "Echo", bytes(TOO_LARGE))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert f"has {TOO_LARGE} bytes" in error.details()
    assert channel.unary_unary(path("Echo"))(b"on", timeout=PATIENCE_S) == b"on"


def test_metadata(channel: grpc.Channel) -> None:
    """Of what services read, with front ends."""
    ask = channel.unary_unary(path("Metadata"))
    sent = (("x-api-key", "one"), ("x-api-key", "two"), ("x-request-id", "three"))
    assert ask(b"x-api-key", metadata=sent, timeout=PATIENCE_S) == b"'one'"
    assert ask(b"x-request-id", metadata=sent, timeout=PATIENCE_S) == b"'three'"
    assert ask(b"authorization", timeout=PATIENCE_S) == b"None"


def test_a_deadline_is_told_and_its_absence_too(channel: grpc.Channel) -> None:
    ask = channel.unary_unary(path("Timeout"))
    assert 0 < float(ask(b"", timeout=PATIENCE_S)) <= 1.05 * PATIENCE_S  # grpcio rounds up what it sends
    assert ask(b"") == b"None"


def test_a_deadline_that_passes_ends_call_and_handler(front_end: FrontEnd, channel: grpc.Channel) -> None:
    error = refused(channel, "Sleep", b"60", timeout=0.1)
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    drained(front_end.probe.seen, ["started", "cancelled"])


def test_a_handler_sees_that_its_client_has_cancelled(front_end: FrontEnd, channel: grpc.Channel) -> None:
    call = channel.unary_unary(path("Sleep")).future(b"60")
    drained(front_end.probe.seen, ["started"])
    call.cancel()
    drained(front_end.probe.seen, ["cancelled"])


async def test_a_handler_sees_that_its_client_is_gone(front_end: FrontEnd) -> None:
    async with grpc.aio.insecure_channel(front_end.target) as channel:
        calls = [asyncio.ensure_future(channel.unary_unary(path("Sleep"))(b"60")) for _ in range(3)]
        await asyncio.to_thread(drained, front_end.probe.seen, ["started"] * 3)
    assert all(
        isinstance(e, asyncio.CancelledError) for e in await asyncio.gather(*calls, return_exceptions=True)
    )
    await asyncio.to_thread(drained, front_end.probe.seen, ["cancelled"] * 3)


@pytest.mark.parametrize("method", ["/test.Probe/Nothing", "/no.Service/Echo", "/", "/test.Probe/Echo/"])
def test_what_is_not_served_is_unimplemented(channel: grpc.Channel, method: str) -> None:
    with pytest.raises(grpc.RpcError) as unary:
        channel.unary_unary(method)(b"", timeout=PATIENCE_S)
    assert unary.value.code() is grpc.StatusCode.UNIMPLEMENTED
    with pytest.raises(grpc.RpcError) as stream:
        list(channel.stream_stream(method)(iter([bytes(TOO_LARGE)]), timeout=PATIENCE_S))
    assert stream.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_a_refusal_carries_its_details(channel: grpc.Channel) -> None:
    words = "100% größer: 東京\n"
    error = refused(channel, "Refuse", words.encode())
    assert (error.code(), error.details()) == (grpc.StatusCode.INVALID_ARGUMENT, f"field: {words}")
    status = rpc_status.from_call(error)
    bad = BadRequest()
    assert status.details[0].Unpack(bad)
    assert bad.field_violations[0].description == words


def test_a_handler_that_breaks_is_internal_and_breaks_nothing_else(
    channel: grpc.Channel, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        error = refused(channel, "Break", b"secret")
    [said] = map(TextLine().format, caplog.records)
    assert "call failed" in said
    assert "RuntimeError" in said
    assert "secret" not in said
    assert (error.code(), error.details()) == (grpc.StatusCode.INTERNAL, "unexpected RuntimeError")
    assert channel.unary_unary(path("Echo"))(b"on", timeout=PATIENCE_S) == b"on"


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_compressed_requests(channel: grpc.Channel, compression: grpc.Compression) -> None:
    echo = channel.unary_unary(path("Echo"))
    assert echo(b"again " * 1000, compression=compression, timeout=PATIENCE_S) == b"again " * 1000
    stream = channel.stream_stream(path("EchoStream"))
    sent = [b"again " * 1000, b"", b"x"]
    assert list(stream(iter(sent), compression=compression, timeout=PATIENCE_S)) == sent


def test_a_compressed_message_may_not_grow_over_the_limit(channel: grpc.Channel) -> None:
    error = refused(channel, "Echo", bytes(20 * TOO_LARGE), compression=grpc.Compression.Gzip)
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_many_calls_at_once_on_one_connection(front_end: FrontEnd) -> None:
    async with grpc.aio.insecure_channel(front_end.target) as channel:
        echo = channel.unary_unary(path("Echo"))
        numbers = [str(number).encode() for number in range(2000)]
        assert await asyncio.gather(*(echo(number) for number in numbers)) == numbers
