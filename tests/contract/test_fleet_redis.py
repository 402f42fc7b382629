"""The Redis bus in trouble, both ends of it, with real servers: gone, empty, slow, read-only, another one."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trustme
from redis.asyncio import Redis

from minwatt.v1.fleet_keys import DEFAULT_FLEET, FleetKeys
from minwatt.v1.redis_address import parse_redis_url
from scaler import redis_bus, redis_line
from scaler.redis_bus import MEMBER_TTL_S, RedisBus, RedisHub
from service import fleet_redis
from service.fleet import AwayError
from service.fleet_redis import RedisLink
from tests.contract.fleet_replica import WAIT_S, Replica, point, report, until
from tests.eventually import eventually
from tests.redis_server import RedisServer, free_port, redis_cluster

KEYS = FleetKeys.of(DEFAULT_FLEET)
DOCS = Path(__file__).parents[2] / "docs/redis.md"
REPORTS, POINT = KEYS.reports.encode(), KEYS.point.encode()


@dataclass
class Clock:
    """Stepped by hand; the age of reports is Redis' own matter."""

    now_s: float = 1000.0

    def __call__(self) -> float:
        return self.now_s


@dataclass
class Place:
    """A Redis, and whoever came to it."""

    url: str
    clock: Clock = field(default_factory=Clock)
    hubs: list[RedisHub] = field(default_factory=list)
    replicas: list[Replica] = field(default_factory=list)

    def scaler(self, url: str = "", password_file: Path | None = None) -> RedisBus:
        address = parse_redis_url(url or self.url, "test", password_file)
        self.hubs.append(RedisHub(address, self.clock))
        return self.hubs[-1].fleet(DEFAULT_FLEET)

    async def replica(self, url: str = "", password_file: Path | None = None) -> Replica:
        address = parse_redis_url(url or self.url, "test", password_file)
        self.replicas.append(await Replica.joined(RedisLink(address, DEFAULT_FLEET)))
        return self.replicas[-1]

    async def leave(self) -> None:
        for replica in self.replicas:
            await replica.leave()
        for hub in self.hubs:
            await hub.close()


@pytest.fixture(autouse=True)
def _unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_line, "PATIENCE_S", WAIT_S)
    monkeypatch.setattr(fleet_redis, "PATIENCE_S", WAIT_S)
    monkeypatch.setattr(fleet_redis, "CATCH_UP_S", 0.05)


@pytest.fixture(scope="module")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path) as server:
        yield server


@pytest.fixture
async def shared(shared_server: RedisServer) -> AsyncIterator[Place]:
    shared_server.command(b"FLUSHALL")
    place = Place(shared_server.url)
    yield place
    await place.leave()


@contextlib.asynccontextmanager
async def at(url: str) -> AsyncIterator[Place]:
    place = Place(url)
    yield place
    await place.leave()


@pytest.fixture
async def own(own_server: RedisServer) -> AsyncIterator[Place]:
    place = Place(own_server.url)
    yield place
    await place.leave()


async def say_once(url: str) -> None:
    async with RedisLink(parse_redis_url(url, "test"), DEFAULT_FLEET).open() as session:
        await session.send(report(), last=False)


async def test_who_says_nothing_any_more_is_gone_after_a_while(shared: Place) -> None:
    bus = shared.scaler()
    silent, steady = await shared.replica(), await shared.replica()
    await silent.say(report("silent"))
    await steady.say(report("steady"))
    await until(bus, lambda members, reports: members == {"silent", "steady"})
    shared.clock.now_s += MEMBER_TTL_S - 0.5
    await steady.say(report("steady"))
    assert (await bus.collect()).members == {"silent", "steady"}
    shared.clock.now_s += 1.0
    assert (await bus.collect()).members == {"steady"}


async def test_reports_wait_for_a_scaler_and_go_when_none_comes(
    shared: Place, shared_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is lost for as long as reports are retained, and the stream does not grow beyond that."""
    bus = shared.scaler()
    replica = await shared.replica()
    for sequence in range(200):
        await replica.say(report(sequence=sequence, latency_sketch=b"x" * 500))
    heard = await until(bus, lambda members, reports: len(reports) >= 200)
    assert len(heard) == 200
    monkeypatch.setattr(fleet_redis, "RETAINED_S", 0.0)
    for sequence in range(200, 600):
        await replica.say(report(sequence=sequence, latency_sketch=b"x" * 500))
    kept = int(shared_server.command(b"XLEN", REPORTS)[1:])
    assert kept < 300, "whole nodes of the stream go at a time"
    assert 0 < int(shared_server.command(b"PTTL", REPORTS)[1:]) <= 60_000


async def test_connections_that_break_after_one_report_each_fill_no_redis(
    shared: Place, shared_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet_redis, "RETAINED_S", 0.0)
    link = RedisLink(parse_redis_url(shared.url, "test"), DEFAULT_FLEET)
    node = bytes(5000)  # a stream goes by nodes of 4096 bytes
    for sequence in range(20):
        async with link.open() as session:
            await session.send(report(sequence=sequence, latency_sketch=node), last=False)
    assert int(shared_server.command(b"XLEN", REPORTS).strip(b":\r\n")) < 5


async def test_what_is_read_ahead_is_handed_out_once(shared: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a fleet of more than a page, and looks that come while the pages between them are read."""
    monkeypatch.setattr(redis_bus, "PAGE", 3)
    bus = shared.scaler()
    replica = await shared.replica()
    heard = []
    for sequence in range(200):
        await replica.say(report(sequence=sequence, arrivals_total=sequence))
        if sequence % 10 == 9:
            heard += (await bus.collect()).reports
            shared.clock.now_s += 0.01
            await asyncio.sleep(0.002 * (sequence % 7))
    heard += await until(bus, lambda members, reports: len(heard) + len(reports) >= 200)
    assert [one.arrivals_total for one in heard] == list(range(200))


async def test_ages_are_by_redis_own_clock(shared: Place) -> None:
    bus = shared.scaler()
    replica = await shared.replica()
    await replica.say(report(sequence=1))
    await asyncio.sleep(0.05)
    await replica.say(report(sequence=2))
    shared.clock.now_s += 100.0  # the scaler's own says nothing about when reports were made
    first, second = (await bus.collect()).reports
    assert second.received_s - first.received_s >= 0.049
    assert second.received_s <= shared.clock.now_s


async def test_killed_and_restarted_empty(own: Place, own_server: RedisServer) -> None:
    bus = own.scaler()
    replica = await own.replica()
    await replica.say(report(sequence=1))
    await until(bus, lambda members, reports: members == {"a"})
    await bus.publish(point(7))
    assert await replica.hear() == 7

    own_server.kill()
    with pytest.raises(AwayError):
        await say_once(own.url)
    for _ in range(3):  # it is not asked at once again; nobody has left by that
        view = await bus.collect()
        assert (view.members, view.reports, bool(view.problem)) == ({"a"}, (), True)
        own.clock.now_s += MEMBER_TTL_S
    await bus.publish(point(8))  # while it is away

    own_server.start()
    own.clock.now_s += 10.0
    view = await bus.collect()
    assert (view.members, view.problem) == ({"a"}, "")
    late = await own.replica()
    assert await late.hear() == 8, "the scaler has written it again"
    await late.say(report("late"))
    await until(bus, lambda members, reports: members == {"a", "late"})
    own.clock.now_s += MEMBER_TTL_S + 0.1
    await late.say(report("late"))
    assert (await bus.collect()).members == {"late"}, "and who did not come back is gone"


async def test_slow_is_away(own: Place, own_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    bus = own.scaler()
    replica = await own.replica()
    await replica.say(report(sequence=1))
    await until(bus, lambda members, reports: members == {"a"})
    own_server.freeze()
    try:
        monkeypatch.setattr(redis_line, "PATIENCE_S", 0.1)
        view = await bus.collect()
        assert (view.members, bool(view.problem)) == ({"a"}, True)
        monkeypatch.setattr(fleet_redis, "PATIENCE_S", 0.1)
        with pytest.raises(AwayError):
            await say_once(own.url)
    finally:
        own_server.thaw()
    monkeypatch.setattr(redis_line, "PATIENCE_S", WAIT_S)
    await replica.say(report(sequence=2))
    own.clock.now_s += 10.0
    await until(bus, lambda members, reports: any(r.replica_id == "a" for r in reports))


async def test_a_read_only_server_is_away_until_it_is_promoted(own: Place, own_server: RedisServer) -> None:
    bus = own.scaler()
    replica = await own.replica()
    await replica.say(report(sequence=1))
    await until(bus, lambda members, reports: members == {"a"})
    own_server.command(b"REPLICAOF", b"127.0.0.1", b"1")
    view = await bus.collect()
    assert view.members == {"a"}
    assert "READONLY" in view.problem or "read only" in view.problem
    with pytest.raises(AwayError, match="read only"):
        await say_once(own.url)
    own_server.command(b"REPLICAOF", b"NO", b"ONE")
    own.clock.now_s += 10.0
    await replica.say(report(sequence=2))
    heard = await until(bus, lambda members, reports: bool(reports))
    assert [one.replica_id for one in heard] == ["a"]


async def test_a_scaler_that_was_taken_over_changes_nothing_more(shared: Place) -> None:
    first = shared.scaler()
    replica = await shared.replica()
    await replica.say(report(sequence=1))
    await until(first, lambda members, reports: members == {"a"})
    await first.publish(point(5))
    assert await replica.hear() == 5

    second = shared.scaler()
    assert (await second.collect()).told_version == 5, "so that its own will be newer"
    await first.publish(point(6))
    await second.publish(point(7))
    assert await replica.hear() == 7
    await replica.say(report(sequence=2))
    view = await first.collect()
    assert (view.reports, view.members) == ((), {"a"})
    assert "another scaler has taken fleet default" in view.problem
    assert (await second.collect()).problem == ""


async def test_a_scaler_that_took_over_keeps_its_fence_where_redis_lost_it(
    own: Place, own_server: RedisServer
) -> None:
    first, second = own.scaler(), own.scaler()
    await first.collect()
    await second.collect()
    own_server.command(b"FLUSHALL")
    await first.collect()  # finds nothing that is newer, for now
    assert (await second.collect()).problem == ""
    assert "another scaler" in (await first.collect()).problem
    third = own.scaler()
    assert (await third.collect()).problem == ""
    assert "another scaler" in (await second.collect()).problem


async def test_who_was_refused_takes_no_fleet_that_redis_lost(own: Place, own_server: RedisServer) -> None:
    first, second = own.scaler(), own.scaler()
    replica = await own.replica()
    await first.publish(point(5))
    assert await replica.hear() == 5
    await second.collect()
    assert "another scaler" in (await first.collect()).problem
    await second.publish(point(6))
    assert await replica.hear() == 6
    await first.publish(point(9))
    own_server.command(b"FLUSHALL")
    assert "another scaler" in (await first.collect()).problem
    assert (await second.collect()).told_version == 6


@pytest.mark.parametrize("version", [b"9" * 20, b"none"])
async def test_a_version_that_no_scaler_wrote_is_no_version(
    shared: Place, shared_server: RedisServer, version: bytes
) -> None:
    shared_server.command(b"HSET", POINT, b"version", version)
    assert "is not what a scaler wrote" in (await shared.scaler().collect()).problem


async def test_a_scaler_that_restarts_hears_at_once_what_was_reported_last(shared: Place) -> None:
    replica = await shared.replica()
    for sequence in range(1, 4):
        await replica.say(report(sequence=sequence))
    view = await shared.scaler().collect()
    assert (len(view.reports), view.members) == (3, {"a"})


async def test_numbers_ahead_of_the_clock_double_no_report(shared: Place, shared_server: RedisServer) -> None:
    """After a failover the entries may have been numbered by a clock that was ahead."""
    bus = shared.scaler()
    replica = await shared.replica()
    await replica.say(report(sequence=1))
    assert len((await bus.collect()).reports) == 1
    ahead = b"%d-0" % (int(shared_server.command(b"TIME").split(b"\r\n")[2]) * 1000 + 30_000)
    shared_server.command(b"XADD", REPORTS, ahead, b"r", report(sequence=2).SerializeToString())
    numbers = []
    for sequence in range(3, 7):
        numbers += [one.received_s for one in (await bus.collect()).reports]
        await replica.say(report(sequence=sequence))
    numbers += [one.received_s for one in (await bus.collect()).reports]
    assert len(numbers) == 5
    shared_server.command(b"DEL", REPORTS)  # and another server's clock is behind it
    replica = await shared.replica()
    await replica.say(report(sequence=7))
    await replica.say(report(sequence=8))
    assert len((await bus.collect()).reports) == 2


async def test_numbers_that_are_astray_do_not_stay(shared: Place, shared_server: RedisServer) -> None:
    """Redis' clock was an hour ahead, and was set right: by those numbers nothing would ever be old."""
    bus = shared.scaler()
    replica = await shared.replica()
    await bus.collect()
    ahead = b"%d-0" % (int(shared_server.command(b"TIME").split(b"\r\n")[2]) * 1000 + 3_600_000)
    shared_server.command(b"XADD", REPORTS, ahead, b"r", report(sequence=1).SerializeToString())
    heard = [*(await bus.collect()).reports]
    await replica.say(report(sequence=2))
    heard += (await bus.collect()).reports
    assert len(heard) == 2
    replica = await shared.replica()
    for sequence in range(3, 6):
        await replica.say(report(sequence=sequence))
        (one,) = (await bus.collect()).reports
        assert one.received_s <= shared.clock.now_s
    last = shared_server.command(b"XREVRANGE", REPORTS, b"+", b"-", b"COUNT", b"1").split(b"\r\n")[4]
    assert last < ahead


@pytest.mark.parametrize(
    "entry",
    [(b"r", b"\xff\xff"), (b"x", b""), (b"r", b"", b"r", b""), (b"r", b"\x0a" * 70_000), (b"\xff", b"\x00")],
)
async def test_what_is_no_report_is_dropped_and_told_of_once(
    shared: Place, shared_server: RedisServer, caplog: pytest.LogCaptureFixture, entry: tuple[bytes, ...]
) -> None:
    bus = shared.scaler()
    for _ in range(3):
        shared_server.command(b"XADD", REPORTS, b"*", *entry)
    replica = await shared.replica()
    await replica.say(report())
    heard = await until(bus, lambda members, reports: bool(reports))
    assert [one.replica_id for one in heard] == ["a"]
    assert len([line for line in caplog.records if "malformed" in line.message]) == 1


async def test_a_key_of_another_kind_is_one_fleets_trouble(shared: Place, shared_server: RedisServer) -> None:
    shared_server.command(b"SET", POINT, b"x")
    bus = shared.scaler()
    assert "wrong kind" in (await bus.collect()).problem
    other = shared.hubs[-1].fleet("other")
    assert (await other.collect()).problem == ""
    shared_server.command(b"DEL", POINT)
    assert (await bus.collect()).problem == ""


async def test_a_point_that_was_missed_is_found(shared: Place, shared_server: RedisServer) -> None:
    """Its message went to nobody: the connection that listens is cut just then."""
    bus = shared.scaler()
    replica = await shared.replica()
    await replica.say(report())
    await bus.publish(point(1))
    assert await replica.hear() == 1
    payload = b"\x08\x02"  # version 2
    shared_server.command(b"HSET", POINT, b"version", b"%020d" % 2, b"point", payload)
    assert await replica.hear() == 2


def documented_rights(user: str) -> list[bytes]:
    """As an SRE copies them."""
    (line,) = [line for line in DOCS.read_text().splitlines() if line.startswith(f"user {user} ")]
    return line.split(maxsplit=2)[2].encode().split()


async def test_the_least_rights_suffice(
    own: Place, own_server: RedisServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    own_server.command(b"ACL", b"SETUSER", b"replica", *documented_rights("minwatt-replica"))
    own_server.command(b"ACL", b"SETUSER", b"scaler", *documented_rights("minwatt-scaler"))
    own_server.command(b"ACL", b"SETUSER", b"default", b"resetpass", b">d-secret")
    path = own.url.removeprefix("unix://")
    password_file = tmp_path / "password"
    password_file.write_text("PASSWORD\n")
    bus = own.scaler(f"unix://scaler:PASSWORD@{path}")
    replica = await own.replica(f"unix://replica@{path}", password_file)
    for sequence in range(1, 12):
        await replica.say(report(sequence=sequence))
    heard = await until(bus, lambda members, reports: len(reports) == 11)
    assert len(heard) == 11
    await bus.publish(point(3))
    assert await replica.hear() == 3
    assert dict(await own.hubs[0].strays()) == {}
    assert (await bus.collect()).problem == ""

    with pytest.raises(AwayError, match=r"(?i)no permissions"):
        await say_once(f"unix://scaler:PASSWORD@{path}")
    wrong = own.scaler(f"unix://scaler:wrong-secret@{path}")
    assert "ConnectionError (AuthenticationError)" in (await wrong.collect()).problem
    assert not re.search("PASSWORD|[dg]-secret", caplog.text)


async def test_tls_with_a_client_certificate(tmp_path: Path) -> None:
    authority = trustme.CA()
    ca, cert, key = (tmp_path / name for name in ("ca.pem", "cert.pem", "key.pem"))
    authority.cert_pem.write_to_path(ca)
    issued = authority.issue_cert("localhost", "127.0.0.1")
    issued.private_key_pem.write_to_path(key)
    for blob in issued.cert_chain_pems:
        blob.write_to_path(cert, append=True)
    port = free_port()
    flags = ("--tls-port", str(port), "--tls-ca-cert-file", str(ca), "--tls-cert-file", str(cert))
    with RedisServer(tmp_path, *flags, "--tls-key-file", str(key)):
        async with at(f"rediss://localhost:{port}/0?ca={ca}&cert={cert}&key={key}") as place:
            await meets(place)
        untrusted = RedisHub(parse_redis_url(f"rediss://localhost:{port}/0", "test"))
        assert "(SSLCertVerificationError)" in (await untrusted.fleet(DEFAULT_FLEET).collect()).problem
        await untrusted.close()


async def meets(place: Place) -> None:
    """A scaler and a replica find one another there."""
    bus = place.scaler()
    replica = await place.replica()
    await replica.say(report(sequence=1))
    await until(bus, lambda members, reports: members == {"a"})
    await bus.publish(point(2))
    assert await replica.hear() == 2
    await replica.say(report(sequence=2), last=True)
    await until(bus, lambda members, reports: not members)
    assert set(await place.hubs[0].strays()) <= {DEFAULT_FLEET}


async def test_a_cluster_and_the_rights_that_it_takes(tmp_path: Path) -> None:
    more = re.search(r"On a cluster both need `(.*?)`", DOCS.read_text())
    assert more
    with redis_cluster(tmp_path) as (server, url):
        async with at(url) as place:
            await meets(place)
        for user in ("replica", "scaler"):
            rights = [*documented_rights(f"minwatt-{user}"), *more[1].encode().split()]
            assert server.command(b"ACL", b"SETUSER", user.encode(), *rights) == b"+OK\r\n"
        async with at(url) as place:
            bus = place.scaler(url.replace("//", "//scaler:PASSWORD@"))
            replica = await place.replica(url.replace("//", "//replica:PASSWORD@"))
            await replica.say(report())
            await until(bus, lambda members, reports: members == {"a"})
            await bus.publish(point(3))
            assert await replica.hear() == 3


async def test_a_cluster_that_is_not_there_is_away() -> None:
    async with at(f"redis+cluster://127.0.0.1:{free_port()}") as place:
        bus = place.scaler()
        await bus.publish(point(1))
        assert "RedisClusterException" in (await bus.collect()).problem
        assert await place.hubs[0].strays() == {}
        with pytest.raises(AwayError, match="RedisClusterException"):
            await place.replica()


async def test_whatever_the_library_raises_redis_is_away(shared: Place) -> None:
    line = redis_line.Line(parse_redis_url(shared.url, "test"), shared.clock)

    async def asks_a_node_it_has_not_heard_of(redis: object) -> None:
        raise AttributeError("'NoneType' object has no attribute 'execute_command'")

    with pytest.raises(redis_line.AwayError, match="a slot of the cluster has moved"):
        await line.ask(asks_a_node_it_has_not_heard_of)
    with pytest.raises(
        redis_line.AwayError, match="a slot of the cluster has moved"
    ):  # and is not asked at once
        await line.command("PING")
    shared.clock.now_s += 10.0
    assert await line.command("PING")
    await line.close()


@pytest.mark.parametrize("refused", ["xadd", "hget"])
async def test_a_slot_that_moves_is_one_line_to_a_replica_too_and_tried_again(
    shared: Place, monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    bus = shared.scaler()
    await bus.publish(point(5))

    async def of_no_node(*_: object, **__: object) -> None:
        raise AttributeError("'NoneType' object has no attribute 'execute_command'")

    with monkeypatch.context() as moving:
        moving.setattr(Redis, refused, of_no_node)
        replica = await shared.replica()
        with pytest.raises(AwayError, match=r"^a slot of the cluster has moved to a node .*not heard of$"):
            await (replica.say(report()) if refused == "xadd" else replica.hear())
    again = await shared.replica()
    await again.say(report())
    assert await again.hear() == 5


async def test_sentinels_tell_where_the_master_is_and_who_is_it_next(tmp_path: Path) -> None:
    ports = {name: free_port() for name in ("first", "second", "sentinel")}
    for name in ports:
        (tmp_path / name).mkdir()
    config = tmp_path / "sentinel.conf"
    config.write_text(
        f"sentinel monitor fleet 127.0.0.1 {ports['first']} 1\n"
        "sentinel down-after-milliseconds fleet 300\n"
        "sentinel failover-timeout fleet 1000\n"
    )
    follow = ("--replicaof", "127.0.0.1", str(ports["first"]), "--repl-diskless-sync-delay", "0")
    sentinel_flags = (str(config), "--sentinel", "--port", str(ports["sentinel"]))
    with (
        RedisServer(
            tmp_path / "first", "--port", str(ports["first"]), "--repl-diskless-sync-delay", "0"
        ) as first,
        RedisServer(tmp_path / "second", "--port", str(ports["second"]), *follow) as second,
        RedisServer(tmp_path / "sentinel", *sentinel_flags) as sentinel,
    ):
        url = f"redis+sentinel://127.0.0.1:{ports['sentinel']}"
        async with at(f"{url}/unknown") as place:
            assert "MasterNotFoundError" in (await place.scaler().collect()).problem

        async def both_known() -> bool:
            known = sentinel.command(b"SENTINEL", b"REPLICAS", b"fleet")
            return b"master-link-status\r\n$2\r\nok" in known

        await eventually(both_known)
        async with at(f"{url}/fleet") as place:
            await meets(place)
            bus = place.hubs[0].fleet(DEFAULT_FLEET)
            first.kill()

            async def promoted() -> bool:
                place.clock.now_s += 10.0
                return (await bus.collect()).problem == ""

            await eventually(promoted)
            assert b"role:master" in second.command(b"INFO", b"replication")
            replica = await place.replica()
            await replica.say(report("b"))
            await until(bus, lambda members, reports: "b" in members)
            await bus.publish(point(3))
            assert await replica.hear() == 3
