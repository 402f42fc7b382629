"""What every store of known answers keeps, wherever it keeps them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from minwatt.v1.redis_address import parse_redis_url
from service.cache.flights import Store
from service.cache.memory import MemoryCache, MemoryStore
from service.cache.redis_store import RedisStore
from tests.eventually import eventually
from tests.redis_server import RedisServer, unhurried

SECRET = bytes(range(64))
SHORT_TTL_S = 0.2
Opened = Callable[[float], Store]


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(params=["memory", "redis"])
async def opened(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Opened]:
    """Opens an empty store with a time to live."""
    unhurried(monkeypatch, patience_s=5.0)
    stores: list[Store] = []

    def memory(ttl_s: float) -> Store:
        return MemoryStore(MemoryCache(1024**2, ttl_s), time.monotonic)

    def redis(ttl_s: float) -> Store:
        server: RedisServer = request.getfixturevalue("redis_server")
        server.command(b"FLUSHALL")
        return RedisStore(parse_redis_url(server.url, "test"), SECRET, ttl_s)

    def one(ttl_s: float) -> Store:
        stores.append({"memory": memory, "redis": redis}[request.param](ttl_s))
        return stores[-1]

    yield one
    for store in stores:
        await store.close()


def key(number: int) -> bytes:
    return number.to_bytes(32, "little")


async def until(store: Store, keys: list[bytes], wanted: list[bytes | None]) -> None:
    """Stores may keep a moment later, and a busy machine may miss a lookup."""

    async def holds() -> bool:
        return await store.get_many(keys) == wanted

    await eventually(holds)


async def test_what_was_put_is_had_in_the_order_asked(opened: Opened) -> None:
    store = opened(60.0)
    values = {key(n): bytes([n, 0, 255]) * n for n in range(1, 20)}
    assert await store.get_many([key(1)]) == [None]
    store.put_many(values)
    asked = [key(7), key(99), key(3), key(7)]
    await until(store, asked, [values[key(7)], None, values[key(3)], values[key(7)]])
    assert await store.get_many([]) == []


async def test_the_last_value_counts(opened: Opened) -> None:
    store = opened(60.0)
    for value in (b"one", b"two", b"three"):
        store.put_many({key(1): value})
    await until(store, [key(1)], [b"three"])


async def test_what_is_too_old_is_absent(opened: Opened) -> None:
    store = opened(SHORT_TTL_S)

    async def is_there() -> bool:
        store.put_many({key(1): b"one"})  # again, where a look comes later than it lasts
        return await store.get_many([key(1)]) == [b"one"]

    await eventually(is_there)
    await until(store, [key(1)], [None])


async def test_many_ask_at_once(opened: Opened) -> None:
    store = opened(60.0)
    store.put_many({key(n): b"%d" % n for n in range(100)})
    await until(store, [key(n) for n in range(100)], [b"%d" % n for n in range(100)])

    async def ask(first: int) -> None:
        await until(
            store, [key(n) for n in range(first, first + 10)], [b"%d" % n for n in range(first, first + 10)]
        )

    await asyncio.gather(*(ask(first) for first in range(0, 90, 3)))


async def test_a_store_that_is_well_says_so(opened: Opened) -> None:
    store = opened(60.0)
    await store.get_many([key(1)])
    assert store.counts().up


async def test_closing_twice_or_unused_does_no_harm(opened: Opened) -> None:
    unused, used = opened(60.0), opened(60.0)
    await unused.close()
    used.put_many({key(1): b"one"})
    await used.close()
