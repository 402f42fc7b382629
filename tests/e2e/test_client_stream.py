"""Streams of the client against a server that answers late, out of order, in part, or not at all."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

import minwatt
from minwatt.v1 import inference_pb2 as pb
from service.statuses import Refusal, invalid, queue_full, too_large, unavailable
from service.statuses import Violation as ServerViolation
from tests.e2e.scripted_server import ScriptedServer, answer, refuse, serving


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    scripted = ScriptedServer()
    async with serving(scripted):
        yield scripted


@pytest.fixture
async def client(server: ScriptedServer) -> AsyncIterator[minwatt.AsyncClient]:
    async with minwatt.AsyncClient(server.address, timeout_s=20) as client:
        yield client


def answered(item: pb.ClassifyStreamRequest) -> pb.ClassifyStreamResponse:
    return pb.ClassifyStreamResponse(id=item.id, response=answer(item.request))


def refused(id_: str, refusal: Refusal) -> pb.ClassifyStreamResponse:
    status = refusal.status()
    error = pb.StreamError(
        code=status.code, message=status.message, status_details=status.SerializeToString()
    )
    return pb.ClassifyStreamResponse(id=id_, error=error)


async def answer_all(context: Any) -> None:
    while (item := await context.read()) is not grpc.aio.EOF:
        await context.write(answered(item))


async def test_answers_find_their_requests_in_any_order(
    server: ScriptedServer, client: minwatt.AsyncClient
) -> None:
    async def backwards(context: Any) -> None:
        items = [await context.read() for _ in range(5)]
        for item in reversed(items):
            await context.write(answered(item))
        assert await context.read() is grpc.aio.EOF, "the client says that it is done"

    server.streams = deque([backwards])
    async with client.classify_stream() as stream:
        answers = [await stream.send([text]) for text in "abcde"]
        assert [(await one)[0].label for one in answers] == list("abcde")


async def test_entities_come_by_stream_too(server: ScriptedServer, client: minwatt.AsyncClient) -> None:
    async def found(context: Any) -> None:
        item = await context.read()
        assert (item.request.options.min_score, item.request.options.no_cache) == (0.5, True)
        entity = pb.Entity(label="PER", score=0.75, text=item.request.texts[0], start=0, end=1)
        response = pb.ExtractEntitiesResponse(results=[pb.EntityList(entities=[entity])])
        await context.write(pb.ExtractEntitiesStreamResponse(id=item.id, response=response))

    server.streams = deque([found])
    async with client.extract_entities_stream(min_score=0.5, no_cache=True) as stream:
        reply = await (await stream.send(["a"]))
    assert [(one.label, one.text) for one in reply[0].entities] == [("PER", "a")]


async def test_leaving_waits_for_the_answers(server: ScriptedServer, client: minwatt.AsyncClient) -> None:
    async def slowly(context: Any) -> None:
        item = await context.read()
        await asyncio.sleep(0.1)
        await context.write(answered(item))

    server.streams = deque([slowly])
    async with client.classify_stream() as stream:
        due = await stream.send(["a"])
    assert due.result()[0].label == "a"


async def test_what_a_broken_stream_left_unanswered_is_sent_again(
    server: ScriptedServer, client: minwatt.AsyncClient
) -> None:
    seen: list[list[str]] = []

    async def half(context: Any) -> None:
        items = [await context.read() for _ in range(4)]
        seen.append([item.request.texts[0] for item in items])
        for item in items[:2]:
            await context.write(answered(item))
        await refuse(context, unavailable("draining", "draining", 0.0))

    async def rest(context: Any) -> None:
        seen.append([])
        while (item := await context.read()) is not grpc.aio.EOF:
            seen[-1].append(item.request.texts[0])
            assert 0 < item.timeout_seconds < 20
            await context.write(answered(item))

    server.streams = deque([half, rest])
    async with client.classify_stream() as stream:
        answers = [await stream.send([text]) for text in "abcd"]
        assert [(await one)[0].label for one in answers] == list("abcd")
    assert (seen[0], sorted(seen[1])) == (list("abcd"), ["c", "d"])
    assert client.retries == {"UNAVAILABLE": 2}


async def test_a_stream_that_can_not_be_opened_is_tried_until_it_can(
    server: ScriptedServer, client: minwatt.AsyncClient
) -> None:
    async def not_now(context: Any) -> None:
        await refuse(context, unavailable("starting", "not yet", 0.01))

    server.streams = deque([not_now, not_now, not_now, answer_all])
    async with client.classify_stream() as stream:
        assert (await (await stream.send(["a"])))[0].label == "a"


async def test_one_refused_request_leaves_the_others_alone(
    server: ScriptedServer, client: minwatt.AsyncClient
) -> None:
    async def picky(context: Any) -> None:
        full = {"later"}
        while (item := await context.read()) is not grpc.aio.EOF:
            text = item.request.texts[0]
            if text == "wrong":
                await context.write(refused(item.id, invalid([ServerViolation("texts[0]", "is wrong")])))
            elif text in full:
                full.discard(text)
                await context.write(refused(item.id, queue_full("full", 0.05)))
            else:
                await context.write(answered(item))

    server.streams = deque([picky])
    async with client.classify_stream() as stream:
        wrong, later, good = [await stream.send([text]) for text in ("wrong", "later", "good")]
        with pytest.raises(minwatt.InvalidRequest, match="is wrong"):
            await wrong
        assert (await later)[0].label == "later", "sent again when there was room"
        assert (await good)[0].label == "good"


async def test_a_message_too_large_to_be_read_fails_alone(
    server: ScriptedServer, client: minwatt.AsyncClient
) -> None:
    """The server can't say whose it is."""

    async def small_only(context: Any) -> None:
        items = [await context.read() for _ in range(3)]
        await context.write(refused("", too_large(9000, 4096)))
        for item in items:
            if item.ByteSize() < 4096:
                await context.write(answered(item))
        await context.read()

    server.streams = deque([small_only])
    async with client.classify_stream() as stream:
        first, large, last = [await stream.send([text]) for text in ("a", "b" * 9000, "c")]
        with pytest.raises(minwatt.InvalidRequest, match="9000 bytes"):
            await large
        assert [(await first)[0].label, (await last)[0].label] == ["a", "c"]


async def test_a_refused_stream_fails_what_it_carries(
    server: ScriptedServer, client: minwatt.AsyncClient
) -> None:
    async def stranger(context: Any) -> None:
        await refuse(context, Refusal(grpc.StatusCode.UNAUTHENTICATED, "key", "no key"))

    server.streams = deque([stranger])
    async with client.classify_stream() as stream:
        with pytest.raises(minwatt.Unauthenticated, match="no key"):
            await (await stream.send(["a"]))


async def test_sending_waits_for_room(server: ScriptedServer, client: minwatt.AsyncClient) -> None:
    go = asyncio.Event()

    async def held(context: Any) -> None:
        items = [await context.read() for _ in range(2)]
        await go.wait()
        for item in items:
            await context.write(answered(item))
        await answer_all(context)

    server.streams = deque([held])
    async with client.classify_stream(in_flight=2) as stream:
        first, second = await stream.send(["a"]), await stream.send(["b"])
        third = asyncio.ensure_future(stream.send(["c"]))
        await asyncio.sleep(0.1)
        assert not third.done()
        go.set()
        assert [(await one)[0].label for one in (first, second, await third)] == list("abc")


async def test_each_request_has_its_deadline_though_the_server_says_nothing(
    server: ScriptedServer, client: minwatt.AsyncClient
) -> None:
    async def silent(context: Any) -> None:
        while await context.read() is not grpc.aio.EOF:
            pass

    server.streams = deque([silent])
    async with client.classify_stream(in_flight=1) as stream:
        for _ in range(2):  # and the room it held is free again
            with pytest.raises(minwatt.DeadlineExceeded, match=r"no answer within 0.1 s"):
                await (await stream.send(["a"], timeout_s=0.1))


async def test_an_answer_that_is_given_up_makes_room(
    server: ScriptedServer, client: minwatt.AsyncClient
) -> None:
    read = asyncio.Event()

    async def second_only(context: Any) -> None:
        await context.read()
        read.set()
        await answer_all(context)

    server.streams = deque([second_only])
    async with client.classify_stream(in_flight=1) as stream:
        given_up = await stream.send(["a"])
        await read.wait()
        given_up.cancel()
        assert (await (await stream.send(["b"])))[0].label == "b"


async def test_an_error_inside_drops_what_is_due(server: ScriptedServer, client: minwatt.AsyncClient) -> None:
    async def silent(context: Any) -> None:
        while await context.read() is not grpc.aio.EOF:
            pass

    server.streams = deque([silent])
    stream = client.classify_stream()
    due = []

    async def fail_inside() -> None:
        async with stream:
            due.append(await stream.send(["a"]))
            raise KeyError

    with pytest.raises(KeyError):
        await fail_inside()
    assert due[0].cancelled()
    with pytest.raises(RuntimeError, match="not open"):
        await stream.send(["a"])


async def test_what_can_not_be_sent_is_said_by_send(client: minwatt.AsyncClient) -> None:
    async with client.classify_stream(in_flight=1) as stream:
        for _ in range(2):
            with pytest.raises(TypeError, match="a list of strings"):
                await stream.send("hello")
            with pytest.raises(ValueError, match="timeout_s = -1"):
                await stream.send(["hello"], timeout_s=-1)


async def test_a_client_closed_under_a_stream_leaves_nobody_waiting(server: ScriptedServer) -> None:
    async def silent(context: Any) -> None:
        while await context.read() is not grpc.aio.EOF:
            pass

    server.streams = deque([silent, silent, silent])
    client = minwatt.AsyncClient(server.address)
    async with client.classify_stream() as stream:
        due = await stream.send(["a"])
        await asyncio.sleep(0.1)
        await client.close()
        with pytest.raises((minwatt.RequestFailed, grpc.aio.UsageError)):
            await due


async def test_the_error_that_grpc_puts_in_place_of_a_streams_end_is_no_answer(
    server: ScriptedServer, client: minwatt.AsyncClient
) -> None:
    """It comes of a race between a write and the end of the call: made up here, as grpc.aio makes it up."""

    class Broken:
        async def write(self, item: object) -> None:
            await asyncio.Event().wait()

        async def read(self) -> object:
            await asyncio.sleep(0)  # the writer has its turn
            nothing = grpc.aio.Metadata()
            code = grpc.StatusCode.INTERNAL
            raise grpc.aio.AioRpcError(code, nothing, nothing, "Internal error from Core")

        def cancel(self) -> None:
            pass

    server.streams = deque([answer_all])
    stream = client.classify_stream()
    opened: list[Any] = []
    real = stream._wire.open

    def open_twice(connection: int) -> Any:
        opened.append(Broken() if not opened else real(connection))
        return opened[-1]

    object.__setattr__(stream._wire, "open", open_twice)
    async with stream:
        assert (await (await stream.send(["a"])))[0].label == "a"
    assert len(opened) == 2
