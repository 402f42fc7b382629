"""Both clients, their streams and their batches on real replicas that stop under load: nothing is lost."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

import minwatt
from tests.e2e.replica_process import ReplicaProcess

pytestmark = pytest.mark.both_modes

TEXTS = [f"alice lives in {place}" for place in ("paris", "york", "東京")] * 40


@pytest.fixture
def pair(tiny_model: Path) -> Iterator[list[ReplicaProcess]]:
    """Two replicas on ports of their own."""
    with contextlib.ExitStack() as stack:
        started = [ReplicaProcess(tiny_model) for _ in range(2)]
        yield [stack.enter_context(replica) for replica in started]


def end(replica: ReplicaProcess, how: str) -> None:
    replica.terminate() if how == "terminate" else replica.process.kill()


@pytest.mark.parametrize("how", ["terminate", "kill"])
@pytest.mark.parametrize("addresses", ["{0},{1}", "localhost:{p0},{1}"])
async def test_one_of_two_addresses_goes_under_load(
    pair: list[ReplicaProcess], how: str, addresses: str
) -> None:
    first, second = pair
    target = addresses.format(first.target, second.target, p0=first.target.rpartition(":")[2])
    async with minwatt.AsyncClient(target, timeout_s=30) as client:
        expected = [one.label for one in await client.classify(TEXTS)]

        async def unary(index: int) -> None:
            await asyncio.sleep(index * 0.01)
            assert (await client.classify(TEXTS[index : index + 1]))[0].label == expected[index]

        async def streamed() -> None:
            async with client.classify_stream(in_flight=8) as stream:
                answers = []
                for text in TEXTS:
                    answers.append(await stream.send([text]))
                    await asyncio.sleep(0.01)
                assert [(await answer)[0].label for answer in answers] == expected

        async def many() -> None:
            got = [one.label async for one in client.classify_many(TEXTS * 5, texts_per_request=4)]
            assert got == expected * 5

        load = asyncio.gather(*(unary(index) for index in range(len(TEXTS))), streamed(), many())
        await asyncio.sleep(0.5)
        end(first, how)
        await load
    assert await asyncio.to_thread(first.wait) == (0 if how == "terminate" else -9)


@pytest.mark.parametrize("how", ["terminate", "kill"])
def test_a_blocking_batch_survives_too(pair: list[ReplicaProcess], how: str) -> None:
    first, second = pair
    with minwatt.Client(f"{first.target},{second.target}", timeout_s=30) as client:
        expected = [entities.entities for entities in client.extract_entities(TEXTS)]
        got = []
        for index, found in enumerate(client.extract_entities_many(TEXTS * 10, texts_per_request=3)):
            got.append(found.entities)
            if index == len(TEXTS):
                end(first, how)
    assert got == expected * 10


def test_a_replica_restarts_under_a_stream(tiny_model: Path) -> None:
    """Connections grow old quickly besides: the stream is opened anew each second."""

    async def scenario(port: str) -> None:
        async with (
            minwatt.AsyncClient(f"127.0.0.1:{port}", timeout_s=30) as client,
            client.classify_stream() as stream,
        ):
            assert len(await (await stream.send(["hello"]))) == 1
            await asyncio.to_thread(stop)
            waiting = [await stream.send(["hello"]) for _ in range(10)]
            second = ReplicaProcess(tiny_model, *flags, "--port", port)
            with await asyncio.to_thread(second.ready):
                assert [len(await answer) for answer in waiting] == [1] * 10
                for _ in range(5):
                    await asyncio.sleep(0.5)
                    assert len(await (await stream.send(["hello"]))) == 1

    flags = ("--max-connection-age", "1s")
    with ReplicaProcess(tiny_model, *flags) as first:

        def stop() -> None:
            first.terminate()
            assert first.wait() == 0

        asyncio.run(scenario(first.target.rpartition(":")[2]))
