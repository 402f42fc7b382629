"""The replica's connection to the agent: leased, renewed, given back; the agent gone and back."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

from energy.gpu import GpuError
from energy.reading import Reading, Unknown
from minwatt.v1.node_agent import MOST_REPLY_BYTES
from nodeagent import cards
from nodeagent.server import Limits
from service import agent_connection, clocks
from service.agent_connection import AgentConnection, AgentGone, Whereabouts
from service.clocks import CardClock
from service.node_agent import AgentClocks, AgentMeter
from tests.e2e.agent_process import Line, listening, own_user
from tests.eventually import happens
from tests.nodeagent.in_memory import FIRST, Card, Machine, policy

T = TypeVar("T")


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_connection, "FIRST_WAIT_S", 0.0)
    monkeypatch.setattr(clocks, "RETRY_S", 0.01)
    monkeypatch.setattr(cards, "LOOK_S", 0.01)


def agent_at(path: Path) -> AgentConnection:
    return AgentConnection(Whereabouts(path, {}, lambda index: None))


async def of_thread(call: Callable[[], T]) -> T:
    return await asyncio.to_thread(call)


async def test_a_clock_is_leased_renewed_and_given_back(tmp_path: Path) -> None:
    card, path = Card(FIRST), tmp_path / "agent.sock"
    async with listening(path, Machine(card), own_user(maxTtl="6s")) as server:
        control = AgentClocks(agent_at(path))
        assert await of_thread(lambda: control.lock(1000)) == 900
        assert control.renew_s == 2.0
        assert await of_thread(lambda: control.lock(1000)) == 900
        assert await of_thread(lambda: control.lock(1400)) == 1500
        assert server.counts["lease ok"] == 2
        assert server.counts["renew ok"] == 1
        await of_thread(control.restore)
        assert card.clock_mhz is None
        assert await of_thread(lambda: control.lock(300)) == 300
        control.close()
        await happens(lambda: card.clock_mhz is None)
        with pytest.raises(GpuError, match="closed"):
            control.lock(300)


async def test_a_lease_that_ran_out_is_taken_again(tmp_path: Path) -> None:
    card, path = Card(FIRST), tmp_path / "agent.sock"
    async with listening(path, Machine(card)) as server:
        control = AgentClocks(agent_at(path))
        await of_thread(lambda: control.lock(900))
        server.keeper.leases = server.keeper.leases.at(float("inf"))
        assert await of_thread(lambda: control.lock(900)) == 900
        assert server.counts["renew no_lease"] == 1
        control.close()


async def test_who_was_let_go_for_being_silent_comes_back_at_once(tmp_path: Path) -> None:
    card, path = Card(FIRST), tmp_path / "agent.sock"
    async with listening(path, Machine(card), limits=Limits(idle_s=0.05)) as server:
        control = AgentClocks(agent_at(path))
        for clock_mhz in (600, 900):
            assert await of_thread(lambda: control.lock(clock_mhz)) == clock_mhz  # noqa: B023
            await happens(lambda: server.connections == 0)
        assert server.counts["accepted"] == 2
        control.close()


async def test_the_reflex_is_seen_through_and_the_agent_s_absence_told(tmp_path: Path) -> None:
    """The clock beside the event loop, on an agent that goes and comes."""
    card, path = Card(FIRST), tmp_path / "agent.sock"
    clock = CardClock(AgentClocks(agent_at(path)))
    task = asyncio.create_task(clock.run())
    clock.ask(600)
    await happens(lambda: "No such file" in clock.refused)
    for _ in range(2):
        async with listening(path, Machine(card)):
            await happens(lambda: clock.in_force_mhz == 600 and not clock.refused)
            clock.ask(1500)
            await happens(lambda: clock.in_force_mhz == 1500)
            clock.ask(600)
            await happens(lambda: clock.in_force_mhz == 600)
        assert card.clock_mhz is None
        clock.ask(900)
        await happens(lambda: f"node agent {path}: " in clock.refused)
        assert clock.in_force_mhz == 0
        clock.ask(600)
    task.cancel()
    await asyncio.wait({task})
    clock.close()


async def test_another_s_faster_clock_is_told_with_the_renewal(tmp_path: Path) -> None:
    card, path = Card(FIRST), tmp_path / "agent.sock"
    async with listening(path, Machine(card)):
        control, other = AgentClocks(agent_at(path)), await Line.to(path)
        assert await of_thread(lambda: control.lock(600)) == 600
        await other.ask("lease", card=FIRST, sm_clock_mhz=1500, ttl_s=60)
        assert await of_thread(lambda: control.lock(600)) == 1500
        await other.close()
        control.close()


async def test_a_card_left_alone_for_another_is_told_as_such(tmp_path: Path) -> None:
    card, path = Card(FIRST), tmp_path / "agent.sock"
    async with listening(path, Machine(card)):
        clock = CardClock(AgentClocks(agent_at(path)))
        task = asyncio.create_task(clock.run())
        clock.ask(600)
        await happens(lambda: clock.in_force_mhz == 600)
        card.pids = frozenset({1})
        await happens(lambda: card.clock_mhz is None)
        clock.ask(900)
        await happens(lambda: "someone computes on the card who holds no lease" in clock.refused)
        assert clock.in_force_mhz == 0
        card.pids = frozenset()
        await happens(lambda: clock.in_force_mhz == 900 and not clock.refused)
        task.cancel()
        await asyncio.wait({task})
        clock.close()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"allow": {"uids": [os.getuid() + 1]}}, "the node's policy allows neither"),
        ({"allow": {"uids": [os.getuid()]}, "default": {"may": ["powerLimit"]}}, "lets nobody set clocks"),
    ],
)
async def test_a_refusal_is_a_reason_not_an_end(tmp_path: Path, fields: dict[str, object], said: str) -> None:
    path = tmp_path / "agent.sock"
    async with listening(path, Machine(Card(FIRST)), policy(**fields)):
        control = AgentClocks(agent_at(path))
        with pytest.raises(GpuError, match=said):
            await of_thread(lambda: control.lock(600))
        control.close()


async def test_watts_come_through_the_agent(tmp_path: Path) -> None:
    card, path = Card(FIRST, joules=500.0), tmp_path / "agent.sock"
    async with listening(path, Machine(card)):
        meter = await of_thread(lambda: AgentMeter(agent_at(path)))
        assert (meter.opening_j, meter.device, meter.source) == (500.0, FIRST, "nvml")
        reading = await of_thread(meter.read)
        assert isinstance(reading, Reading)
        assert (reading.joules_total, reading.watts) == (500.0, 50.0)
    gone = await of_thread(meter.read)
    assert isinstance(gone, Unknown)
    assert "node agent" in gone.reason
    async with listening(path, Machine(card)):
        assert isinstance(await of_thread(meter.read), Reading)
    meter.close()


@pytest.mark.parametrize(
    "answer",
    [b"", b"hello\n", b'{"re":"read"}\n', b"x" * (MOST_REPLY_BYTES + 1), b'{"re":"release","held":true}\n'],
    ids=["hangs up", "no JSON", "half a reply", "no end", "another reply"],
)
def test_an_agent_that_makes_no_sense_is_as_one_that_is_gone(tmp_path: Path, answer: bytes) -> None:
    path = tmp_path / "agent.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError):
                connection.recv(1000)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        control = AgentClocks(agent_at(path))
        with pytest.raises(AgentGone, match="node agent"):
            control.lock(600)
        thread.join()
        control.close()


def test_tries_come_with_growing_waits_between(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_connection, "FIRST_WAIT_S", 0.5)
    now_s, tried = 0.0, []
    path = tmp_path / "none.sock"
    connect = socket.socket.connect

    class Tried(socket.socket):
        def connect(self, address: object) -> None:
            tried.append(now_s)
            connect(self, address)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "socket", Tried)
    control = AgentClocks(AgentConnection(Whereabouts(path, {}, lambda index: None, lambda: now_s)))
    for step in range(1000):
        now_s = step / 10
        with pytest.raises(AgentGone, match="No such file"):
            control.lock(600)
    assert tried == [0.0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5, 61.5, 91.5]
    control.close()
