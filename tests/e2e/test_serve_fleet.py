"""A replica and its scaler: reports up, operating points down, and serving on when the scaler is away."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from urllib.request import urlopen

import grpc
import pytest
from ddsketch.pb.ddsketch_pb2 import DDSketch
from ddsketch.pb.proto import DDSketchProto

import minwatt
from minwatt.v1.fleet_pb2 import (
    REPLICA_STATE_DRAINING,
    REPLICA_STATE_READY,
    REPLICA_STATE_STARTING,
    OperatingPoint,
    ReplicaReport,
)
from minwatt.v1.fleet_pb2_grpc import FleetServicer, add_FleetServicer_to_server
from tests.e2e.replica_process import ReplicaProcess
from tests.energy import nvml_stand_in

pytestmark = pytest.mark.both_modes


class Scaler(FleetServicer):
    """Remembers what it is told; tells each replica that joins one operating point."""

    def __init__(self, point: OperatingPoint) -> None:
        self.point = point
        self.reports: list[ReplicaReport] = []
        self.streams_ended = 0
        self.told = asyncio.Condition()

    async def Join(  # noqa: N802 - the RPC's name
        self,
        reports: AsyncIterator[ReplicaReport],
        context: grpc.aio.ServicerContext[ReplicaReport, OperatingPoint],
    ) -> AsyncIterator[OperatingPoint]:
        yield self.point
        async for report in reports:
            self.reports.append(report)
            await self.tell()
        self.streams_ended += 1
        await self.tell()

    async def until(self, happened: Callable[[], bool]) -> None:
        async with self.told, asyncio.timeout(20):
            await self.told.wait_for(happened)

    async def tell(self) -> None:
        async with self.told:
            self.told.notify_all()

    async def listen(self, port: int) -> grpc.aio.Server:
        server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        add_FleetServicer_to_server(self, server)
        assert server.add_insecure_port(f"127.0.0.1:{port}") == port
        await server.start()
        return server


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def test_a_replica_in_a_fleet(tiny_model: Path) -> None:
    port = free_port()
    scaler = Scaler(
        OperatingPoint(version=7, max_batch_texts=3, max_delay_seconds=0.001, slo_latency_seconds=0.08)
    )
    server = await scaler.listen(port)
    process = ReplicaProcess(
        tiny_model, "--scaler", f"127.0.0.1:{port}", "--replica-id", "one", "--meter", "modelled"
    )
    await asyncio.to_thread(process.ready)
    with process as replica:
        await scaler.until(lambda: any(r.state == REPLICA_STATE_READY for r in scaler.reports))
        await scaler.until(lambda: scaler.reports[-1].operating_point_version == 7)
        async with minwatt.AsyncClient(replica.target) as client:
            for _ in range(3):
                reply = await client.classify(["hello"] * 6)
            assert reply.usage.batch_texts == 3, "the operating point's bound"
            await scaler.until(lambda: scaler.reports[-1].completions_total == 3)

            await server.stop(None)
            assert len(await client.classify(["hello"] * 6)) == 6, "serves on without a scaler"
            before = len(scaler.reports)
            scaler.point = OperatingPoint(version=8, max_batch_texts=2)
            server = await scaler.listen(port)
            await scaler.until(lambda: scaler.reports[-1].operating_point_version == 8)
            assert (await client.classify(["hello"] * 6)).usage.batch_texts == 2
        replica.terminate()
        assert await asyncio.to_thread(replica.wait) == 0
        await scaler.until(lambda: scaler.streams_ended > 0)
    await server.stop(None)

    first, last = scaler.reports[0], scaler.reports[-1]
    assert (first.replica_id, first.model, first.model_version, first.variant) == (
        "one",
        "tiny-text",
        "1",
        "int8",
    )
    assert (first.state, first.pid, first.host) == (
        REPLICA_STATE_STARTING,
        process.process.pid,
        os.uname().nodename,
    )
    assert first.start_up_seconds == 0
    assert (last.state, last.address) == (REPLICA_STATE_DRAINING, replica.target)
    assert last.start_up_seconds > 0
    assert (last.arrivals_total, last.completions_total, last.texts_total) == (5, 5, 30)
    assert dict(last.batch_sizes_total) == {3: 8, 2: 3}
    assert last.padded_tokens_total == last.tokens_total == 30 * 3
    assert last.busy_seconds_total > 0
    assert last.power.source == "modelled"
    own = f"process:{process.process.pid}"
    assert (last.power.device == own) != bool(process.front_ends), "the process that computes"
    assert 0 < first.power.joules_total <= last.power.joules_total or not first.power.HasField("joules_total")
    assert before > 1
    sequences = [report.sequence for report in scaler.reports]
    assert sequences == sorted(set(sequences))
    sketches = [
        DDSketchProto.from_proto(DDSketch.FromString(r.latency_sketch)) for r in scaler.reports[:before]
    ]
    assert sum(sketch.count for sketch in sketches) == 3
    assert all(0 < s.get_quantile_value(0.5) < 5 for s in sketches if s.count)


async def test_clocks_and_shedding_follow_the_operating_point(tiny_model: Path, tmp_path: Path) -> None:
    """On a stand-in for NVML, which logs the clocks that are set."""
    port, log = free_port(), tmp_path / "log"
    card = "memory_clocks 5001\ngraphics_clocks 300 900 1400\nnvmlDeviceGetPowerUsage 60000"
    scaler = Scaler(
        OperatingPoint(version=1, sm_clock_mhz=850, reflex_sm_clock_mhz=1400, shed_low_priority=True)
    )
    server = await scaler.listen(port)
    process = ReplicaProcess(
        *(tiny_model, "--scaler", f"127.0.0.1:{port}", "--meter", "nvml", "--gpu-clocks"),
        environ=nvml_stand_in.environ(card) | {"FAKE_NVML_LOG": str(log)},
    )
    await asyncio.to_thread(process.ready)
    with process as replica:
        await scaler.until(lambda: any(r.sm_clock_mhz == 900 for r in scaler.reports))
        async with minwatt.AsyncClient(replica.target) as client:
            with pytest.raises(minwatt.RequestFailed) as shed:
                await client.classify(["hello"], priority="batch")
            assert shed.value.code == "RESOURCE_EXHAUSTED"
            assert shed.value.retry_after_s
            assert await client.classify(["hello"])
        await scaler.until(lambda: scaler.reports[-1].refusals_total["shed"] >= 1)  # the client asks again
        metrics = await asyncio.to_thread(lambda: urlopen(replica.metrics_url).read().decode())
        assert "minwatt_sm_clock_locked_hertz 9e+08" in metrics
        assert "minwatt_sm_clock_refused 0.0" in metrics
        assert "minwatt_reflex_seconds_total" in metrics
        replica.terminate()
        assert await asyncio.to_thread(replica.wait) == 0
    await server.stop(None)
    assert scaler.reports[-1].sm_clock_refused == ""
    *locks, last = log.read_text().splitlines()
    assert (set(locks), last) == ({"lock 900"}, "reset 0"), (
        "how often it is locked anew is the clock's matter"
    )


async def test_a_replica_that_may_not_set_clocks_says_so_and_serves(tiny_model: Path) -> None:
    port = free_port()
    scaler = Scaler(OperatingPoint(version=1, sm_clock_mhz=850))
    server = await scaler.listen(port)
    environ = nvml_stand_in.environ("nvmlDeviceSetGpuLockedClocks !4")
    process = ReplicaProcess(
        tiny_model, "--scaler", f"127.0.0.1:{port}", "--meter", "modelled", "--gpu-clocks", environ=environ
    )
    await asyncio.to_thread(process.ready)
    with process as replica:
        refusal = "Insufficient Permissions"
        await scaler.until(lambda: any(r.sm_clock_refused == refusal for r in scaler.reports))
        async with minwatt.AsyncClient(replica.target) as client:
            assert await client.classify(["hello"], priority="batch")
    await server.stop(None)
    assert scaler.reports[-1].sm_clock_mhz == 0
    assert "gpu-clocks: 850 MHz: Insufficient Permissions; serving on without" in replica.stderr
