"""`minwatt node-agent` as a process, on the stand-in for NVML, which keeps what is set beyond a process."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

import minwatt
from minwatt.v1.fleet_pb2 import OperatingPoint
from tests.e2e.agent_process import AgentProcess, Line
from tests.e2e.replica_process import ReplicaProcess
from tests.e2e.test_serve_fleet import Scaler, free_port
from tests.energy import nvml_stand_in
from tests.eventually import eventually, happens

CARD = "GPU-00000000-0000-0000-0000-000000000000"
SCRIPT = """memory_clocks 5001
graphics_clocks 300 900 1400
nvmlDeviceGetClockInfo 1400
nvmlDeviceGetPowerManagementLimit 350000
nvmlDeviceGetPowerManagementDefaultLimit 380000
nvmlDeviceGetPowerManagementLimitConstraints 100000/400000
nvmlDeviceGetPowerUsage 60000
compute_pids
"""
AS_ANOTHER = """
import os, socket, sys
path, uid, *groups = sys.argv[1:]
os.setgroups([int(group) for group in groups]); os.setgid(4000); os.setuid(int(uid))
agent = socket.socket(socket.AF_UNIX)
agent.connect(path)
try: agent.sendall(b'{"op": "hello"}\\n')
except OSError: pass
sys.stdout.write(agent.makefile().readline())
"""
POLICY = "apiVersion: minwatt.dev/v1alpha1\nkind: NodePolicy\n"


def environ(folder: Path, script: str = SCRIPT) -> dict[str, str]:
    files = {"FAKE_NVML_LOG": str(folder / "log"), "FAKE_NVML_STATE": str(folder / "driver")}
    return nvml_stand_in.environ(script) | files


def log(folder: Path) -> list[str]:
    """What was set. A clock that was locked anew counts once: how often depends on how long a test took."""
    path = folder / "log"
    lines = path.read_text().splitlines() if path.exists() else []
    return [line for before, line in pairwise(["", *lines]) if line != before]


def set_by_another(folder: Path, *calls: list[Any]) -> None:
    """As another process does, e.g. nvidia-smi."""
    probe = Path(nvml_stand_in.__file__).with_name("nvml_probe.py")
    command = [sys.executable, str(probe), json.dumps({"spec": "0", "calls": calls})]
    subprocess.run(command, env=environ(folder), check=True, capture_output=True, timeout=60)


async def test_killed_with_a_lease_outstanding_the_next_restores_the_card(tmp_path: Path) -> None:
    with AgentProcess(tmp_path, environ=environ(tmp_path)) as agent:
        assert agent.ready == f"ready: socket {agent.socket} · cards {CARD}\n"
        line = await Line.to(agent.socket)
        reply = await line.ask("lease", card=CARD, sm_clock_mhz=1000, power_limit_w=200, ttl_s=60)
        assert (reply["in_force_sm_clock_mhz"], reply["in_force_power_limit_w"]) == (900, 200.0)
        agent.kill()
        assert await line.ended()
        await line.close()
    assert log(tmp_path) == ["lock 900", "limit 200000"]
    with AgentProcess(tmp_path, "--log-format", "json", environ=environ(tmp_path)) as agent:
        assert log(tmp_path) == ["lock 900", "limit 200000", "reset 0", "limit 350000"]
        assert agent.stop() == 0
    assert f'"message": "{CARD}: an earlier agent left it set: it is restored"' in agent.stderr
    with AgentProcess(tmp_path, environ=environ(tmp_path)) as agent:
        assert agent.stop() == 0
    assert log(tmp_path)[4:] == [], "a card that is not in the journal is not touched"


async def test_at_sigterm_the_card_is_given_back(tmp_path: Path) -> None:
    with AgentProcess(tmp_path, environ=environ(tmp_path)) as agent:
        line = await Line.to(agent.socket)
        await line.ask("lease", card=CARD, sm_clock_mhz=1400, ttl_s=60)
        assert agent.stop() == 0
        await line.close()
    assert log(tmp_path) == ["lock 1400", "reset 0"]
    assert not agent.socket.exists()


async def test_a_card_that_is_lost_when_the_agent_stops_is_restored_by_the_next(tmp_path: Path) -> None:
    lost = SCRIPT + "nvmlDeviceResetGpuLockedClocks !15\n"
    with AgentProcess(tmp_path, environ=environ(tmp_path, lost)) as agent:
        line = await Line.to(agent.socket)
        await line.ask("lease", card=CARD, sm_clock_mhz=1400, ttl_s=60)
        assert agent.stop() == 1
        await line.close()
    assert f"{CARD}: could not be restored: it is at the next start" in agent.stderr
    with AgentProcess(tmp_path, environ=environ(tmp_path)) as agent:
        assert agent.stop() == 0
    assert log(tmp_path) == ["lock 1400", "reset 0"]


async def test_without_permission_nothing_is_set_and_the_agent_says_why(tmp_path: Path) -> None:
    refusing = SCRIPT + "nvmlDeviceSetGpuLockedClocks !4\n"
    with AgentProcess(tmp_path, environ=environ(tmp_path, refusing)) as agent:
        line = await Line.to(agent.socket)
        reply = await line.ask("lease", card=CARD, sm_clock_mhz=900, ttl_s=60)
        assert (reply["code"], reply["message"]) == ("refused", f"{CARD}: Insufficient Permissions")
        await line.close()
        agent.stop()
    assert "lock 900" not in log(tmp_path)


async def test_policy_from_a_file_and_anew_at_sighup(tmp_path: Path) -> None:
    file = tmp_path / "node-policy.yaml"
    file.write_text(f"{POLICY}allow: {{uids: [{os.getuid()}]}}\n")
    with AgentProcess(tmp_path, "--policy", str(file), environ=environ(tmp_path)) as agent:
        line = await Line.to(agent.socket)
        assert (await line.ask("hello"))["longest_ttl_s"] == 60
        file.write_text("nonsense")
        agent.reload()
        await happens(lambda: "the last good policy stays in force" in agent.stderr)
        assert (await line.ask("hello"))["longest_ttl_s"] == 60
        file.write_text(f"{POLICY}allow: {{uids: [{os.getuid() + 1}]}}\n")
        agent.reload()
        assert await line.ended()
        await line.close()

        async def denied() -> bool:
            line = await Line.to(agent.socket)
            reply = await line.hear()
            await line.close()
            return bool(reply["code"] == "denied")

        await eventually(denied)


async def test_the_slices_of_a_card_share_its_joules_by_what_they_did(tmp_path: Path) -> None:
    drawn_mj = " ".join(str(100_000 * second) for second in range(60))
    mig = "nvmlDeviceGetMigMode 1/1\nmig_multiprocessors 16 32\ngpm1 80\ngpm2 0\n"
    counting = f"{SCRIPT}{mig}nvmlDeviceGetTotalEnergyConsumption {drawn_mj}\n"
    with AgentProcess(tmp_path, environ=environ(tmp_path, counting)) as agent:
        line = await Line.to(agent.socket)
        (card,) = (await line.ask("hello"))["cards"]
        busy, idle = card["slices"]
        assert card["shared"]

        async def told() -> bool:
            replies = [await line.ask("read", card=name) for name in (busy, idle)]
            assert all(reply["source"] == "nvml-estimate" for reply in replies)
            return all(reply.get("watts") is not None for reply in replies)

        await eventually(told)
        before = [(await line.ask("read", card=name))["joules_total"] for name in (busy, idle)]

        async def went_on() -> bool:
            return bool((await line.ask("read", card=busy))["joules_total"] > before[0])

        await eventually(went_on)
        assert (await line.ask("read", card=idle))["joules_total"] == before[1], "only the busy one's grow"
        assert (await line.ask("lease", card=busy, sm_clock_mhz=900, ttl_s=9))["in_force_sm_clock_mhz"] == 900
        await line.close()
        assert agent.stop() == 0
    assert log(tmp_path) == ["lock 900", "reset 0"]


@pytest.mark.skipif(os.getuid() != 0, reason="only root may become another user")
def test_another_user_is_known_by_the_kernel_s_word() -> None:
    """By user, by a further group, by neither; what it says of itself doesn't count."""

    def hello(agent: AgentProcess, uid: int, *groups: int) -> str:
        command = [sys.executable, "-c", AS_ANOTHER, str(agent.socket), str(uid), *map(str, groups)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        reply = json.loads(done.stdout)
        return str(reply.get("message", reply["re"]))

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        file = folder / "node-policy.yaml"
        file.write_text(f"{POLICY}allow: {{uids: [4322], gids: [4242]}}\n")
        with AgentProcess(folder, "--policy", str(file), environ=environ(folder)) as agent:
            denied = "user 4321, group 4000: the node's policy allows neither"
            assert [hello(agent, 4321), hello(agent, 4321, 4444)] == [denied] * 2
            assert [hello(agent, 4321, 4444, 4242), hello(agent, 4322)] == ["hello"] * 2
            assert agent.stop() == 0
        assert agent.stderr.count("denied: user 4321, group 4000") == 1


async def test_a_node_without_a_gpu_idles_and_is_ready(tmp_path: Path) -> None:
    with AgentProcess(tmp_path, "--metrics-port", "0", environ=environ(tmp_path, "nvmlInit !9")) as agent:
        assert "this node has no GPU that can be set: Driver Not Loaded" in agent.ready
        url = agent.ready.rstrip().rpartition(" ")[2]
        page = await asyncio.to_thread(lambda: urlopen(url).read().decode())
        assert "minwatt_agent_cards 0.0" in page
        assert agent.stop() == 0


async def test_what_others_change_during_a_lease_is_set_anew_and_told(tmp_path: Path) -> None:
    with AgentProcess(tmp_path, "--metrics-port", "0", environ=environ(tmp_path)) as agent:
        line = await Line.to(agent.socket)
        await line.ask("lease", card=CARD, sm_clock_mhz=900, power_limit_w=200, ttl_s=60)
        set_by_another(tmp_path, ["reset_clocks"], ["set_power_limit_w", 400])
        assert log(tmp_path)[2:] == ["reset 0", "limit 400000"]
        await happens(lambda: log(tmp_path)[4:] == ["lock 900", "limit 200000"])
        await happens(lambda: "changed by others" in agent.stderr)
        url = agent.ready.rstrip().rpartition(" ")[2]
        page = await asyncio.to_thread(lambda: urlopen(url).read().decode())
        assert "minwatt_agent_settings_changed_by_others_total 2.0" in page
        await line.close()
        assert agent.stop() == 0
    said = "clock: locked to 900 MHz, is 1400, power limit: set to 200 W, is 400; set anew"
    assert agent.stderr.count(f"{CARD}: changed by others: {said}") == 1
    assert log(tmp_path)[6:] == ["reset 0", "limit 350000"]


async def test_a_torn_journal_is_kept_aside_and_the_cards_restored(tmp_path: Path) -> None:
    with AgentProcess(tmp_path, environ=environ(tmp_path)) as agent:
        line = await Line.to(agent.socket)
        await line.ask("lease", card=CARD, sm_clock_mhz=900, power_limit_w=200, ttl_s=60)
        agent.kill()
        await line.close()
    journal = agent.state / "journal.json"
    torn = journal.read_bytes()[:40]
    journal.write_bytes(torn)
    with AgentProcess(tmp_path, environ=environ(tmp_path)) as agent:
        assert log(tmp_path)[2:] == ["reset 0", "limit 380000"]
        assert agent.stop() == 0
    aside = agent.state / "journal.json.unreadable"
    assert f"kept as {aside}; every card is restored to its default" in agent.stderr
    assert aside.read_bytes() == torn
    with AgentProcess(tmp_path, environ=environ(tmp_path)) as agent:
        assert agent.stop() == 0
    assert log(tmp_path)[4:] == []


def test_two_agents_do_not_share_a_node_s_journal_and_mistakes_are_one_line(tmp_path: Path) -> None:
    def run(*flags: str) -> tuple[int, str]:
        command = [sys.executable, "-m", "minwatt", "node-agent", *flags]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environ(tmp_path))
        return done.returncode, done.stderr

    with AgentProcess(tmp_path, environ=environ(tmp_path)) as agent:
        code, said = run("--state-dir", str(agent.state), "--socket", str(tmp_path / "other.sock"))
        assert (code, said.count("\n")) == (2, 1)
        assert "another node agent has it" in said
        code, said = run("--state-dir", str(tmp_path / "other"), "--socket", str(agent.socket))
        assert (code, said) == (
            2,
            f"minwatt node-agent: socket = {agent.socket}: another node agent listens there\n",
        )
        assert agent.socket.exists()
        agent.kill()
    with AgentProcess(tmp_path, environ=environ(tmp_path)) as agent:
        assert agent.stop() == 0, "the place of one that was killed is free at once"
    too_long = tmp_path / ("x" * 120)
    no_socket = tmp_path / "file"
    no_socket.write_text("mine")
    for path, why in ((too_long, "allowed: at most 107 bytes"), (no_socket, "is there and is no socket")):
        code, said = run("--state-dir", str(tmp_path / "state"), "--socket", str(path))
        assert (code, said) == (2, f"minwatt node-agent: socket = {path}: {why}\n")
    assert no_socket.read_text() == "mine"


async def test_a_replica_follows_its_point_through_the_agent_and_serves_on_without_it(
    tiny_model: Path, tmp_path: Path
) -> None:
    """Clock and watts; the agent killed in between, and back."""
    port = free_port()
    scaler = Scaler(OperatingPoint(version=1, sm_clock_mhz=850, reflex_sm_clock_mhz=1400))
    server = await scaler.listen(port)
    agent = AgentProcess(tmp_path, environ=environ(tmp_path))
    with agent:
        process = ReplicaProcess(
            *(tiny_model, "--scaler", f"127.0.0.1:{port}", "--gpu-clocks", "--meter", "agent"),
            *("--node-agent", str(agent.socket), "--node", "node-7"),
        )
        await asyncio.to_thread(process.ready)
        assert process.watts == "nvml"
        await scaler.until(lambda: any(r.sm_clock_mhz == 900 for r in scaler.reports))
        assert (scaler.reports[-1].host, scaler.reports[-1].power.device) == ("node-7", CARD)
        agent.kill()
    with process as replica:
        await scaler.until(lambda: "node agent" in scaler.reports[-1].sm_clock_refused)
        await scaler.until(lambda: "node agent" in scaler.reports[-1].power.unknown_reason)
        assert scaler.reports[-1].sm_clock_mhz == 0
        async with minwatt.AsyncClient(replica.target) as client:
            assert await client.classify(["hello"])
        with AgentProcess(tmp_path, environ=environ(tmp_path)) as agent:
            await scaler.until(lambda: scaler.reports[-1].sm_clock_mhz == 900)
            await scaler.until(lambda: scaler.reports[-1].power.source == "nvml")
            assert scaler.reports[-1].sm_clock_refused == ""
            replica.terminate()
            assert await asyncio.to_thread(replica.wait) == 0
            await happens(lambda: log(tmp_path)[-1] == "reset 0")
            assert agent.stop() == 0
    await server.stop(None)
    assert log(tmp_path) == ["lock 900", "reset 0", "lock 900", "reset 0"]
