"""Replicas and a scaler that meet in a Redis, as processes: it may die and come back empty."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import minwatt
from minwatt.v1.fleet_keys import FleetKeys
from minwatt.v1.model_dir import ModelDirectory
from scaler.profile import save_profile
from tests.e2e.replica_process import ReplicaProcess
from tests.eventually import WAIT_S, eventually
from tests.redis_server import RedisServer
from tests.scaler.made_up import profile, variant

FLEET = "shop/tiny"
POLICY = """
apiVersion: minwatt.dev/v1alpha1
kind: PowerPolicy
metadata: {name: tiny}
spec:
  model: MODEL
  slo: {latency: 500ms}
  replicas: {min: 1, max: 4}
  batching: {maxSize: 4, maxDelay: 0ms}
  behavior: {tick: 1s, scaleDown: {stabilizationWindow: 1s}}
  telemetry: {staleAfter: 1h, fallbackReplicas: 1}
"""


@contextmanager
def scaling(*flags: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "minwatt", "scale", *flags]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    try:
        while "ready: fleet" not in (line := process.stdout.readline()):
            assert line, "it has ended"
        assert f"fleet {FLEET} at unix://" in line
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=WAIT_S)


def last_row(record: Path) -> dict[str, Any]:
    file = record / "fleet.jsonl"
    lines = file.read_text().splitlines() if file.exists() else []
    row: dict[str, Any] = json.loads(lines[-1]) if lines and lines[-1].endswith("}") else {}
    return row


async def test_a_redis_that_dies_and_comes_back_empty_loses_nothing(tiny_model: Path, tmp_path: Path) -> None:
    spec = ModelDirectory.open(tiny_model).spec
    made = profile(variant(name=spec.default_variant), model=spec.name, model_version=spec.version)
    save_profile(made, tmp_path / "profile.yaml")
    (tmp_path / "policy.yaml").write_text(POLICY.replace("MODEL", spec.name))
    record = tmp_path / "record"
    key = FleetKeys.of(FLEET).point.encode()

    with ExitStack() as stack:
        server = stack.enter_context(RedisServer(tmp_path))
        bus = ("--bus-redis", server.url, "--fleet", FLEET)
        files = ("--policy", tmp_path / "policy.yaml", "--profile", tmp_path / "profile.yaml")
        scaler = stack.enter_context(scaling(*bus, *map(str, files), "--record", str(record)))
        replicas = [ReplicaProcess(tiny_model, *bus, "--meter", "modelled") for _ in range(2)]
        for replica in replicas:
            await asyncio.to_thread(replica.ready)
            stack.enter_context(replica)

        async def ready(count: int) -> None:
            async def seen() -> bool:
                row = last_row(record)
                return row.get("replicas_ready") == count and row.get("arrivals_rps") is not None

            await eventually(seen)

        async def point_in_force() -> None:
            async def followed() -> bool:
                return server.command(b"HGET", key, b"version") == b"$20\r\n%020d\r\n" % 1

            await eventually(followed)

        await ready(2)
        async with minwatt.AsyncClient(replicas[0].target) as client:
            server.kill()
            for _ in range(20):
                assert await client.classify(["hello"]), "serves on"
                await asyncio.sleep(0.1)

            async def blind() -> bool:
                row = last_row(record)
                return row.get("arrivals_rps") is None and row.get("replicas_desired") == 2

            await eventually(blind)
            server.start()
            await ready(2)
            assert await client.classify(["hello"])
        await point_in_force()
        replicas[1].terminate()
        assert await asyncio.to_thread(replicas[1].wait) == 0
        await ready(1)
        assert scaler.poll() is None
    assert "is away" in replicas[0].stderr
