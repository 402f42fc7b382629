"""`minwatt up` as a user runs it: real processes that share one port, scaled, killed and drained."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import mean
from typing import Any
from urllib.request import urlopen

import psutil
import pytest

import minwatt
from minwatt.v1.model_dir import ModelDirectory
from scaler.profile import ServiceTime, save_profile
from tests.e2e.agent_process import AgentProcess
from tests.energy import nvml_stand_in
from tests.scaler.made_up import profile, variant

WAIT_S = 60.0  # in the first half minute the scaler lets no replica go

POLICY = """
apiVersion: minwatt.dev/v1alpha1
kind: PowerPolicy
metadata: {name: tiny}
spec:
  model: tiny-text
  slo: {latency: 500ms}
  replicas: {min: 1, max: 2}
  batching: {maxSize: 1, maxDelay: 0ms}
  behavior: {tick: 500ms, scaleDown: {stabilizationWindow: 1s}}
"""


@pytest.fixture
def inputs(tmp_path: Path, tiny_model: Path) -> list[str]:
    """Flags of a fleet that plans with 40 ms a text: at 40 texts a second one replica is too few."""
    spec = ModelDirectory.open(tiny_model).spec
    slow = ServiceTime(basis="measured", alpha_s=0.04, beta_s_per_token=1e-6, residual_fraction=0.0)
    own = variant(name=spec.default_variant, service_time=slow)
    made = profile(own, model=spec.name, model_version=spec.version)
    save_profile(made, tmp_path / "profile.yaml")
    (tmp_path / "policy.yaml").write_text(POLICY.replace("tiny-text", spec.name))
    flags = {"--policy": "policy.yaml", "--profile": "profile.yaml", "--record": "record"}
    paths = [word for flag, name in flags.items() for word in (flag, str(tmp_path / name))]
    return [*paths, "--model", str(tiny_model), "--meter", "modelled", "--metrics-port", "0"]


def up_command(*flags: str) -> list[str]:
    return [sys.executable, "-m", "minwatt", "up", *flags]


@contextmanager
def running(*flags: str) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """The process, once it said that it is ready, and what it said before."""
    process = subprocess.Popen(up_command(*flags), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        said: list[str] = []
        while not (said and said[-1].startswith("ready:")):
            line = process.stdout.readline()
            assert line, (said, process.stderr.read())
            said.append(line)
        yield process, said
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=WAIT_S)


def rows(record: Path, name: str = "fleet") -> list[dict[str, Any]]:
    lines = (record / f"{name}.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines if line.endswith("}")]


async def until(holds: Callable[[], bool], what: str) -> None:
    give_up_s = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < give_up_s, what
        await asyncio.sleep(0.05)


class Sender:
    """Requests at a steady rate, open loop; every one is answered or counted as lost."""

    def __init__(self, target: str) -> None:
        self._client = minwatt.AsyncClient(target, timeout_s=10.0)
        self._requests: set[asyncio.Task[Any]] = set()
        self.rate_rps = 5.0
        self.answered = 0

    async def run(self) -> None:
        while True:
            self._requests.add(asyncio.create_task(self._one()))
            await asyncio.sleep(1 / self.rate_rps)

    async def _one(self) -> None:
        await self._client.classify(["where is my card?"])
        self.answered += 1

    async def finish(self) -> int:
        """The number of requests that got no answer."""
        outcomes = await asyncio.gather(*self._requests, return_exceptions=True)
        await self._client.close()
        return sum(outcome is not None for outcome in outcomes)


async def test_up_scales_both_ways_replaces_a_killed_replica_and_loses_no_request(
    inputs: list[str], tmp_path: Path
) -> None:
    record = tmp_path / "record"

    def last() -> dict[str, Any]:
        return rows(record)[-1]

    with running(*inputs, "--port", "0") as (process, said):
        target = said[-1].split()[2]
        metrics_url = said[-1].split()[5]
        sender = Sender(target)
        sending = asyncio.create_task(sender.run())
        await until(lambda: last()["arrivals_rps"], "traffic is seen")
        sender.rate_rps = 40.0
        await until(lambda: last()["replicas_ready"] == 2, "a second replica under load")
        sender.rate_rps = 1.0
        await until(lambda: last()["replicas_ready"] == 1 == last()["replicas_desired"], "one again")

        await until(lambda: len(psutil.Process(process.pid).children()) == 1, "the other has drained")
        (replica,) = psutil.Process(process.pid).children()
        os.kill(replica.pid, signal.SIGKILL)
        await until(lambda: not psutil.pid_exists(replica.pid), "the replica is gone")
        await until(
            lambda: [one.pid for one in psutil.Process(process.pid).children()] not in ([], [replica.pid]),
            "another replica",
        )
        answered = sender.answered
        await until(lambda: sender.answered > answered + 5, "answers again")
        page = await asyncio.to_thread(lambda: urlopen(metrics_url, timeout=5).read().decode())
        assert 'minwatt_scaler_decisions_total{action="up",namespace="",policy="' in page
        await _the_page_shows_what_was_recorded(said[-1].split(" · dashboard ")[1].split()[0], record)

        sending.cancel()
        assert await sender.finish() == 0
        children = psutil.Process(process.pid).children()
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, WAIT_S) == 0
        assert not any(child.is_running() for child in children)
    joules = [row["joules_total"] for row in rows(record) if row["joules_total"] is not None]
    assert joules == sorted(joules)
    sources = [row["watts_source"] for row in rows(record)]
    assert set(sources) <= {"unknown", "modelled"}  # unknown until a replica has reported
    assert sources[-1] == "modelled"
    actions = [row["action"] for row in rows(record, "decisions")]
    assert {"up", "down"} <= set(actions)


async def _the_page_shows_what_was_recorded(url: str, record: Path) -> None:
    answer = await asyncio.to_thread(lambda: urlopen(f"{url}api/state", timeout=5).read())
    state = json.loads(answer)
    recorded = rows(record)
    columns = (state["history"][name] for name in ("at_s", "watts", "ready"))
    for at_s, watts, ready in zip(*columns, strict=True):
        seconds = [row for row in recorded if int(row["at_s"]) == int(at_s) and row["at_s"] < at_s + 1e-3]
        known = [row["watts"] for row in seconds if row["watts"] is not None]
        assert ready == pytest.approx(mean(row["replicas_ready"] for row in seconds), rel=1e-5)
        assert watts == (pytest.approx(mean(known), rel=1e-5) if known else None)
    assert [entry["number"] for entry in state["decisions"]] == list(range(1, len(state["decisions"]) + 1))
    assert {"up", "down"} <= {entry["action"] for entry in state["decisions"]}
    assert state["moment"]["replicas_all"] == 1


def test_an_application_with_a_package_called_service_is_safe(
    inputs: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "service").mkdir()
    (tmp_path / "service" / "__init__.py").write_text("raise RuntimeError('not the one')")
    monkeypatch.chdir(tmp_path)
    with running(*inputs, "--port", "0") as (_, said):
        assert said[-1].startswith("ready:")


def test_replicas_do_not_outlive_a_scaler_that_is_killed(inputs: list[str]) -> None:
    with running(*inputs, "--port", "0") as (process, _):
        replicas = psutil.Process(process.pid).children()
        assert replicas
        process.kill()
        _, alive = psutil.wait_procs(replicas, WAIT_S)
    assert alive == []


def test_a_port_that_is_taken_is_one_line(inputs: list[str]) -> None:
    with socket.socket() as taken:
        taken.setsockopt(
            socket.SOL_SOCKET, socket.SO_REUSEPORT, 1
        )  # as a replica that was left behind has it
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = subprocess.run(
            up_command(*inputs, "--port", str(port)),
            capture_output=True,
            text=True,
            timeout=WAIT_S,
            check=False,
        )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(f"minwatt up: --port = {port}: can't be had")
    assert "Traceback" not in done.stderr


def test_a_mistake_that_every_replica_would_repeat_ends_it_with_that_line(inputs: list[str]) -> None:
    bad = [word if word != "modelled" else "replayed:/absent.csv" for word in inputs]
    done = subprocess.run(
        up_command(*bad, "--port", "0"), capture_output=True, text=True, timeout=WAIT_S, check=False
    )
    assert done.returncode == 2, done.stderr
    assert "absent.csv" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


async def test_replicas_meet_the_node_agent(inputs: list[str], tmp_path: Path) -> None:
    """Its watts are theirs: the option came through. On the stand-in for NVML."""
    inputs[inputs.index("--meter") + 1] = "agent"
    environ = nvml_stand_in.environ("nvmlDeviceGetPowerUsage 60000\n")
    with AgentProcess(tmp_path, environ=environ) as agent:
        with running(*inputs, "--port", "0", "--node-agent", str(agent.socket)):
            await until(lambda: rows(tmp_path / "record")[-1]["watts_source"] == "nvml", "the agent's watts")
        assert agent.stop() == 0


@pytest.mark.parametrize(
    ("meter", "flags", "said"),
    [
        ("agent", [], "--meter = 'agent': needs --node-agent, its socket"),
        (
            "modelled",
            ["--node-agent", "x.sock"],
            "--node-agent = 'x.sock': of no use: replicas set no clocks "
            "(provider cpu, spec.gpu.clocks off) and --meter is not agent",
        ),
    ],
)
def test_an_agent_that_no_replica_would_ask_is_one_line(
    inputs: list[str], meter: str, flags: list[str], said: str
) -> None:
    inputs[inputs.index("--meter") + 1] = meter
    command = up_command(*inputs, "--port", "0", *flags)
    done = subprocess.run(command, capture_output=True, text=True, timeout=WAIT_S, check=False)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (2, f"minwatt up: {said}")
    assert "Traceback" not in done.stderr
