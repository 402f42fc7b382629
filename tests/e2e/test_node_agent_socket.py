"""The agent's socket, in this process on cards in memory: who may ask, what is said, what ends a lease."""

from __future__ import annotations

import asyncio
import json
import os
import random
from pathlib import Path

import pytest

from energy.gpu import GpuError, GpuGone, Refused
from minwatt.v1.errors import UsageError
from minwatt.v1.node_agent import MOST_REQUEST_BYTES
from nodeagent import cards
from nodeagent.metrics import Metrics
from nodeagent.server import Limits
from tests.e2e.agent_process import Line, listening, own_user
from tests.eventually import happens
from tests.nodeagent.in_memory import FIRST, SECOND, Card, Machine, Slice, policy

SHARED = own_user(default={"shared": True, "bystanders": "ignore"})


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cards, "LOOK_S", 0.01)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "agent.sock"


async def test_a_lease_from_hello_to_its_release(path: Path) -> None:
    card = Card(FIRST)
    async with listening(path, Machine(card), own_user(maxTtl="30s", default={"smClock": {"maxMHz": 1300}})):
        line = await Line.to(path)
        hello = await line.ask("hello", v=1)
        assert hello.pop("you").startswith(("pid:", "pod:"))
        assert hello == {
            "re": "hello",
            "v": 1,
            "longest_ttl_s": 30.0,
            "cards": [
                {
                    "card": FIRST,
                    "name": "In memory",
                    "shared": False,
                    "slices": [],
                    "sm_clock_mhz": [300, 1200],
                    "power_limit_w": [100.0, 400.0],
                }
            ],
        }
        granted = {
            "re": "lease",
            "granted_sm_clock_mhz": 900,
            "in_force_sm_clock_mhz": 900,
            "ttl_s": 30,
            "why": "",
        }
        assert await line.ask("lease", card=FIRST, sm_clock_mhz=1000, ttl_s=100) == granted
        assert card.clock_mhz == 900
        assert await line.ask("renew", card=FIRST, ttl_s=10) == granted | {"ttl_s": 10}
        both = await line.ask("lease", card=FIRST, sm_clock_mhz=9999, power_limit_w=250, ttl_s=10)
        assert (both["in_force_sm_clock_mhz"], both["in_force_power_limit_w"]) == (1200, 250.0)
        assert (card.clock_mhz, card.limit_w) == (1200, 250.0)
        assert await line.ask("release", card=FIRST) == {"re": "release", "held": True}
        assert (card.clock_mhz, card.limit_w) == (None, 300.0)
        assert await line.ask("release", card=FIRST) == {"re": "release", "held": False}
        assert (await line.ask("renew", card=FIRST, ttl_s=10))["code"] == "no_lease"
        await line.close()
    assert card.opened == 0
    await happens(lambda: not path.exists())


async def test_a_lease_ends_with_its_connection_and_when_it_runs_out(path: Path) -> None:
    card, other = Card(FIRST), Card(SECOND)
    async with listening(path, Machine(card, other)):
        gone, hung = await Line.to(path), await Line.to(path)
        await gone.ask("lease", card=FIRST, sm_clock_mhz=900, ttl_s=1000)
        await hung.ask("lease", card=SECOND, sm_clock_mhz=900, ttl_s=1)
        assert (card.clock_mhz, other.clock_mhz) == (900, 900)
        await gone.close()
        await happens(lambda: card.clock_mhz is None)
        await happens(lambda: other.clock_mhz is None)
        assert (await hung.ask("renew", card=SECOND, ttl_s=1))["code"] == "no_lease"
        await hung.close()


async def test_of_two_leases_the_higher_is_in_force_and_both_are_told(path: Path) -> None:
    card = Card(FIRST)
    async with listening(path, Machine(card), SHARED):
        slow, fast = await Line.to(path), await Line.to(path)
        await slow.ask("lease", card=FIRST, sm_clock_mhz=600, ttl_s=60)
        await fast.ask("lease", card=FIRST, sm_clock_mhz=1200, ttl_s=60)
        told = await slow.ask("renew", card=FIRST, ttl_s=60)
        assert (told["granted_sm_clock_mhz"], told["in_force_sm_clock_mhz"]) == (600, 1200)
        assert told["why"] == "another lease of the card asks for more"
        await fast.close()
        await happens(lambda: card.clock_mhz == 600)
        await slow.close()


async def test_who_computes_without_a_lease_is_not_slowed(path: Path) -> None:
    card = Card(FIRST, pids=frozenset({os.getpid()}))
    async with listening(path, Machine(card)):
        line = await Line.to(path)
        assert (await line.ask("lease", card=FIRST, sm_clock_mhz=600, ttl_s=60))["why"] == ""
        card.pids = frozenset({os.getpid(), 1})
        await happens(lambda: card.clock_mhz is None)
        told = await line.ask("renew", card=FIRST, ttl_s=60)
        assert "in_force_sm_clock_mhz" not in told
        assert (
            told["why"] == "someone computes on the card who holds no lease of it: it is left at its default"
        )
        card.pids = frozenset({os.getpid()})
        await happens(lambda: card.clock_mhz == 600)
        await line.close()


async def test_who_is_not_allowed_is_told_so_and_nothing_else(path: Path) -> None:
    card = Card(FIRST)
    async with listening(path, Machine(card), policy(allow={"uids": [os.getuid() + 1]})) as server:
        line = await Line.to(path)
        denied = await line.hear()
        assert denied["code"] == "denied"
        assert f"user {os.getuid()}" in denied["message"]
        assert await line.ended()
        await line.close()
        assert server.connections == 0
    async with listening(path, Machine(card), policy(allow={"gids": [os.getgid()]})):
        line = await Line.to(path)
        assert (await line.ask("hello"))["re"] == "hello"
        await line.close()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"\n", "not one JSON object"),
        (b"GET / HTTP/1.1\r\n", "not one JSON object"),
        (b"\xff\xfe\x00\n", "not one JSON object"),
        (b"[1]\n", "not one JSON object"),
        (b"[" * 2000 + b"\n", "not one JSON object"),
        (b'{"op": "reboot"}\n', "does not match any of the expected tags"),
        (b'{"op": "hello", "v": 2}\n', "v = '2': allowed: 1"),
        (b'{"op": "hello", "op": "hello"}\n', "a field is there twice"),
        (b'{"op": "hello", "extra": 1}\n', "extra: Extra inputs are not permitted"),
        (b'{"op": "release", "card": "../../etc"}\n', "card = '../../etc': String should match pattern"),
        (b'{"op": "renew", "card": "GPU-1", "ttl_s": NaN}\n', "NaN is not a number"),
        (b'{"op": "renew", "card": "GPU-1", "ttl_s": 1e999}\n', "finite number"),
        (b'{"op": "renew", "card": "GPU-1", "ttl_s": 0}\n', "greater than or equal to 1"),
        (b'{"op": "renew", "card": "GPU-1", "ttl_s": "9"}\n', "valid number"),
        (b'{"op": "lease", "card": "GPU-1", "ttl_s": 9}\n', "at least one is needed"),
        (b'{"op": "lease", "card": "GPU-1", "ttl_s": 9, "sm_clock_mhz": 900.5}\n', "valid integer"),
        (b'{"op": "lease", "card": "GPU-1", "ttl_s": 9, "sm_clock_mhz": true}\n', "valid integer"),
        (b'{"op": "lease", "card": "GPU-1", "ttl_s": 9, "power_limit_w": -1}\n', "greater than 0"),
    ],
)
async def test_garbage_gets_a_line_and_the_next_line_is_heard(path: Path, line: bytes, said: str) -> None:
    card = Card(FIRST)
    async with listening(path, Machine(card)):
        client = await Line.to(path)
        reply = await client.say(line)
        assert (reply["re"], reply["code"]) == ("error", "invalid")
        assert said in reply["message"]
        assert len(reply["message"]) < 300
        assert (await client.ask("hello"))["re"] == "hello"
        await client.close()
    assert card.sets == 0


async def test_a_line_without_an_end_is_not_waited_for(path: Path) -> None:
    async with listening(path, Machine(Card(FIRST)), limits=Limits(idle_s=0.05)):
        endless, silent, half = [await Line.to(path) for _ in range(3)]
        reply = await endless.say(b"x" * (MOST_REQUEST_BYTES + 10))
        assert reply["message"] == f"line: longer than {MOST_REQUEST_BYTES} bytes"
        half.writer.write(b'{"op":')
        assert all([await line.ended() for line in (endless, silent, half)])
        for line in (endless, silent, half):
            await line.close()


async def test_random_bytes_set_nothing_and_break_nothing(path: Path) -> None:
    card, chance = Card(FIRST), random.Random(7)
    whole = json.dumps({"op": "lease", "card": FIRST, "sm_clock_mhz": 900, "ttl_s": 9}).encode()
    async with listening(path, Machine(card)) as server:
        for _ in range(50):
            line = await Line.to(path)
            broken = bytearray(whole)
            for _ in range(chance.randint(1, 4)):
                broken[chance.randrange(len(broken))] = chance.randrange(256)
            line.writer.write(bytes(broken) + b"\n" + chance.randbytes(chance.randrange(200)))
            line.writer.write_eof()
            async with asyncio.timeout(10):
                replies = [json.loads(reply) for reply in (await line.reader.read()).splitlines()]
            assert all(reply["re"] in {"error", "lease"} for reply in replies)
            await line.close()
        await happens(lambda: server.connections == 0)
        await happens(lambda: card.clock_mhz is None)
        line = await Line.to(path)
        assert (await line.ask("hello"))["re"] == "hello"
        await line.close()


async def test_connections_are_bounded_and_a_flood_passes(path: Path) -> None:
    async with listening(
        path, Machine(Card(FIRST)), limits=Limits(connections=20, owner_connections=8)
    ) as server:
        held = [await Line.to(path) for _ in range(8)]
        for line in held:
            assert (await line.ask("hello"))["re"] == "hello"
        for _ in range(10):
            flood = [await Line.to(path) for _ in range(100)]
            replies = [await line.hear() for line in flood]
            assert {reply["code"] for reply in replies} == {"busy"}
            for line in flood:
                await line.close()
        assert server.connections == 8
        assert (await held[0].ask("hello"))["re"] == "hello", "who was there is served"
        for line in held:
            await line.close()
        await happens(lambda: server.connections == 0)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Refused("Insufficient Permissions"), "refused"),
        (GpuGone("GPU is lost"), "unavailable"),
        (GpuError("Timeout"), "unavailable"),
    ],
)
async def test_what_the_driver_refuses_is_told_and_not_held(path: Path, error: GpuError, code: str) -> None:
    card = Card(FIRST)

    def refuse(what: str) -> None:
        if what == "lock" and card.error is None:
            raise error

    async with listening(path, Machine(card)):
        line = await Line.to(path)
        card.about_to = refuse
        reply = await line.ask("lease", card=FIRST, sm_clock_mhz=900, ttl_s=60)
        assert (reply["code"], reply["message"]) == (code, f"{FIRST}: {error}")
        assert (await line.ask("renew", card=FIRST, ttl_s=60))["code"] == "no_lease"
        card.about_to = lambda what: None
        assert (await line.ask("lease", card=FIRST, sm_clock_mhz=900, ttl_s=60))["re"] == "lease"
        await line.close()


async def test_a_new_policy_ends_what_was_leased_under_the_one_before(path: Path) -> None:
    card = Card(FIRST)
    async with listening(path, Machine(card)) as server:
        line = await Line.to(path)
        await line.ask("lease", card=FIRST, sm_clock_mhz=300, ttl_s=60)
        await server.follow(own_user(default={"smClock": {"minMHz": 900}}))
        assert await line.ended()
        assert card.clock_mhz is None
        await line.close()
        line = await Line.to(path)
        assert (await line.ask("lease", card=FIRST, sm_clock_mhz=300, ttl_s=60))[
            "granted_sm_clock_mhz"
        ] == 900
        await line.close()


async def test_a_node_without_a_card_says_so(path: Path) -> None:
    async with listening(path, Machine()):
        line = await Line.to(path)
        assert (await line.ask("hello"))["cards"] == []
        reply = await line.ask("lease", card=FIRST, sm_clock_mhz=900, ttl_s=60)
        assert reply["code"] == "no_card"
        assert reply["message"].endswith("not here; allowed: this node has no GPU")
        await line.close()


async def test_a_slice_s_lease_is_the_card_s_and_its_watts_are_a_share(path: Path) -> None:
    slices = (Slice("MIG-a", 1, 16), Slice("MIG-b", 2, 32))
    card = Card(FIRST, slices=slices)
    async with listening(path, Machine(card)):
        line = await Line.to(path)
        assert (await line.ask("hello"))["cards"][0]["slices"] == ["MIG-a", "MIG-b"]
        assert (await line.ask("lease", card="MIG-a", sm_clock_mhz=900, ttl_s=60))[
            "in_force_sm_clock_mhz"
        ] == 900
        told = await line.ask("read", card="MIG-b")
        assert (told["source"], told["device"]) == ("nvml-estimate", "MIG-b")
        assert (await line.ask("read", card=FIRST))["message"].endswith(
            "MIG splits it; allowed: MIG-a, MIG-b"
        )
        await line.close()


async def test_metrics_say_what_is_held_and_drawn(path: Path) -> None:
    card = Card(FIRST)
    async with listening(path, Machine(card)) as server:
        line = await Line.to(path)
        await line.ask("lease", card=FIRST, sm_clock_mhz=900, power_limit_w=200, ttl_s=60)
        await line.ask("nonsense")
        metrics = Metrics(server)
        with pytest.raises(UsageError, match=r"host = a\.\.b: allowed: a host's name or address"):
            metrics.serve("a..b", 0)
        await happens(
            lambda: _sample(metrics, "minwatt_agent_power_watts", card=FIRST, source="nvml") == 50.0
        )
        told = {
            "minwatt_agent_leases": 1,
            "minwatt_agent_sm_clock_locked_hertz": 9e8,
            "minwatt_agent_power_limit_set_watts": 200,
            "minwatt_agent_card_unsettled": 0,
        }
        assert {name: _sample(metrics, name, card=FIRST) for name in told} == told
        assert _sample(metrics, "minwatt_agent_requests_total", op="lease", outcome="ok") == 1
        assert _sample(metrics, "minwatt_agent_requests_total", op="line", outcome="invalid") == 1
        assert _sample(metrics, "minwatt_agent_leases_granted_total") == 1
        await line.close()
        await happens(lambda: _sample(metrics, "minwatt_agent_restores_total") == 1)
        assert _sample(metrics, "minwatt_agent_sm_clock_locked_hertz", card=FIRST) is None


def _sample(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)
