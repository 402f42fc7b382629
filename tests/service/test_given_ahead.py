"""The next batch is on its way before a worker is free, and no more than that one."""

from __future__ import annotations

import asyncio
import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.dispatch import Place
from service.engine import Engine
from service.queue import BatchLimits
from service.waiting import WaitingText
from service.workers import AHEAD_S, Engines, Work, Workers
from tests.eventually import happens
from tests.service.gated import Gate, entered, request, running, sharing


async def test_one_batch_at_most_is_given_ahead_and_none_of_a_device_that_workers_share() -> None:
    for apart, given_ahead in ((True, 1), (False, 0)):
        gate = Gate()
        async with running(Engines([Engine(gate, 0)] * 2, apart=apart), BatchLimits(1, 512, 0.0)) as batcher:
            computed = [asyncio.create_task(batcher.answer(request(5))) for _ in range(2)]
            await entered(gate, 2)  # both are about to end, for all that is known
            computed += [asyncio.create_task(batcher.answer(request(5))) for _ in range(3)]
            await happens(lambda: batcher.dispatcher.waiting_texts == 3 - given_ahead)  # noqa: B023 - run here
            gate.may_answer.set()
            await asyncio.gather(*computed)


async def test_what_waits_behind_the_first_batch_is_given_ahead_though_nothing_more_comes() -> None:
    gate = Gate()
    async with running(Engines([Engine(gate, 0)], apart=True), BatchLimits(1, 512, 0.0)) as batcher:
        batcher.dispatcher.service_time.observe(5, 0.02)
        answering = asyncio.create_task(batcher.answer(request(5, 5)))
        await entered(gate, 1)
        await happens(lambda: not batcher.waits)
        gate.may_answer.set()
        await answering


async def test_a_timer_that_ends_too_early_is_set_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """As uvloop's do, of whole milliseconds."""
    loop = asyncio.get_running_loop()
    later = loop.call_later
    monkeypatch.setattr(loop, "call_later", lambda wait_s, *given: later(0.9 * wait_s, *given))
    gate = Gate()
    async with running(Engines([Engine(gate, 0)], apart=True), BatchLimits(1, 512, 0.0)) as batcher:
        batcher.dispatcher.service_time.observe(5, 0.05)
        first = asyncio.create_task(batcher.answer(request(5)))
        await entered(gate, 1)
        second = asyncio.create_task(batcher.answer(request(5)))
        await happens(lambda: batcher.dispatcher.waiting_texts == 1)
        await happens(lambda: not batcher.waits)
        gate.may_answer.set()
        await asyncio.gather(first, second)


async def test_models_take_turns_at_who_is_free_next() -> None:
    """Who was served longest ago, not whose text came in the moment at which a worker is about to be free."""
    gate = Gate()
    engines, limits, workers = Engines([Engine(gate, 0)], apart=True), BatchLimits(1, 512, 0.0), Workers(1)
    workers.start()
    async with sharing(workers, engines, limits) as first, sharing(workers, engines, limits) as other:
        first.dispatcher.service_time.observe(5, 0.02)
        computed = [asyncio.create_task(first.answer(request(5)))]
        await entered(gate, 1)
        computed.append(asyncio.create_task(other.answer(request(5))))
        await asyncio.sleep(0.005)
        computed.append(asyncio.create_task(first.answer(request(5))))
        await asyncio.sleep(0)
        time.sleep(0.03)  # noqa: ASYNC251 - a long turn of the loop, in which the moment comes
        await happens(lambda: workers.ready_in_s() == math.inf)
        assert (first.waits, other.waits) == (True, False)
        gate.may_answer.set()
        await asyncio.gather(*computed)
    workers.stop()


@given(
    lasts_s=st.lists(st.floats(0.0, 1.0), max_size=4),
    count=st.integers(1, 3),
    now_s=st.floats(0.0, 1.0),
)
def test_workers_are_ready_shortly_before_the_next_is_free(
    lasts_s: list[float], count: int, now_s: float
) -> None:
    """Who idles is; else the first to be free is, until a batch waits for it."""
    clock = [0.0]
    workers, lane = Workers(count, lambda: clock[0]), Nothing()
    workers.join(lane)
    for number, last_s in enumerate(lasts_s[: count + 1]):
        work = Work((waiting(number),), Engines([], apart=True), lambda batch, outcome: None, last_s)
        workers.give(lane, work)
    clock[0] = now_s
    begun_s = sorted(max(0.0, last_s - now_s) for last_s in lasts_s[:count])
    if len(lasts_s) < count:
        assert workers.ready_in_s() == workers.free_in_s() == 0.0
        assert workers.left_s() == pytest.approx(sum(begun_s))
    elif len(lasts_s) == count:
        assert workers.free_in_s() == begun_s[0]
        assert workers.ready_in_s() == max(0.0, workers.free_in_s() - AHEAD_S)
        assert workers.left_s() == pytest.approx(sum(begun_s))
    else:
        assert workers.free_in_s() == min([begun_s[0] + lasts_s[count], *begun_s[1:]])
        assert workers.ready_in_s() == math.inf
        assert workers.left_s() == pytest.approx(sum(begun_s) + lasts_s[count])


async def test_what_is_given_ahead_is_predicted_from_when_it_begins() -> None:
    """Else each batch that takes longer than predicted adds to the error of all that follow it."""
    clock = [0.0]
    workers, lane = Workers(1, lambda: clock[0]), Nothing()
    workers.join(lane)
    gate = Gate()
    works = [
        Work((waiting(number),), Engines([Engine(gate, 0)], apart=True), lambda batch, outcome: None, 8.0)
        for number in range(2)
    ]
    workers.start()
    workers.give(lane, works[0])
    clock[0] = 7.999
    workers.give(lane, works[1])
    assert workers.left_s() == pytest.approx(0.001 + 8.0)
    assert workers.free_in_s() == pytest.approx(0.001 + 8.0)
    clock[0] = 12.0  # the first should have ended 4 s ago
    assert workers.left_s() == workers.free_in_s() == 8.0
    gate.may_answer.set()
    await entered(gate, 2)
    await happens(lambda: bool(workers.idle) or workers.ready_in_s() < math.inf)
    workers.stop()


class Nothing:
    """A lane that has nothing to give."""

    waits = False
    wanted_clock_mhz = 0

    def feed(self) -> bool:
        return False


def waiting(number: int) -> WaitingText[Place]:
    return WaitingText(Place(request(5), 0), 5, float(number), 0.0, math.inf)
