"""Known answers that replicas share, in a Redis.

One connection and one task: whatever is asked and kept while a round is under way goes into the next one, so
that many requests cost one exchange. Serving never waits for it longer than `LOOKUP_S`; once it fails a few
times in a row nothing waits at all until a probe of this task's own succeeds. Values carry a MAC: what was
damaged, or written by somebody without the secret, is as good as absent. Made by `opening`.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import random
import time
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from typing import Any

from minwatt.v1.redis_address import Kind, RedisAddress
from minwatt.v1.redis_connection import connected
from service.cache.breaker import Breaker
from service.cache.flights import StoreCounts

LOOKUP_S = 0.005  # a request waits no longer for what may be known; an exchange beyond is a failure
ROUND_S = 0.05  # an exchange is given up
PROBE_S = 0.5  # a probe is given up; nobody waits for it
MOST_KEYS = 1024  # a round
MOST_PENDING = 4096  # values not yet written; more are dropped
PREFIX = b"minwatt:answer:"
MAC_BYTES = 16

log = logging.getLogger(__name__)


class RedisStore:
    """A `Store` on one Redis. Never raises."""

    def __init__(
        self, address: RedisAddress, secret: bytes, ttl_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Connects when first asked."""
        self._address = address
        self._redis: Any = None  # from the task's first turn on
        self._secret = secret
        self._clock = clock
        self._ttl_ms = round(ttl_s * 1000)
        self._breaker = Breaker()
        self._draw = random.Random()
        self._asked: list[tuple[Sequence[bytes], asyncio.Future[list[bytes | None]]]] = []
        self._kept: dict[bytes, bytes] = {}
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._failures = 0
        self._closing = False

    async def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        if self._breaker.open or self._closing:
            return [None] * len(keys)
        found: asyncio.Future[list[bytes | None]] = asyncio.get_running_loop().create_future()
        self._asked.append((keys, found))
        self._go()
        await asyncio.wait({found}, timeout=LOOKUP_S)
        if found.done():
            return found.result()
        found.cancel()
        return [None] * len(keys)

    def put_many(self, values: Mapping[bytes, bytes]) -> None:
        if self._breaker.open or self._closing or len(self._kept) + len(values) > MOST_PENDING:
            return
        self._kept.update(values)
        self._go()

    def counts(self) -> StoreCounts:
        return StoreCounts(up=not self._breaker.open, failures=self._failures)

    async def close(self) -> None:
        """Writes what is pending, if that goes quickly."""
        self._closing = True
        self._wake.set()
        while self._task is not None and not self._task.done():
            await asyncio.wait({self._task}, timeout=2 * ROUND_S)
            self._task.cancel()  # more than once, if need be: redis-py swallows it while it connects

    def _go(self) -> None:
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        self._wake.set()

    async def _run(self) -> None:
        async with connected(self._address, PROBE_S) as self._redis:
            while not self._closing:
                await self._wake.wait()
                self._wake.clear()
                while (self._asked or self._kept) and not self._breaker.open:
                    await self._round()
                if self._breaker.open:
                    self._give_up()
                    await self._back()

    async def _round(self) -> None:
        """One exchange: all that was asked and kept, up to a bound. Whoever asked is answered in any case."""
        asked = self._take_asked()
        kept, self._kept = self._kept, {}
        wanted = [PREFIX + key for keys, _ in asked for key in keys]
        begun_s = self._clock()
        try:
            async with asyncio.timeout(ROUND_S):
                raw = await self._exchange(wanted, kept)
        except (
            Exception
        ) as error:  # whatever the library raises: its own, OSError, UnicodeError of a host's name
            self._failed(type(error).__name__)
            raw = [None] * len(wanted)
        else:
            if self._clock() - begun_s <= LOOKUP_S:
                self._breaker.succeeded()
            else:
                self._failed("slow")
        position = 0
        for keys, found in asked:
            if not found.done():
                some = raw[position : position + len(keys)]
                found.set_result([self._opened(key, one) for key, one in zip(keys, some, strict=True)])
            position += len(keys)

    def _take_asked(self) -> list[tuple[Sequence[bytes], asyncio.Future[list[bytes | None]]]]:
        taken = []
        keys = 0
        while self._asked and keys < MOST_KEYS:
            one = self._asked.pop(0)
            if not one[1].done():  # else it waited too long
                taken.append(one)
                keys += len(one[0])
        return taken

    async def _exchange(self, wanted: Sequence[bytes], kept: Mapping[bytes, bytes]) -> list[bytes | None]:
        scattered = self._address.kind is Kind.CLUSTER  # over nodes, by key: one command asks one of them
        async with self._redis.pipeline(transaction=False) as pipe:
            if wanted and not scattered:
                pipe.mget(wanted)
            elif wanted:
                for key in wanted:
                    pipe.get(key)
            for key, value in kept.items():
                pipe.set(PREFIX + key, self._mac(key, value) + value, px=self._ttl_ms)
            if not (wanted or kept):
                return []
            replies = await pipe.execute(raise_on_error=False)
        reads = replies[: len(replies) - len(kept)]
        for reply in reads:
            if isinstance(reply, Exception):
                raise reply
        writes = replies[len(reads) :]
        self._failures += sum(isinstance(reply, Exception) for reply in writes)  # e.g. full; reads go on
        return list(reads[0] if wanted and not scattered else reads)

    def _give_up(self) -> None:
        asked, self._asked, self._kept = self._asked, [], {}
        for keys, found in asked:
            if not found.done():
                found.set_result([None] * len(keys))

    async def _back(self) -> None:
        """Tries by itself until the server is back: no request waits for that."""
        while self._breaker.open and not self._closing:
            await asyncio.sleep(self._breaker.backoff_s(self._draw))
            try:
                async with asyncio.timeout(PROBE_S):
                    await self._redis.ping()  # connects
                    begun_s = self._clock()
                    await self._redis.ping()
            except Exception:
                self._breaker.failed()
                continue
            if self._clock() - begun_s > LOOKUP_S:
                self._breaker.failed()
                continue
            self._breaker.succeeded()
            log.info("the cache's Redis is back")

    def _failed(self, why: str) -> None:
        """`why` without the error's own words: they may hold the address and what is in it."""
        self._failures += 1
        self._breaker.failed()
        if self._breaker.open:
            log.warning("the cache's Redis is away (%s): serving on without it", why)

    def _mac(self, key: bytes, value: bytes) -> bytes:
        return blake2b(key + value, key=self._secret, digest_size=MAC_BYTES, person=b"minwatt value").digest()

    def _opened(self, key: bytes, stored: bytes | None) -> bytes | None:
        if stored is None or len(stored) <= MAC_BYTES:
            return None
        value = stored[MAC_BYTES:]
        return value if hmac.compare_digest(stored[:MAC_BYTES], self._mac(key, value)) else None
