"""Each text is computed once: what is known is looked up, what is being computed is waited for.

Owns the flights (texts that some request computes now) and the counts. A request leads the flights of the
texts that nobody else computes and follows the others'. A leader that fails or whose client leaves takes
nobody along: its followers lead or follow anew. Used by `known`; what is stored where is the store's matter.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

MOST_FOLLOWED = 2  # flights that a text may lose before its request computes it without waiting for others


@dataclass(frozen=True, slots=True)
class StoreCounts:
    """What a store tells of itself; None: it can't know."""

    up: bool
    evicted: int = 0
    expired: int = 0
    entries: int | None = None
    size_bytes: int | None = None
    failures: int = 0


class Store(Protocol):
    """Keeps values by key. Never raises: what can't be had is None, what can't be kept is dropped."""

    async def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The values in the keys' order, each as it was put, or None."""
        ...

    def put_many(self, values: Mapping[bytes, bytes]) -> None:
        """Keeps them, now or soon. Does not wait."""
        ...

    def counts(self) -> StoreCounts: ...

    async def close(self) -> None: ...


@dataclass(slots=True)
class TextCounts:
    """Texts since the start. Their sum is what was looked up."""

    hit: int = 0  # known
    joined: int = 0  # computed for another request at that time
    missed: int = 0  # computed


@dataclass(slots=True, eq=False)
class _Flight:
    rank: int
    landed: asyncio.Future[bytes | None]  # None: the leader has given up; never an exception


@dataclass(frozen=True, slots=True)
class Found:
    """The answers in the keys' order, and which of them this request did not compute."""

    values: list[bytes]
    shared: frozenset[int]
    store_s: float  # seconds with the store: looking up, and handing over what is new


@dataclass(slots=True)
class _Spent:
    """Seconds within its `with` blocks."""

    clock: Callable[[], float]
    total_s: float = 0.0
    _since_s: float = 0.0

    def __enter__(self) -> None:
        self._since_s = self.clock()

    def __exit__(self, *_: object) -> None:
        self.total_s += self.clock() - self._since_s


Compute = Callable[[Sequence[int]], Awaitable[Mapping[int, bytes]]]
"""Answers the texts of these indexes, all of them, or raises."""


@dataclass(slots=True)
class Flights:
    """One per process and store."""

    store: Store
    clock: Callable[[], float] = time.monotonic
    texts: TextCounts = field(default_factory=TextCounts)
    _open: dict[bytes, _Flight] = field(default_factory=dict)

    async def answers(
        self, keys: Sequence[bytes], rank: int, compute: Compute, deadline_s: float = math.inf
    ) -> Found:
        """Raises what `compute` raises, and TimeoutError when others have not computed by the deadline.

        `rank`: no flight of a lower one is followed: it may wait longer.
        """
        values: dict[int, bytes] = {}
        computed: set[int] = set()
        followed_flights = 0
        spent = _Spent(self.clock)
        while len(values) < len(keys):
            with spent:
                values |= await self._known({i: key for i, key in enumerate(keys) if i not in values})
            led: dict[int, _Flight] = {}
            followed: dict[int, _Flight] = {}
            mine: set[bytes] = set()
            for index, key in enumerate(keys):
                if index in values:
                    continue
                flight = self._open.get(key)
                may_follow = followed_flights < MOST_FOLLOWED and flight is not None and flight.rank >= rank
                if flight is not None and (may_follow or key in mine):
                    followed[index] = flight
                else:
                    led[index] = self._depart(key, rank)
                    mine.add(key)
            if led:
                values |= await self._lead(keys, led, compute, spent)
                computed |= led.keys()
            values |= await self._follow(followed, deadline_s)
            followed_flights += 1
        answers = [values[index] for index in range(len(keys))]
        return Found(answers, frozenset(values.keys() - computed), spent.total_s)

    async def _known(self, keys: Mapping[int, bytes]) -> Mapping[int, bytes]:
        found = zip(keys, await self.store.get_many(tuple(keys.values())), strict=True)
        values = {index: value for index, value in found if value is not None}
        self.texts.hit += len(values)
        return values

    def _depart(self, key: bytes, rank: int) -> _Flight:
        flight = self._open[key] = _Flight(rank, asyncio.get_running_loop().create_future())
        return flight

    async def _lead(
        self, keys: Sequence[bytes], led: Mapping[int, _Flight], compute: Compute, spent: _Spent
    ) -> Mapping[int, bytes]:
        self.texts.missed += len(led)
        values: Mapping[int, bytes] = {}
        try:
            values = await compute(tuple(led))
            with spent:
                self.store.put_many({keys[index]: value for index, value in values.items()})
        finally:
            for index, flight in led.items():
                if self._open.get(keys[index]) is flight:  # else another leads it by now
                    del self._open[keys[index]]
                flight.landed.set_result(values.get(index))
        return values

    async def _follow(self, followed: Mapping[int, _Flight], deadline_s: float) -> Mapping[int, bytes]:
        """The answers of the flights that had one."""
        if not followed:
            return {}
        left_s = None if deadline_s == math.inf else max(0.0, deadline_s - self.clock())
        # Unlike awaiting it, this cancels no flight when its follower is.
        _, late = await asyncio.wait({flight.landed for flight in followed.values()}, timeout=left_s)
        if late:
            raise TimeoutError
        landed = {index: flight.landed.result() for index, flight in followed.items()}
        values = {index: value for index, value in landed.items() if value is not None}
        self.texts.joined += len(values)
        return values
