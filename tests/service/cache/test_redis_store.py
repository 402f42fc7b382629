"""A Redis that is slow, dead, damaged or read by others: serving goes on, and no answer is wrong."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minwatt.v1.errors import UsageError
from minwatt.v1.inference_pb2 import ClassifyRequest
from minwatt.v1.redis_address import parse_redis_url
from service.cache.breaker import LAST_BACKOFF_S, TOLERATED, Breaker
from service.cache.opening import open_cache
from service.cache.redis_store import PREFIX, RedisStore
from service.settings import ServeSettings
from tests.eventually import WAIT_S, eventually
from tests.redis_server import RedisServer, redis_cluster, unhurried
from tests.service.cache.test_known import ask, replica

SECRET = bytes(range(64))
KEY = bytes(32)


@pytest.fixture(autouse=True)
def _unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    unhurried(monkeypatch, patience_s=5.0)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path) as server:
        yield server


@pytest.fixture
async def store(server: RedisServer) -> AsyncIterator[RedisStore]:
    store = RedisStore(parse_redis_url(server.url, "test"), SECRET, 60.0)
    yield store
    await store.close()


async def until_known(store: RedisStore, value: bytes | None) -> None:
    async def holds() -> bool:
        return await store.get_many([KEY]) == [value]

    await eventually(holds)


async def until_up(store: RedisStore, up: bool) -> None:
    async def holds() -> bool:
        await store.get_many([KEY])
        return store.counts().up is up

    await eventually(holds)


async def test_a_dead_server_is_left_alone_and_found_again(server: RedisServer, store: RedisStore) -> None:
    store.put_many({KEY: b"value"})
    await until_known(store, b"value")
    server.kill()
    await until_up(store, False)
    failures = store.counts().failures
    loop = asyncio.get_running_loop()
    for _ in range(100):  # no wait at all: the loop never turns to anything else meanwhile
        turned: list[bool] = []
        loop.call_soon(turned.append, True)
        assert await store.get_many([KEY]) == [None]
        store.put_many({KEY: b"lost"})
        assert not turned
        await asyncio.sleep(0)
    assert store.counts().failures == failures
    server.start()
    await until_up(store, True)
    store.put_many({KEY: b"new"})
    await until_known(store, b"new")


async def test_a_server_that_says_nothing_costs_a_bounded_wait(
    server: RedisServer, store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put_many({KEY: b"value"})
    await until_known(store, b"value")
    unhurried(monkeypatch, patience_s=0.1)
    server.freeze()
    try:
        asked = 0
        async with asyncio.timeout(WAIT_S):
            while store.counts().up:
                assert await store.get_many([KEY]) == [None]
                asked += 1
        assert asked <= 20 * TOLERATED
    finally:
        server.thaw()
        unhurried(monkeypatch, patience_s=5.0)
    await until_up(store, True)
    await until_known(store, b"value")


async def test_what_was_damaged_or_forged_is_absent(server: RedisServer, store: RedisStore) -> None:
    store.put_many({KEY: b"value"})
    await until_known(store, b"value")
    stored = server.command(b"GET", PREFIX + KEY).split(b"\r\n", 1)[1][:-2]
    for forged in (b"", b"x", stored[:-1], stored[:-1] + b"X", b"\0" + stored[1:], stored + b"more"):
        server.command(b"SET", PREFIX + KEY, forged)
        assert await store.get_many([KEY]) == [None]
    server.command(b"SET", PREFIX + bytes(31) + b"\1", stored)  # another text's answer
    assert await store.get_many([bytes(31) + b"\1"]) == [None]
    server.command(b"DEL", PREFIX + KEY)
    server.command(b"LPUSH", PREFIX + KEY, b"a list")
    assert await store.get_many([KEY]) == [None]
    await until_up(store, True)


async def test_a_full_server_still_gives(server: RedisServer, store: RedisStore) -> None:
    store.put_many({KEY: b"value"})
    await until_known(store, b"value")
    server.command(b"CONFIG", b"SET", b"maxmemory", b"1")
    store.put_many({bytes(31) + b"\1": b"more"})

    async def refused() -> bool:
        return store.counts().failures > 0

    await eventually(refused)
    await until_known(store, b"value")
    assert store.counts().up


async def test_replicas_share_it_and_nothing_in_it_is_readable(
    server: RedisServer, tiny_model: Path, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(SECRET)
    flags = {"cache_redis": server.url, "cache_key_file": secret}
    request = ClassifyRequest(texts=["hello", "where is my card"])
    async with replica(tiny_model, **flags) as one, replica(tiny_model, **flags) as two:
        first = await ask(one, request)

        async def all_known() -> bool:
            reply = await ask(two, request)
            assert list(reply.results) == list(first.results)
            return reply.usage.cached_texts == 2

        await eventually(all_known)
        for parts in (one, two):
            assert parts.cache is not None
            await parts.cache.flights.store.close()
    kept = server.command(b"KEYS", b"*")
    assert kept.count(PREFIX) == 2
    dump = b"".join(server.command(b"GET", PREFIX + k[:32]) for k in kept.split(PREFIX)[1:])
    assert b"hello" not in kept + dump
    assert b"card" not in kept + dump


async def test_a_dead_server_from_the_start_does_not_stop_a_replica(tiny_model: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(SECRET)
    async with replica(
        tiny_model, cache_redis=f"unix://{tmp_path}/none.sock", cache_key_file=secret
    ) as parts:
        for _ in range(TOLERATED + 2):
            assert (await ask(parts, ClassifyRequest(texts=["hello"]))).usage.cached_texts == 0
        assert parts.cache is not None
        assert not parts.cache.flights.store.counts().up
        await parts.cache.flights.store.close()


@pytest.mark.parametrize("url", ["http://host", "nonsense", "redis://user:pässword@host:port/0"])
def test_a_wrong_address_is_one_line_without_the_password(url: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(SECRET)
    settings = ServeSettings.of_flags(cache_redis=url, cache_key_file=secret)
    with pytest.raises(UsageError, match=r"^cache-redis = .*; allowed: redis://HOST") as raised:
        open_cache(settings)
    assert "pässword" not in str(raised.value)


async def test_a_cluster_keeps_answers_wherever_their_keys_are(tmp_path: Path) -> None:
    with redis_cluster(tmp_path) as (server, url):
        store = RedisStore(parse_redis_url(url, "test"), SECRET, 60.0)
        try:
            values = {bytes([number]) * 32: bytes([number]) for number in range(8)}
            store.put_many(values)

            async def all_known() -> bool:
                return await store.get_many([*values]) == [*values.values()]

            await eventually(all_known)
            assert server.command(b"DBSIZE") == b":8\r\n"
            assert await store.get_many([b"unheard" * 4]) == [None]
        finally:
            await store.close()


@given(st.lists(st.booleans(), max_size=60), st.integers(0, 2**32))
def test_the_breaker_opens_after_failures_in_a_row_and_its_waits_are_bounded(
    ends: list[bool], seed: int
) -> None:
    breaker, row, draw = Breaker(), 0, random.Random(seed)
    for good in ends:
        if good:
            breaker.succeeded()
            row = 0
        else:
            breaker.failed()
            row += 1
        assert breaker.open == (row >= TOLERATED)
        assert 0 < breaker.backoff_s(draw) <= LAST_BACKOFF_S


async def test_a_server_whose_name_can_not_be_asked_for_is_one_that_is_away() -> None:
    store = RedisStore(
        parse_redis_url("redis://a..b:6379/0", "test"), SECRET, 60.0
    )  # UnicodeError, which is no error of redis-py
    try:
        await until_up(store, False)
        store.put_many({KEY: b"value"})
        assert await store.get_many([KEY]) == [None]
        assert store._task is not None
        assert not store._task.done(), "it must go on trying"
    finally:
        await store.close()
