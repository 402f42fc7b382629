"""How connections end without losing a call: by age, by drain, by force; and health and reflection."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import suppress

import grpc
import ngh2
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from service.door import LEAST_UNSENT_BYTES
from service.front import ending
from tests.contract.front_end import NAME, PATIENCE_S, FrontEnd, RawClient, drained, frame, path

pytestmark = pytest.mark.both_modes

ALL_STREAMS = 2**31 - 1
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
# Without them a client gives up calls too that a GOAWAY found on their way to the wire.
NO_RETRIES = [("grpc.enable_retries", 0)]


@pytest.fixture
def front_end(front_ends: int) -> Iterator[FrontEnd]:
    with FrontEnd() as front_end:
        yield front_end


def test_an_old_connection_is_told_first_and_ended_later() -> None:
    with FrontEnd(max_age_s=0.2) as front_end, RawClient(front_end.target) as client:
        slow = client.send(path("Sleep"), frame(b"0.6"))
        while len(client.goaways) < 2:
            client.pump()
        assert client.goaways == [ALL_STREAMS, slow]
        assert client.answer(slow).body == frame(b"slept")
        while not client.hung_up:
            client.pump()


async def test_connections_grow_old_and_no_call_is_lost() -> None:
    with FrontEnd(max_age_s=0.1) as front_end:
        async with grpc.aio.insecure_channel(front_end.target) as channel:
            echo = channel.unary_unary(path("Echo"))
            until_s = time.monotonic() + 3
            while time.monotonic() < until_s:
                assert await asyncio.gather(*(echo(b"x") for _ in range(20))) == [b"x"] * 20


def test_streams_of_an_old_connection_are_ended_in_good_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ending, "AGE_GRACE_S", 0.3)
    with FrontEnd(max_age_s=0.2) as front_end, grpc.insecure_channel(front_end.target, NO_RETRIES) as channel:
        release = iter(front_end.probe.seen.get, "never")  # a client that sends no more and stays
        with pytest.raises(grpc.RpcError) as ended:
            list(channel.stream_stream(path("EchoStream"))(release, timeout=PATIENCE_S))
        front_end.probe.seen.put("never")
        assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "open the stream anew" in ended.value.details()


def test_a_drain_answers_what_is_on_its_way(front_end: FrontEnd) -> None:
    with RawClient(front_end.target) as client:
        slow = client.send(path("Sleep"), frame(b"0.3"))
        drained(front_end.probe.seen, ["started"])
        closing = front_end.run(front_end.door.close(PATIENCE_S))
        time.sleep(0.1)  # the notice is out, this client has not read it yet
        late = client.send(path("Echo"), frame(b"late"))
        assert client.answer(late).body == frame(b"late")
        assert client.answer(slow).body == frame(b"slept")
        while len(client.goaways) < 2:
            client.pump()
        assert client.goaways == [ALL_STREAMS, late]
        with pytest.raises(ConnectionRefusedError):
            RawClient(front_end.target)
        while not client.hung_up:
            client.pump()
        closing.result(PATIENCE_S)


async def test_a_drain_ends_streams_after_their_answers(front_end: FrontEnd) -> None:
    async with grpc.aio.insecure_channel(front_end.target, NO_RETRIES) as channel:
        call = channel.stream_stream(path("EchoStream"))(timeout=PATIENCE_S)
        await call.write(b"1")
        assert await call.read() == b"1"
        await call.write(b"2")
        await asyncio.to_thread(front_end.probe.second_read.wait, PATIENCE_S)
        closing = front_end.run(front_end.door.close(PATIENCE_S))
        assert await call.read() == b"2"
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await call.read()
        assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
        assert dict(ended.value.trailing_metadata())["grpc-retry-pushback-ms"] == "0"
        await asyncio.wrap_future(closing)


def test_what_a_drain_leaves_unread_is_not_called_answered(front_end: FrontEnd) -> None:
    with RawClient(front_end.target) as client:
        stream_id = client.send(path("Reverse"), frame(b"1"), end=False)
        ping = client.send(path("Echo"), b"", end=False)  # keeps the connection
        client.answer(client.send(path("Echo"), frame(b"x")))
        closing = front_end.run(front_end.door.close(PATIENCE_S))
        while not client.goaways:  # with the notice streams are over
            client.pump()
        with suppress(ngh2.StreamProtocolError):  # the answer was here first
            client.more(stream_id, frame(b"2"), end=True)
        client.more(ping, frame(b"x"), end=True)
        got = client.answer(stream_id)
        assert (got.body, got.status) == (frame(b"1"), grpc.StatusCode.UNAVAILABLE.value[0])
        assert client.answer(ping).body == frame(b"x")
        while not client.hung_up:
            client.pump()
        closing.result(PATIENCE_S)


async def test_a_drain_loses_no_call_of_a_busy_client(front_end: FrontEnd) -> None:
    """Until the channel has no server left to connect to, every call that was sent is answered."""
    async with grpc.aio.insecure_channel(front_end.target) as channel:
        echo = channel.unary_unary(path("Echo"))
        assert await echo(b"x") == b"x"
        calls = [asyncio.ensure_future(echo(b"x")) for _ in range(300)]
        await asyncio.sleep(0)
        closing = front_end.run(front_end.door.close(PATIENCE_S))
        await asyncio.wait(calls)
        await asyncio.wrap_future(closing)
    lost = [call.exception() for call in calls if call.exception() is not None]
    assert all("onnect" in str(error) for error in lost), "these found no server: they never reached this one"


async def test_what_outlasts_the_grace_is_cut_with_a_status(front_end: FrontEnd) -> None:
    async with grpc.aio.insecure_channel(front_end.target, NO_RETRIES) as channel:
        sleep = asyncio.ensure_future(channel.unary_unary(path("Sleep"))(b"60"))
        stream = channel.stream_stream(path("Ignore"))()
        await stream.write(b"1")
        await asyncio.to_thread(drained, front_end.probe.seen, ["started"] * 2)
        await asyncio.wrap_future(front_end.run(front_end.door.close(0.1)))
        for ended in (sleep, stream.read()):
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await ended
            assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
            assert raised.value.details() == "this replica is draining"
    await asyncio.to_thread(drained, front_end.probe.seen, ["cancelled"])


def test_pings_are_answered_however_often(front_end: FrontEnd) -> None:
    options = [
        ("grpc.keepalive_time_ms", 50),
        ("grpc.keepalive_timeout_ms", 5000),
        ("grpc.http2.max_pings_without_data", 0),
    ]
    with grpc.insecure_channel(front_end.target, options) as channel:
        assert channel.unary_unary(path("Sleep"))(b"0.8", timeout=PATIENCE_S) == b"slept"


def test_health_is_checked(front_end: FrontEnd) -> None:
    with grpc.insecure_channel(front_end.target) as channel:
        check = health_pb2_grpc.HealthStub(channel).Check
        for serving, status in ((False, NOT_SERVING), (True, SERVING)):
            front_end.set_serving(serving)
            for name in ("", NAME):
                assert check(health_pb2.HealthCheckRequest(service=name), timeout=PATIENCE_S).status == status
        with pytest.raises(grpc.RpcError) as raised:
            check(health_pb2.HealthCheckRequest(service="no.Such"), timeout=PATIENCE_S)
        assert raised.value.code() is grpc.StatusCode.NOT_FOUND


async def test_health_is_watched(front_end: FrontEnd) -> None:
    async with grpc.aio.insecure_channel(front_end.target, NO_RETRIES) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch
        unknown = watch(health_pb2.HealthCheckRequest(service="no.Such"), timeout=PATIENCE_S)
        assert (await unknown.read()).status == UNKNOWN
        known = watch(health_pb2.HealthCheckRequest(service=NAME), timeout=PATIENCE_S)
        assert (await known.read()).status == NOT_SERVING
        for serving, status in ((True, SERVING), (False, NOT_SERVING)):
            await asyncio.to_thread(front_end.set_serving, serving)
            assert (await known.read()).status == status
        closing = front_end.run(front_end.door.close(PATIENCE_S))
        for call in (known, unknown):
            with pytest.raises(grpc.aio.AioRpcError) as ended:
                await call.read()
            assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
        await asyncio.wrap_future(closing)


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_reflection(front_end: FrontEnd, version: str) -> None:
    questions = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol="grpc.health.v1.Health"),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol="no.Such"),
        reflection_pb2.ServerReflectionRequest(),
    ]
    with grpc.insecure_channel(front_end.target) as channel:
        ask = channel.stream_stream(
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
            reflection_pb2.ServerReflectionRequest.SerializeToString,
            reflection_pb2.ServerReflectionResponse.FromString,
        )
        listed, found, missing, unasked = ask(iter(questions), timeout=PATIENCE_S)
    names = {service.name for service in listed.list_services_response.service}
    reflections = {f"grpc.reflection.{v}.ServerReflection" for v in ("v1", "v1alpha")}
    assert names == {NAME, "grpc.health.v1.Health", *reflections}
    assert found.file_descriptor_response.file_descriptor_proto
    assert missing.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]
    assert unasked.error_response.error_code == grpc.StatusCode.INVALID_ARGUMENT.value[0]


def test_the_stub_of_reflection_knows_its_service(front_end: FrontEnd) -> None:
    with grpc.insecure_channel(front_end.target) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        question = reflection_pb2.ServerReflectionRequest(list_services="")
        assert len(list(stub.ServerReflectionInfo(iter([question]), timeout=PATIENCE_S))) == 1


@pytest.mark.parametrize("reads_socket", [True, False])
def test_who_does_not_take_its_answers_is_let_go(front_end: FrontEnd, reads_socket: bool) -> None:
    """Neither a window that never opens nor a socket that is never read makes the server keep it all."""
    with RawClient(front_end.target, takes_bodies=not reads_socket) as client:
        assert client.answer(client.send(path("Echo"), frame(b"x"))).body == frame(b"x")
        asked = 2 * LEAST_UNSENT_BYTES // 2**20
        with suppress(ConnectionError):  # it may hang up amid them
            for _ in range(asked):
                client.send(path("Zeros"), frame(b"%d" % 2**20))
        if reads_socket:
            while not client.hung_up:
                client.pump()
            assert client.reasons[-1] == (ngh2.ErrorCode.ENHANCE_YOUR_CALM, b"answers are not read")
        else:
            until_s = time.monotonic() + PATIENCE_S
            while front_end.connections() and time.monotonic() < until_s:
                time.sleep(0.01)
        assert front_end.connections() == 0


async def test_who_takes_its_answers_gets_any_number(front_end: FrontEnd) -> None:
    """More than may lie unsent passes through one connection, as long as it is taken."""
    async with grpc.aio.insecure_channel(front_end.target, NO_RETRIES) as channel:
        zeros = channel.unary_unary(path("Zeros"))
        for _ in range(8):
            replies = await asyncio.gather(*(zeros(b"%d" % 2**20, timeout=PATIENCE_S) for _ in range(8)))
            assert [len(reply) for reply in replies] == [2**20] * 8
