"""Known answers in this process, bounded by bytes. Pure: time is an argument.

Which ones stay is decided by S3-FIFO (Yang et al., "FIFO queues are all you need for cache eviction", SOSP
2023, algorithm 1): most texts come once, so a new one must prove itself in a small queue before it may take
room from those that come again. Read by `flights` through `MemoryStore`.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from service.cache.flights import StoreCounts

SMALL_SHARE = 0.1  # of the bytes, for entries that have not come again yet; the paper's
GHOST_SHARE = 0.1  # of the bytes, for keys of entries that were evicted from there
MOST_FREQUENCY = 3  # two bits
ENTRY_BYTES = 400  # beside the value: key, slots of the dict and the queue, object headers; held by a test
GHOST_BYTES = 260  # the same of a ghost


@dataclass(slots=True, eq=False)
class _Entry:
    key: bytes
    value: bytes
    expires_s: float
    frequency: int = 0
    main: bool = False

    @property
    def size_bytes(self) -> int:
        return ENTRY_BYTES + len(self.value)


class MemoryCache:
    """Keys to values. What it takes in all, its own objects included, stays under `capacity_bytes`."""

    def __init__(self, capacity_bytes: int, ttl_s: float = math.inf) -> None:
        self._ttl_s = ttl_s
        self._room_bytes = int(capacity_bytes * (1 - GHOST_SHARE))
        self._small_room_bytes = int(capacity_bytes * SMALL_SHARE)
        self._ghost_room = int(capacity_bytes * GHOST_SHARE) // GHOST_BYTES
        self._entries: dict[bytes, _Entry] = {}
        self._small: deque[_Entry] = deque()
        self._main: deque[_Entry] = deque()
        self._ghosts: OrderedDict[bytes, None] = OrderedDict()
        self._small_bytes = 0
        self._main_bytes = 0
        self.evicted = 0  # entries that had to make room
        self.expired = 0  # entries that were too old when asked for or met

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def size_bytes(self) -> int:
        return self._small_bytes + self._main_bytes + len(self._ghosts) * GHOST_BYTES

    def get(self, key: bytes, now_s: float) -> bytes | None:
        """The value; None if it is not there or too old."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry.expires_s <= now_s:
            return None  # it leaves when its queue comes to it, or is overwritten before
        entry.frequency = min(entry.frequency + 1, MOST_FREQUENCY)
        return entry.value

    def put(self, key: bytes, value: bytes, now_s: float) -> None:
        """Keeps the value, or drops it at once when it alone is over the small queue's room."""
        entry = self._entries.get(key)
        if entry is not None:
            self._count(entry, len(value) - len(entry.value))
            entry.value, entry.expires_s = value, now_s + self._ttl_s
        else:
            entry = _Entry(key, value, now_s + self._ttl_s)
            if entry.size_bytes > self._small_room_bytes:
                return
            entry.main = key in self._ghosts
            if entry.main:
                del self._ghosts[key]
            self._entries[key] = entry
            self._queue(entry)
        while self._small_bytes + self._main_bytes > self._room_bytes:
            self._evict(now_s)

    def _queue(self, entry: _Entry) -> None:
        (self._main if entry.main else self._small).append(entry)
        self._count(entry, entry.size_bytes)

    def _count(self, entry: _Entry, more_bytes: int) -> None:
        if entry.main:
            self._main_bytes += more_bytes
        else:
            self._small_bytes += more_bytes

    def _evict(self, now_s: float) -> None:
        """Looks at the oldest entry of a queue: it goes, or stays for what it was asked for."""
        if self._small and (self._small_bytes > self._small_room_bytes or not self._main):
            entry = self._small.popleft()
            self._count(entry, -entry.size_bytes)
            if entry.expires_s > now_s and entry.frequency > 1:
                entry.main, entry.frequency = True, 0
                self._queue(entry)
                return
            self._remember(entry.key)
        else:
            entry = self._main.popleft()
            self._count(entry, -entry.size_bytes)
            if entry.expires_s > now_s and entry.frequency > 0:
                entry.frequency -= 1
                self._queue(entry)
                return
        del self._entries[entry.key]
        if entry.expires_s > now_s:
            self.evicted += 1
        else:
            self.expired += 1

    def _remember(self, key: bytes) -> None:
        self._ghosts[key] = None
        while len(self._ghosts) > self._ghost_room:
            self._ghosts.popitem(last=False)


class MemoryStore:
    """A `MemoryCache` as the store of one event loop."""

    def __init__(self, cache: MemoryCache, clock: Callable[[], float]) -> None:
        self._cache = cache
        self._clock = clock

    async def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        now_s = self._clock()
        return [self._cache.get(key, now_s) for key in keys]

    def put_many(self, values: Mapping[bytes, bytes]) -> None:
        now_s = self._clock()
        for key, value in values.items():
            self._cache.put(key, value, now_s)

    def counts(self) -> StoreCounts:
        return StoreCounts(
            up=True,
            evicted=self._cache.evicted,
            expired=self._cache.expired,
            entries=len(self._cache),
            size_bytes=self._cache.size_bytes,
        )

    async def close(self) -> None:
        """Nothing to let go of."""
