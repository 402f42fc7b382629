"""The card's clock beside the event loop: the newest word wins, and a card that can't be set harms nobody."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable

import pytest

from energy.gpu import GpuError, GpuGone, Refused
from service import clocks
from service.clocks import NOT_ALLOWED, CardClock


class Card:
    """Rounds to 100 MHz. Answers once it may, and fails as told."""

    def __init__(self) -> None:
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.asked: list[int] = []
        self.error: GpuError | None = None
        self.renew_s: float | None = None
        self.closed = False

    def lock(self, clock_mhz: int) -> int:
        self.asked.append(clock_mhz)
        assert self.may_answer.wait(10)
        if self.error:
            raise self.error
        return round(clock_mhz, -2)

    def restore(self) -> None:
        self.asked.append(0)

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def card() -> Card:
    return Card()


@contextlib.asynccontextmanager
async def running(clock: CardClock) -> AsyncIterator[CardClock]:
    task = asyncio.create_task(clock.run())
    yield clock
    task.cancel()
    await asyncio.wait({task})
    clock.close()


async def until(happened: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not happened():  # noqa: ASYNC110 - what it waits for comes from a thread
            await asyncio.sleep(0.001)


async def test_what_is_asked_for_comes_into_force(card: Card) -> None:
    async with running(CardClock(card)) as clock:
        clock.ask(1234)
        await until(lambda: clock.in_force_mhz == 1200)
        assert clock.refused == ""
        clock.ask(0)
        await until(lambda: clock.in_force_mhz == 0)
    assert (card.asked, card.closed) == ([1234, 0], True)


async def test_a_slow_card_is_told_only_the_newest_word(card: Card) -> None:
    card.may_answer.clear()
    async with running(CardClock(card)) as clock:
        clock.ask(1400)
        await until(lambda: card.asked == [1400])
        clock.ask(900)
        clock.ask(700)
        card.may_answer.set()
        await until(lambda: clock.in_force_mhz == 700)
    assert card.asked == [1400, 700]


async def test_a_card_that_refuses_is_asked_once(card: Card, caplog: pytest.LogCaptureFixture) -> None:
    card.error = Refused("Insufficient Permissions")
    async with running(CardClock(card)) as clock:
        for clock_mhz in (900, 1400, 900):
            clock.ask(clock_mhz)
            await until(lambda: clock.refused == "Insufficient Permissions")
            await asyncio.sleep(0)
        assert clock.in_force_mhz == 0
        clock.ask(0)
        assert clock.refused == "", "as it was to be"
    assert card.asked == [900]
    (record,) = caplog.records
    assert record.getMessage() == ("gpu-clocks: 900 MHz: Insufficient Permissions; serving on without")


async def test_a_card_that_failed_once_is_tried_again(card: Card, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clocks, "RETRY_S", 0.001)
    card.error = GpuError("Timeout")
    async with running(CardClock(card)) as clock:
        clock.ask(900)
        await until(lambda: clock.refused == "Timeout")
        card.error = None
        await until(lambda: clock.in_force_mhz == 900)
        assert clock.refused == ""


async def test_a_clock_that_does_not_last_is_asked_for_again_and_again(card: Card) -> None:
    card.renew_s = 0.001
    async with running(CardClock(card)) as clock:
        clock.ask(900)
        await until(lambda: len(card.asked) > 3)
        assert set(card.asked) == {900}
        clock.ask(0)
        await until(lambda: clock.in_force_mhz == 0)
        assert card.asked[-1] == 0, "nothing is held that would have to be renewed"


async def test_of_a_card_that_is_gone_no_clock_is_told(card: Card) -> None:
    async with running(CardClock(card)) as clock:
        clock.ask(900)
        await until(lambda: clock.in_force_mhz == 900)
        card.error = GpuGone("the agent is gone")
        clock.ask(1400)
        await until(lambda: clock.refused == "the agent is gone")
        assert clock.in_force_mhz == 0


async def test_without_the_flag_the_card_is_left_alone_and_that_is_said() -> None:
    async with running(CardClock(None)) as clock:
        assert clock.refused == ""
        clock.ask(900)
        await asyncio.sleep(0)
        assert (clock.in_force_mhz, clock.refused) == (0, NOT_ALLOWED)
