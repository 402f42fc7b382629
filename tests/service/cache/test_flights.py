"""Each text is computed once, whoever asks, leaves or fails meanwhile."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.cache.flights import Flights
from service.cache.memory import MemoryCache, MemoryStore


class BrokenError(Exception):
    """What a computation may end with."""


def flights() -> Flights:
    return Flights(MemoryStore(MemoryCache(1024**2), time.monotonic))


class Engine:
    """Computes when let; `computed` lists the keys in the order in which they were asked for."""

    def __init__(self) -> None:
        self.computed: list[bytes] = []
        self.go = asyncio.Event()
        self.fail = 0

    def on(self, keys: Sequence[bytes]):  # type: ignore[no-untyped-def]
        async def compute(indexes: Sequence[int]) -> Mapping[int, bytes]:
            self.computed += [keys[index] for index in indexes]
            await self.go.wait()
            if self.fail:
                self.fail -= 1
                raise BrokenError
            return {index: b"answer to " + keys[index] for index in indexes}

        return compute


async def settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_of_the_same_texts_asked_at_once_each_is_computed_once() -> None:
    known, engine = flights(), Engine()
    asks = [(b"a", b"b"), (b"b", b"c", b"b"), (b"a",), (b"c", b"a")]
    tasks = [asyncio.ensure_future(known.answers(keys, 1, engine.on(keys))) for keys in asks]
    await settled()
    engine.go.set()
    found = await asyncio.gather(*tasks)
    assert sorted(engine.computed) == [b"a", b"b", b"c"]
    assert [one.values for one in found] == [[b"answer to " + key for key in keys] for keys in asks]
    assert [sorted(one.shared) for one in found] == [[], [0, 2], [0], [0, 1]]
    again = await known.answers((b"a", b"d"), 1, engine.on((b"a", b"d")))
    assert (engine.computed[3:], again.shared) == ([b"d"], {0})
    assert (known.texts.hit, known.texts.joined, known.texts.missed) == (1, 5, 4)


@pytest.mark.parametrize("end", ["cancelled", "failed"])
async def test_a_leader_takes_nobody_along(end: str) -> None:
    known, engine = flights(), Engine()
    leader, *followers = (
        asyncio.ensure_future(known.answers((b"a",), 1, engine.on((b"a",)))) for _ in range(4)
    )
    await settled()
    assert engine.computed == [b"a"]
    if end == "cancelled":
        leader.cancel()
        await settled()
        assert engine.computed == [b"a", b"a"]  # one follower has taken over, the others follow it
    engine.fail = int(end == "failed")
    engine.go.set()
    found = await asyncio.gather(*followers)
    assert [one.values for one in found] == [[b"answer to a"]] * 3
    assert engine.computed == [b"a", b"a"]
    with pytest.raises(asyncio.CancelledError if end == "cancelled" else BrokenError):
        await leader


async def test_a_follower_that_leaves_disturbs_nobody() -> None:
    known, engine = flights(), Engine()
    leader, leaving, staying = (
        asyncio.ensure_future(known.answers((b"a",), 1, engine.on((b"a",)))) for _ in range(3)
    )
    await settled()
    leaving.cancel()
    await settled()
    engine.go.set()
    assert (await leader).values == (await staying).values == [b"answer to a"]
    assert leaving.cancelled()
    assert engine.computed == [b"a"]


async def test_a_follower_waits_no_longer_than_its_deadline() -> None:
    known, engine = flights(), Engine()
    leader = asyncio.ensure_future(known.answers((b"a",), 1, engine.on((b"a",))))
    await settled()
    with pytest.raises(TimeoutError):
        await known.answers((b"a",), 1, engine.on((b"a",)), deadline_s=time.monotonic() + 0.01)
    engine.go.set()
    assert (await leader).values == [b"answer to a"]
    assert engine.computed == [b"a"]


async def test_a_text_that_always_fails_fails_each_request_after_few_tries() -> None:
    known, engine = flights(), Engine()
    engine.fail = 1000
    engine.go.set()
    tasks = [asyncio.ensure_future(known.answers((b"a",), 1, engine.on((b"a",)))) for _ in range(20)]
    ends = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 5)
    assert all(isinstance(end, BrokenError) for end in ends)
    assert len(engine.computed) == 20  # each tried once itself
    engine.fail = 0
    assert (await known.answers((b"a",), 1, engine.on((b"a",)))).values == [b"answer to a"]


async def test_no_flight_of_a_lower_rank_is_followed() -> None:
    known, engine = flights(), Engine()
    low = asyncio.ensure_future(known.answers((b"a",), 0, engine.on((b"a",))))
    await settled()
    high = asyncio.ensure_future(known.answers((b"a",), 1, engine.on((b"a",))))
    low_too = asyncio.ensure_future(known.answers((b"a",), 0, engine.on((b"a",))))
    await settled()
    assert engine.computed == [b"a", b"a"]
    engine.go.set()
    found = await asyncio.gather(low, high, low_too)
    assert [bool(one.shared) for one in found] == [False, False, True]


ASKS = st.lists(
    st.tuples(
        st.lists(st.sampled_from([b"a", b"b", b"c", b"d"]), min_size=1, max_size=4),
        st.integers(0, 1),  # rank
        st.sampled_from(["stay", "stay", "leave", "fail"]),
        st.integers(0, 3),  # turns of the loop before it comes
    ),
    min_size=1,
    max_size=10,
)


@given(ASKS)
def test_whoever_stays_and_does_not_fail_itself_is_answered(
    asks: list[tuple[list[bytes], int, str, int]],
) -> None:
    async def play() -> None:
        known = flights()

        async def ask(keys: list[bytes], rank: int, end: str, turns: int) -> list[bytes]:
            async def compute(indexes: Sequence[int]) -> Mapping[int, bytes]:
                for _ in range(3):
                    await asyncio.sleep(0)
                if end == "fail":
                    raise BrokenError
                return {index: b"answer to " + keys[index] for index in indexes}

            for _ in range(turns):
                await asyncio.sleep(0)
            return (await known.answers(keys, rank, compute)).values

        tasks = [asyncio.ensure_future(ask(*one)) for one in asks]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        for task, (_, _, end, _) in zip(tasks, asks, strict=True):
            if end == "leave":
                task.cancel()
        ends = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 5)
        for got, (keys, _, end, _) in zip(ends, asks, strict=True):
            if end == "stay" or not isinstance(got, BaseException):
                assert got == [b"answer to " + key for key in keys]
        assert not known._open

    asyncio.run(play())
