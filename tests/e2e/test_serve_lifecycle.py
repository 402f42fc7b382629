"""Replicas that stop, well or badly, under load: no request of a client that retries is lost."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

import minwatt
from minwatt.v1 import inference_pb2 as pb
from minwatt.v1.inference_pb2_grpc import TextInferenceStub
from service.server import ONE_SIGNAL_S
from tests.e2e.replica_process import ReplicaProcess

pytestmark = pytest.mark.both_modes

CLIENTS, RATE_RPS, SECONDS = 6, 60, 3.0


@pytest.fixture
def shared_port() -> Iterator[int]:
    """A port that several replicas share: held by a bound socket that doesn't listen."""
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


async def offered_load(target: str) -> list[BaseException | None]:
    """Open loop over several connections; each request's error, if any."""

    async def one(client: minwatt.AsyncClient, at_s: float) -> None:
        await asyncio.sleep(at_s)
        reply = await client.classify(["where is my card", "hello"], timeout_s=15)
        assert len(reply) == 2

    async with contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(minwatt.AsyncClient(target)) for _ in range(CLIENTS)]
        count = int(RATE_RPS * SECONDS)
        requests = [one(clients[i % CLIENTS], i / RATE_RPS) for i in range(count)]
        return list(await asyncio.gather(*requests, return_exceptions=True))


@pytest.mark.parametrize("end", ["terminate", "kill"])
def test_a_stopping_replica_loses_no_request(tiny_model: Path, shared_port: int, end: str) -> None:
    flags = ("--port", str(shared_port), "--reuse-port", "--max-connection-age", "1s")
    with ReplicaProcess(tiny_model, *flags) as first, ReplicaProcess(tiny_model, *flags):

        async def scenario() -> list[BaseException | None]:
            load = asyncio.create_task(offered_load(f"127.0.0.1:{shared_port}"))
            await asyncio.sleep(SECONDS / 2)
            first.terminate() if end == "terminate" else first.process.kill()
            return await load

        outcomes = asyncio.run(scenario())
        assert first.wait() == (0 if end == "terminate" else -9)
    assert [outcome for outcome in outcomes if outcome is not None] == []


def test_requests_wait_for_a_replica_that_restarts(tiny_model: Path, shared_port: int) -> None:
    flags = ("--port", str(shared_port), "--reuse-port")
    with minwatt.Client(f"127.0.0.1:{shared_port}", timeout_s=30) as client:
        with ReplicaProcess(tiny_model, *flags) as first:
            assert client.classify(["hello"])[0].label
            first.terminate()
            assert first.wait() == 0
        with ReplicaProcess(tiny_model, *flags):
            assert client.classify(["hello"])[0].label


async def test_a_draining_replica_answers_what_it_has_and_ends_its_streams(tiny_model: Path) -> None:
    patience = ("--max-delay", "400ms", "--slo", "10s")  # requests wait in the queue while it drains
    with ReplicaProcess(tiny_model, *patience) as replica:
        async with grpc.aio.insecure_channel(replica.target, [("grpc.enable_retries", 0)]) as channel:
            stub = TextInferenceStub(channel)
            request = pb.ClassifyRequest(texts=["hello"])
            unary = [asyncio.ensure_future(stub.Classify(request, timeout=10)) for _ in range(3)]
            stream = stub.ClassifyStream(timeout=10)
            for id_ in "ab":
                await stream.write(pb.ClassifyStreamRequest(id=id_, request=request))
            await asyncio.sleep(0.1)
            replica.terminate()
            assert [len((await answer).results) for answer in unary] == [1, 1, 1]
            assert {(await stream.read()).id, (await stream.read()).id} == {"a", "b"}
            with pytest.raises(grpc.aio.AioRpcError) as ended:
                await stream.read()
            assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
        assert await asyncio.to_thread(replica.wait) == 0


def test_a_second_signal_ends_it_at_once(tiny_model: Path) -> None:
    with ReplicaProcess(tiny_model, "--drain-delay", "1m") as replica:
        replica.terminate()
        with minwatt.Client(replica.target) as client:
            assert client.classify(["hello"])[0].label  # served on while balancers look away
        time.sleep(ONE_SIGNAL_S)
        replica.terminate()
        assert replica.wait() == 128 + signal.SIGTERM
