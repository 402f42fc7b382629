"""What every hub and its fleets keep, whatever carries the messages; the replicas' own links are part of it.

The Redis one meets a real `redis-server`. What only one of them can do is at the end, or in test_fleet_redis.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator

import pytest

from minwatt.v1 import fleet_pb2
from minwatt.v1.errors import UsageError
from minwatt.v1.fleet_keys import DEFAULT_FLEET
from minwatt.v1.redis_address import parse_redis_url
from scaler import redis_line
from scaler.bus import FleetBus, Hub
from scaler.embedded_bus import EmbeddedHub
from scaler.redis_bus import RedisHub
from scaler.report import Metered, ReplicaState, Report, Unmetered
from service import fleet_redis
from service.fleet import AwayError, Link
from service.fleet_grpc import GrpcLink
from service.fleet_redis import RedisLink
from tests.contract.fleet_replica import WAIT_S, Join, Replica, point, report, until
from tests.eventually import eventually
from tests.redis_server import RedisServer


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(params=["embedded", "redis"])
async def hub(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Hub]:
    made: Hub
    if request.param == "redis":
        monkeypatch.setattr(redis_line, "PATIENCE_S", WAIT_S)
        monkeypatch.setattr(fleet_redis, "PATIENCE_S", WAIT_S)
        server: RedisServer = request.getfixturevalue("redis_server")
        server.command(b"FLUSHALL")
        made = RedisHub(parse_redis_url(server.url, "test"))
    else:
        made = await EmbeddedHub.listen()
    yield made
    await made.close()


@pytest.fixture
def bus(hub: Hub) -> FleetBus:
    return hub.fleet(DEFAULT_FLEET)


def link_to(hub: Hub, fleet: str) -> Link:
    if isinstance(hub, RedisHub):
        return RedisLink(parse_redis_url(hub.address, "test"), fleet)
    return GrpcLink(hub.address)


@pytest.fixture
async def join(hub: Hub) -> AsyncIterator[Join]:
    joined: list[Replica] = []

    async def one(fleet: str = DEFAULT_FLEET) -> Replica:
        joined.append(await Replica.joined(link_to(hub, fleet)))
        return joined[-1]

    yield one
    for replica in joined:
        await replica.leave()


async def test_each_report_is_handed_out_once_in_order(bus: FleetBus, join: Join) -> None:
    replica = await join()
    for sequence in range(20):
        await replica.say(report(arrivals_total=sequence, sequence=sequence))
    heard = await until(bus, lambda members, reports: len(reports) >= 20)
    assert [one.arrivals_total for one in heard] == list(range(20))
    assert (await bus.collect()).reports == ()


async def test_looks_between_reports_lose_and_double_none(bus: FleetBus, join: Join) -> None:
    replicas = {name: await join() for name in "abc"}
    heard: list[Report] = []
    for sequence in range(1, 21):
        for name, replica in replicas.items():
            if sequence % (1 + "abc".index(name)) == 0:
                await replica.say(report(name, arrivals_total=sequence, sequence=sequence))
        heard.extend((await bus.collect()).reports)
    heard += await until(bus, lambda members, reports: len(heard) + len(reports) >= 20 + 10 + 6)
    for step, name in enumerate("abc", start=1):
        assert [r.arrivals_total for r in heard if r.replica_id == name] == list(range(step, 21, step))


async def test_a_point_reaches_members_and_whoever_joins_later(bus: FleetBus, join: Join) -> None:
    early = await join()
    await early.say(report("early"))
    await until(bus, lambda members, reports: "early" in members)
    await bus.publish(point(7))
    assert await early.hear() == 7
    late = await join()
    await late.say(report("late"))
    assert await late.hear() == 7
    await bus.publish(point(8))
    assert (await early.hear(), await late.hear()) == (8, 8)
    assert (await bus.collect()).told_version == 8


async def test_an_older_version_never_replaces_a_newer_one(bus: FleetBus, join: Join) -> None:
    await bus.publish(point(7))
    await bus.publish(point(6))
    replica = await join()
    await replica.say(report())
    assert await replica.hear() == 7
    await bus.publish(point(6))
    await bus.publish(point(8))
    assert await replica.hear() == 8


async def test_a_last_report_still_counts_and_its_replica_is_gone_at_once(bus: FleetBus, join: Join) -> None:
    staying, leaving = await join(), await join()
    await staying.say(report("staying"))
    await leaving.say(report("leaving", completions_total=5))
    await until(bus, lambda members, reports: members == {"staying", "leaving"})
    await leaving.say(report("leaving", completions_total=9), last=True)
    heard = await until(bus, lambda members, reports: members == {"staying"})
    assert [one.completions_total for one in heard if one.replica_id == "leaving"] == [9]


async def test_a_replica_that_joins_again_is_one_member(bus: FleetBus, join: Join) -> None:
    first, second = await join(), await join()
    await first.say(report("a"))
    await until(bus, lambda members, reports: members == {"a"})
    await second.say(report("a"))
    await until(bus, lambda members, reports: len(reports) >= 1)
    await first.leave()
    await bus.publish(point(1))
    assert await second.hear() == 1
    assert (await bus.collect()).members == {"a"}


async def test_a_name_that_is_used_again_is_a_member_again(bus: FleetBus, join: Join) -> None:
    first = await join()
    await first.say(report("a", sequence=40), last=True)
    await until(bus, lambda members, reports: len(reports) == 1 and not members)
    await first.leave()
    second = await join()
    await second.say(report("a", sequence=1, arrivals_total=3))
    (heard,) = await until(bus, lambda members, reports: members == {"a"} and len(reports) == 1)
    assert heard.arrivals_total == 3
    await bus.publish(point(2))
    assert await second.hear() == 2


MALFORMED = [
    (fleet_pb2.ReplicaReport(state=fleet_pb2.REPLICA_STATE_READY), "replica_id"),
    (fleet_pb2.ReplicaReport(replica_id="x"), "state = 0"),
    (report(busy_seconds_total=float("nan")), "busy_seconds_total"),
    (report(start_up_seconds=1e300), "start_up_seconds"),
    (report(reflex_seconds_total=-1), "reflex_seconds_total"),
    (report(operating_point_version=2**64 - 1), "operating_point_version"),
    (report(fleet="{other}"), "fleet = '{other}'"),
]


@pytest.mark.parametrize(("message", "named"), MALFORMED, ids=[named for _, named in MALFORMED])
async def test_a_report_that_can_not_be_meant_is_not_handed_out(
    hub: Hub,
    bus: FleetBus,
    join: Join,
    caplog: pytest.LogCaptureFixture,
    message: fleet_pb2.ReplicaReport,
    named: str,
) -> None:
    bad, good = await join(), await join()
    await bad.say(message)
    await good.say(report("good"))
    heard = await until(bus, lambda members, reports: "good" in members)
    assert [one.replica_id for one in heard] == ["good"]
    assert (await bus.collect()).members == {"good"}
    if isinstance(hub, RedisHub):
        assert named in caplog.text
    else:
        with pytest.raises(AwayError, match=f"INVALID_ARGUMENT: .*{re.escape(named)}"):
            await say_and_wait(link_to(hub, DEFAULT_FLEET), message)


async def test_a_report_as_long_as_none_is_not_read(hub: Hub, bus: FleetBus, join: Join) -> None:
    bad, good = await join(), await join()
    await bad.say(report("bad", address="x" * 70_000))
    await good.say(report("good"))
    heard = await until(bus, lambda members, reports: "good" in members)
    assert [one.replica_id for one in heard] == ["good"]


async def say_and_wait(link: Link, message: fleet_pb2.ReplicaReport) -> None:
    async with link.open() as session, asyncio.timeout(WAIT_S):
        await session.send(message, last=False)
        async for _ in session.points():
            raise AssertionError("it was told an operating point")


async def test_what_is_missing_stays_missing(bus: FleetBus, join: Join) -> None:
    replica = await join()
    await replica.say(
        fleet_pb2.ReplicaReport(
            replica_id="a",
            state=fleet_pb2.REPLICA_STATE_STARTING,
            power=fleet_pb2.Power(source="unknown", unknown_reason="no permission"),
        )
    )
    await replica.say(
        report(power=fleet_pb2.Power(source="modelled", device="process:1", watts=float("nan")))
    )
    starting, ready = await until(bus, lambda members, reports: len(reports) == 2)
    assert starting.state is ReplicaState.STARTING
    assert starting.start_up_s is None
    assert starting.power == Unmetered("no permission")
    assert ready.power == Metered("modelled", "process:1", joules_total=None, watts=None)


async def test_fleets_of_one_hub_hear_and_are_told_apart(hub: Hub, join: Join) -> None:
    shop, search = hub.fleet("shop/text"), hub.fleet("search/text")
    first, second = await join("shop/text"), await join("search/text")
    await first.say(report("a", fleet="shop/text"))
    await second.say(report("a", fleet="search/text", arrivals_total=5))
    (of_shop,) = await until(shop, lambda members, reports: bool(reports))
    (of_search,) = await until(search, lambda members, reports: bool(reports))
    assert (of_shop.arrivals_total, of_search.arrivals_total) == (0, 5)
    await shop.publish(point(3))
    await search.publish(point(9))
    assert (await first.hear(), await second.hear()) == (3, 9)
    assert hub.fleet("shop/text") is shop


async def test_a_report_for_another_fleet_is_not_handed_out(hub: Hub, join: Join) -> None:
    shop, search = hub.fleet("shop/text"), hub.fleet("search/text")
    replica, other = await join("shop/text"), await join("shop/text")
    await replica.say(report("a", fleet="shop/text"))
    await until(shop, lambda members, reports: bool(reports))
    await replica.say(report("a", fleet="search/text"))
    await other.say(report("b", fleet="shop/text"))
    await until(shop, lambda members, reports: [r.replica_id for r in reports] == ["b"])
    assert (await search.collect()).members == frozenset()


async def test_a_fleet_that_nobody_asks_for_is_seen(hub: Hub, bus: FleetBus, join: Join) -> None:
    replicas = [await join("misnamed") for _ in range(2)]
    for number, replica in enumerate(replicas):
        await replica.say(report(f"m{number}", fleet="misnamed"))
    known = await join()
    await known.say(report("known"))
    await until(bus, lambda members, reports: members == {"known"})

    async def both_seen() -> bool:
        return dict(await hub.strays()) == {"misnamed": 2}

    await eventually(both_seen)
    asked = hub.fleet("misnamed")
    await until(asked, lambda members, reports: members == {"m0", "m1"})
    assert dict(await hub.strays()) == {}


async def test_a_closed_fleet_may_be_asked_for_again(hub: Hub, bus: FleetBus, join: Join) -> None:
    replica = await join()
    await replica.say(report(sequence=1))
    await until(bus, lambda members, reports: members == {"a"})
    await bus.publish(point(4))
    assert await replica.hear() == 4
    await bus.close()
    again = hub.fleet(DEFAULT_FLEET)
    await replica.say(report(sequence=2, arrivals_total=7))
    await until(again, lambda members, reports: any(one.arrivals_total == 7 for one in reports))
    await again.publish(point(5))
    assert await replica.hear() == 5


async def test_a_name_that_is_none_is_no_fleet(hub: Hub) -> None:
    for name in ("", "a/b/c", "a{b}", "a b", "/a", "a/"):
        with pytest.raises(ValueError, match="allowed: NAME or NAMESPACE/NAME"):
            hub.fleet(name)


async def test_closing_ends_the_streams_in_good_order() -> None:
    hub = await EmbeddedHub.listen()
    bus = hub.fleet(DEFAULT_FLEET)
    replica = await Replica.joined(GrpcLink(hub.address))
    await replica.say(report("a"))
    await until(bus, lambda members, reports: members == {"a"})
    await hub.close()
    with pytest.raises(StopAsyncIteration):
        await replica.hear()
    assert (await bus.collect()).members == frozenset()
    await replica.leave()


@pytest.mark.parametrize("address", ["nonsense", "127.0.0.1:", "127.0.0.1:99999", "127.0.0.1:٣"])
async def test_an_address_to_listen_at_is_a_host_and_a_port(address: str) -> None:
    with pytest.raises(UsageError, match=r"--listen = .*: allowed: HOST:PORT"):
        await EmbeddedHub.listen(address)
