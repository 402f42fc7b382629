"""Many texts: packed in order, none lost, a bounded number under way."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minwatt.failures import InvalidRequest, Violation
from minwatt.packing import Pack, Packer, Window, in_order, in_order_async
from minwatt.results import Model, Reply, Usage

texts = st.lists(st.text(max_size=20), max_size=60)


def reply(asked: Sequence[str]) -> Reply[str]:
    results = tuple(text.upper() for text in asked)
    return Reply(results, Usage(0, 0, 0, len(asked), None, "unknown"), Model("m", "1", "int8"))


@given(texts, st.integers(1, 8), st.integers(1, 100))
def test_packs_hold_every_text_once_in_order(given: list[str], most_texts: int, most_bytes: int) -> None:
    packer = Packer(most_texts, most_bytes)
    packs = [pack for text in given for pack in packer.add(text)] + packer.rest()
    assert [text for pack in packs for text in pack.texts] == given
    offset = 0
    for pack in packs:
        assert pack.offset == offset
        offset += len(pack.texts)
        assert 1 <= len(pack.texts) <= most_texts
        assert len(pack.texts) == 1 or sum(len(text.encode()) for text in pack.texts) <= most_bytes
    assert packer.rest() == []


def test_a_full_pack_does_not_wait_for_the_next_text() -> None:
    packer = Packer(2, 10)
    assert packer.add("a") == []
    assert packer.add("b") == [Pack(0, ("a", "b"))]
    assert packer.add("x" * 9) == []
    assert packer.add("yy") == [Pack(2, ("x" * 9,))]


@given(texts, st.integers(1, 5), st.integers(1, 4))
def test_results_come_in_the_order_of_the_texts(given: list[str], per_request: int, in_flight: int) -> None:
    window = Window(per_request, in_flight)
    expected = [text.upper() for text in given]
    assert list(in_order(reply, given, window)) == expected

    async def ask(asked: Sequence[str]) -> Reply[str]:
        await asyncio.sleep(0)
        return reply(asked)

    async def source() -> AsyncIterator[str]:
        for text in given:
            yield text

    async def both() -> None:
        assert [result async for result in in_order_async(ask, given, window)] == expected
        assert [result async for result in in_order_async(ask, source(), window)] == expected

    asyncio.run(both())


async def test_no_more_than_the_window_is_under_way_and_texts_are_read_as_it_moves() -> None:
    under_way, most, read = 0, 0, 0

    async def ask(asked: Sequence[str]) -> Reply[str]:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0)
        under_way -= 1
        return reply(asked)

    def endless() -> Iterator[str]:
        nonlocal read
        while True:
            read += 1
            yield "a"

    results = in_order_async(ask, endless(), Window(2, 3))
    assert [await anext(results) for _ in range(20)] == ["A"] * 20
    assert most <= 3
    assert read <= 20 + 2 * (3 + 1)


def test_threads_too_are_bounded_and_gone_at_the_end() -> None:
    lock, under_way, most = threading.Lock(), 0, 0
    before = threading.active_count()

    def ask(asked: Sequence[str]) -> Reply[str]:
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        with lock:
            under_way -= 1
        return reply(asked)

    assert len(list(in_order(ask, ["a"] * 100, Window(1, 4)))) == 100
    assert most <= 4
    assert threading.active_count() == before


async def test_a_failure_names_the_text_by_its_place_in_all_texts() -> None:
    def ask(asked: Sequence[str]) -> Reply[str]:
        if "" in asked:
            place = f"texts[{asked.index('')}]"
            raise InvalidRequest("INVALID_ARGUMENT", f"{place}: is empty", (Violation(place, "is empty"),))
        return reply(asked)

    async def ask_async(asked: Sequence[str]) -> Reply[str]:
        return ask(asked)

    given = ["a"] * 7 + [""] + ["a"] * 9
    seen: list[str] = []
    with pytest.raises(InvalidRequest, match=r"texts\[7\]: is empty") as raised:
        seen.extend(in_order(ask, given, Window(3, 2)))
    assert raised.value.violations == (Violation("texts[7]", "is empty"),)
    assert raised.value.code == "INVALID_ARGUMENT"
    results = in_order_async(ask_async, given, Window(3, 2))
    seen = []

    async def see_all() -> None:
        async for result in results:
            seen.append(result)

    with pytest.raises(InvalidRequest, match=r"texts\[7\]: is empty"):
        await see_all()
    assert seen == ["A"] * 6, "what came before the failed request is had"


@pytest.mark.parametrize(("per_request", "in_flight"), [(0, 1), (1, 0)])
def test_a_window_of_nothing_is_named(per_request: int, in_flight: int) -> None:
    with pytest.raises(ValueError, match="= 0: allowed: 1 or more"):
        Window(per_request, in_flight)


def test_one_string_is_not_many_texts() -> None:
    with pytest.raises(TypeError, match="an iterable of strings"):
        in_order(reply, "hello", Window(1, 1))
