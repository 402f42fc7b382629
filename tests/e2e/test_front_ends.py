"""Processes of one replica that die: clients that retry lose nothing, and nothing is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import grpc
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from grpc_health.v1 import health_pb2, health_pb2_grpc

import minwatt
from minwatt.v1 import inference_pb2 as pb
from minwatt.v1.inference_pb2_grpc import TextInferenceStub
from tests.e2e.replica_process import ReplicaProcess

FRONT_ENDS = ("--front-ends", "2")
CLIENTS, PATIENCE_S = 6, 30.0
HELLO = pb.ClassifyRequest(texts=["hello"])


def front_ends(replica: ReplicaProcess) -> list[int]:
    return replica.children("minwatt-front")


def engine(replica: ReplicaProcess) -> int:
    [pid] = replica.children("minwatt-engine")
    return pid


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def until(condition: Callable[[], bool]) -> None:
    limit_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < limit_s
        time.sleep(0.02)


@pytest.fixture
def replica(tiny_model: Path) -> Iterator[ReplicaProcess]:
    with ReplicaProcess(tiny_model, *FRONT_ENDS) as replica:
        yield replica


class Load:
    """Clients that retry, one request after the other each, until they are stopped."""

    def __init__(self) -> None:
        self.answered = 0
        self._stop = False

    async def client(self, target: str) -> None:
        async with minwatt.AsyncClient(target, timeout_s=PATIENCE_S) as client:
            while not self._stop:
                assert len(await client.classify(["where is my card", "hello"])) == 2
                self.answered += 1
                await asyncio.sleep(0.01)

    async def more(self, count: int) -> None:
        """Waits until that many more are answered."""
        wanted = self.answered + count
        async with asyncio.timeout(PATIENCE_S):
            while self.answered < wanted:  # noqa: ASYNC110 - clients count, nobody tells
                await asyncio.sleep(0.02)

    def stop(self) -> None:
        self._stop = True


@contextlib.asynccontextmanager
async def load(target: str) -> AsyncIterator[Load]:
    """Raises whatever a client was told that was no answer."""
    running = Load()
    async with asyncio.TaskGroup() as clients:
        for _ in range(CLIENTS):
            clients.create_task(running.client(target))
        yield running
        running.stop()


async def test_a_front_end_that_is_killed_is_replaced_and_loses_no_request(replica: ReplicaProcess) -> None:
    async with load(replica.target) as running:
        await running.more(50)
        for _ in range(2):
            killed = front_ends(replica)
            os.kill(killed[0], signal.SIGKILL)
            await running.more(50)
            await asyncio.to_thread(until, lambda: len(front_ends(replica)) == 2)
            assert killed[0] not in front_ends(replica)
        await running.more(50)
    assert replica.metric("minwatt_in_flight_requests") == 0
    assert (replica.metric("minwatt_front_ends"), replica.metric("minwatt_front_ends_lost_total")) == (2, 2)
    await asyncio.to_thread(until, lambda: replica.metric("minwatt_front_end_cpu_seconds_total") > 0)
    assert "a front end has ended (SIGKILL): it is started anew" in replica.stderr


async def test_what_a_killed_front_end_had_is_withdrawn(tiny_model: Path) -> None:
    """Requests wait in the queue for company that does not come: the engine process drops them at once."""
    with ReplicaProcess(tiny_model, *FRONT_ENDS, "--max-delay", "10s", "--slo", "30s") as replica:
        async with grpc.aio.insecure_channel(replica.target, [("grpc.enable_retries", 0)]) as channel:
            call = TextInferenceStub(channel).Classify(HELLO, timeout=PATIENCE_S)
            waiting = asyncio.ensure_future(call)
            await asyncio.to_thread(until, lambda: replica.metric("minwatt_queue_depth_texts") == 1)
            for pid in front_ends(replica):
                os.kill(pid, signal.SIGKILL)
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await waiting
            assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
            await asyncio.to_thread(until, lambda: replica.metric("minwatt_queue_depth_texts") == 0)
            assert replica.metric("minwatt_in_flight_requests") == 0


async def test_an_engine_that_is_killed_is_replaced_and_loses_no_request(replica: ReplicaProcess) -> None:
    before = front_ends(replica)
    async with load(replica.target) as running:
        await running.more(50)
        killed = engine(replica)
        os.kill(killed, signal.SIGKILL)
        await running.more(100)
    assert engine(replica) != killed
    assert front_ends(replica) == before, "they go on"
    assert "the engine process has ended (SIGKILL): it is started anew" in replica.stderr
    replica.terminate()
    assert await asyncio.to_thread(replica.wait) == 0


async def test_calls_of_a_dead_engine_end_and_readiness_goes_down(tiny_model: Path) -> None:
    with ReplicaProcess(tiny_model, *FRONT_ENDS, "--max-delay", "10s", "--slo", "30s") as replica:
        async with grpc.aio.insecure_channel(replica.target, [("grpc.enable_retries", 0)]) as channel:
            stub, health = TextInferenceStub(channel), health_pb2_grpc.HealthStub(channel)
            unary = asyncio.ensure_future(stub.Classify(HELLO, timeout=PATIENCE_S))
            stream = stub.ClassifyStream(timeout=PATIENCE_S)
            await stream.write(pb.ClassifyStreamRequest(id="a", request=HELLO))
            await asyncio.to_thread(until, lambda: replica.metric("minwatt_queue_depth_texts") == 2)
            watch = health.Watch(health_pb2.HealthCheckRequest(), timeout=PATIENCE_S)
            assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
            os.kill(engine(replica), signal.SIGKILL)
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await unary
            assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
            retry = RetryInfo()
            details = dict(raised.value.trailing_metadata())["grpc-status-details-bin"]
            assert Status.FromString(details).details[0].Unpack(retry)
            assert retry.retry_delay.ToNanoseconds() > 0
            assert (await stream.read()).error.code == grpc.StatusCode.UNAVAILABLE.value[0]
            assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
            assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
            watch.cancel()
            stream.cancel()


@pytest.mark.parametrize("flags", [("--replica-id", "one"), ()])
def test_an_engine_that_can_not_be_replaced_ends_the_replica(
    tiny_model: Path, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    """Its scaler knows it by that name and starts another; or its model has gone."""
    model = tmp_path / "model"
    model.symlink_to(tiny_model)
    with ReplicaProcess(model, *FRONT_ENDS, *flags) as replica:
        pids = front_ends(replica)
        if not flags:
            model.unlink()
        os.kill(engine(replica), signal.SIGKILL)
        assert replica.wait() == (1 if flags else 2)
        last = replica.stderr.splitlines()[-1]
        assert ("so does replica one" in last) if flags else last.startswith("minwatt serve: ")
        assert not any(map(alive, pids))


def test_one_that_dies_again_and_again_ends_the_replica(replica: ReplicaProcess) -> None:
    limit_s = time.monotonic() + PATIENCE_S
    while replica.process.poll() is None and time.monotonic() < limit_s:
        with contextlib.suppress(ProcessLookupError, FileNotFoundError, IndexError):
            os.kill(front_ends(replica)[0], signal.SIGKILL)
        time.sleep(0.05)
    assert replica.wait() == 1
    assert "10 before it: the replica ends" in replica.stderr


@pytest.mark.parametrize("everybody", [True, False])
def test_signals_to_all_processes_drain_it(tiny_model: Path, everybody: bool) -> None:
    """To the process group, as a terminal does; to each process, as a service manager does."""
    flags = (*FRONT_ENDS, "--drain-delay", "1s")
    with ReplicaProcess(tiny_model, *flags, start_new_session=True) as replica:
        pids = [replica.process.pid, engine(replica), *front_ends(replica)]
        if everybody:
            for pid in pids:
                os.kill(pid, signal.SIGTERM)
                time.sleep(0.1)  # so that none is merged with the one before
        else:
            assert os.getpgid(pids[1]) != replica.process.pid
            os.killpg(replica.process.pid, signal.SIGTERM)
        with minwatt.Client(replica.target) as client:
            assert client.classify(["hello"])[0].label  # served on while balancers look away
        assert replica.wait() == 0


def test_nothing_outlives_the_first_process(replica: ReplicaProcess) -> None:
    pids = [engine(replica), *front_ends(replica)]
    replica.process.kill()
    replica.wait()
    until(lambda: not any(map(alive, pids)))
