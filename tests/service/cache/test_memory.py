"""Laws of the bounded cache: its bytes, its age limit, and what it keeps."""

from __future__ import annotations

import gc
import random
import tracemalloc
from collections import OrderedDict

from hypothesis import given
from hypothesis import strategies as st

from service.cache.memory import MemoryCache

KEYS = st.integers(0, 30).map(lambda number: number.to_bytes(32, "little"))
VALUES = st.binary(max_size=2000)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), KEYS, VALUES),
        st.tuples(st.just("get"), KEYS, st.just(b"")),
        st.tuples(st.just("wait"), st.just(b""), st.just(b"")),
    ),
    max_size=200,
)


@given(STEPS, st.integers(4_000, 40_000))
def test_it_gives_what_was_put_last_or_nothing_and_stays_in_bounds(
    steps: list[tuple[str, bytes, bytes]], capacity_bytes: int
) -> None:
    cache = MemoryCache(capacity_bytes, ttl_s=10.0)
    put: dict[bytes, tuple[bytes, float]] = {}
    now_s = 0.0
    for step, key, value in steps:
        match step:
            case "put":
                cache.put(key, value, now_s)
                put[key] = (value, now_s)
            case "get":
                got = cache.get(key, now_s)
                if got is not None:
                    last, at_s = put[key]
                    assert got == last
                    assert now_s < at_s + 10.0
            case _:
                now_s += 3.0
        assert cache.size_bytes <= capacity_bytes


@given(st.lists(KEYS, min_size=1, max_size=30, unique=True))
def test_nothing_goes_while_there_is_room(keys: list[bytes]) -> None:
    cache = MemoryCache(1_000_000)
    for number, key in enumerate(keys):
        cache.put(key, bytes([number]), 0.0)
    assert [cache.get(key, 1e9) for key in keys] == [bytes([number]) for number in range(len(keys))]
    assert cache.evicted == 0


def test_the_bytes_it_tells_are_at_least_those_it_takes() -> None:
    """Of small values, whose overhead counts most: twice as many as there is room for."""
    capacity_bytes = 4 * 1024**2
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        cache = MemoryCache(capacity_bytes, ttl_s=60.0)
        for number in range(20_000):
            key = number.to_bytes(32, "little")
            cache.put(key, bytes(20), float(number) * 1e-3)
            if number % 3 == 0:
                cache.get(key, float(number) * 1e-3)
                cache.get(key, float(number) * 1e-3)
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert cache.evicted > 0
    assert after - before <= capacity_bytes
    assert cache.size_bytes > 0.8 * capacity_bytes


def test_more_texts_are_known_than_the_least_recently_used_would_keep() -> None:
    """A third of the texts come only once; the others follow Zipf's law."""
    draw = random.Random(3)
    ranks = range(1, 5001)
    popular = draw.choices(ranks, [1 / rank for rank in ranks], k=60_000)
    asked = [number if draw.random() < 0.67 else 10_000 + at for at, number in enumerate(popular)]
    value = bytes(100)
    room = 500
    cache = MemoryCache(round(room * 500 / 0.9))  # as many entries in all as the other has
    recent: OrderedDict[int, None] = OrderedDict()
    hits = recent_hits = 0
    for number in asked:
        key = number.to_bytes(32, "little")
        if cache.get(key, 0.0) is None:
            cache.put(key, value, 0.0)
        else:
            hits += 1
        if number in recent:
            recent.move_to_end(number)
            recent_hits += 1
        else:
            recent[number] = None
            if len(recent) > room:
                recent.popitem(last=False)
    assert len(cache) <= room
    assert hits > 1.1 * recent_hits
