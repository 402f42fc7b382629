"""A fleet's link through a Redis that it shares with its scaler: `scaler/redis_bus.py` is the other end.

Owns what a replica writes and reads there, at the places that `minwatt.v1.fleet_keys` names: each report is
one entry of the fleet's stream, and an operating point comes as a message, or is found in its key by whoever
missed that: after each joining, and each `CATCH_UP_S` without a message.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

from google.protobuf.message import DecodeError

from minwatt.v1.fleet_keys import ABANDONED_S, LAST_REPORT, REPORT, RETAINED_S, FleetKeys
from minwatt.v1.fleet_pb2 import OperatingPoint, ReplicaReport
from minwatt.v1.redis_address import RedisAddress
from minwatt.v1.redis_connection import FAILURES, connected, in_words
from service.fleet import AwayError

PATIENCE_S = 2.0  # for one answer
CATCH_UP_S = 5.0
EXPIRY_EVERY = 10  # reports


class RedisLink:
    """A Link to the fleet of that name."""

    def __init__(self, address: RedisAddress, fleet: str) -> None:
        self._address = address
        self._keys = FleetKeys.of(fleet)
        self.server_ms: int | None = None  # when the last report came in, by Redis' clock
        self._newest = 0  # version of an operating point that was handed out, whatever connections came since

    def __str__(self) -> str:
        return f"the fleet's Redis {self._address}"

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[RedisSession]:
        try:
            async with connected(self._address, PATIENCE_S) as redis:
                with _answering():
                    await redis.initialize()  # or a cluster does not know yet where to listen
                told = redis.pubsub(ignore_subscribe_messages=True)
                try:
                    with _answering():
                        await told.subscribe(self._keys.told)
                    yield RedisSession(redis, told, self._keys, self)
                finally:
                    await told.aclose()
        except FAILURES as error:
            raise AwayError(in_words(error)) from error

    def is_newer(self, point: OperatingPoint) -> bool:
        """From now on it is not."""
        newer = point.version > self._newest
        self._newest = max(self._newest, point.version)
        return newer


class RedisSession:
    def __init__(self, redis: Any, told: Any, keys: FleetKeys, link: RedisLink) -> None:
        self._redis = redis
        self._told = told
        self._keys = keys
        self._link = link
        self._expires = False
        self._one_at_a_time = asyncio.Lock()  # or each kind of question would open a connection of its own

    async def send(self, message: ReplicaReport, *, last: bool) -> None:
        """What is older than RETAINED_S goes: every replica does so, all by the one clock that counts.

        Also with the first report of a connection: many may break after one.
        """
        known_ms = self._link.server_ms
        oldest_ms = None if known_ms is None else max(0, known_ms - round(RETAINED_S * 1e3))
        entry = {LAST_REPORT if last else REPORT: message.SerializeToString()}
        async with self._one_at_a_time:
            with _answering():
                await self._put(entry, oldest_ms, message.sequence)

    async def _put(self, entry: dict[bytes, bytes], oldest_ms: int | None, sequence: int) -> None:
        number = await self._redis.xadd(self._keys.reports, entry, minid=oldest_ms)
        self._link.server_ms = int(number.partition(b"-")[0])
        if not self._expires or sequence % EXPIRY_EVERY == 0:
            await self._redis.pexpire(self._keys.reports, round(ABANDONED_S * 1e3))
            self._expires = True

    async def points(self) -> AsyncIterator[OperatingPoint]:
        while True:
            with _answering():
                told = await self._told.get_message(timeout=CATCH_UP_S)
            # Nothing: it is subscribed now, or has heard nothing for a while. The key then has the newest.
            payload = await self._kept_point() if told is None else told["data"]
            if payload:
                try:
                    point = OperatingPoint.FromString(payload)
                except DecodeError:
                    raise AwayError("what was told is no operating point") from None
                if self._link.is_newer(point):
                    yield point

    async def _kept_point(self) -> bytes | None:
        async with self._one_at_a_time:
            with _answering():
                kept: bytes | None = await self._redis.hget(self._keys.point, "point")
            return kept


@contextlib.contextmanager
def _answering() -> Iterator[None]:
    """Raises AwayError for whatever the library raises: where a cluster's slot moves to a node that it has
    not heard of, that is no error of its own but AttributeError."""
    try:
        yield
    except Exception as error:
        raise AwayError(in_words(error)) from error
