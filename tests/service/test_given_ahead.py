"""The next batch is on its way before a worker is free, and no more than that one."""

from __future__ import annotations

import asyncio
import math

from hypothesis import given
from hypothesis import strategies as st

from service.dispatch import Place
from service.engine import Engine
from service.queue import BatchLimits, WaitingText
from service.workers import AHEAD_S, Engines, Work, Workers
from tests.eventually import happens
from tests.service.gated import Gate, entered, request, running


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
    ends_s: list[float] = []
    for number, last_s in enumerate(lasts_s[: count + 1]):
        begins_s = 0.0 if number < count else sorted(ends_s)[0]
        ends_s.append(begins_s + last_s)
        work = Work((waiting(number),), Engines([], apart=True), lambda batch, outcome: None, ends_s[-1])
        workers.give(lane, work)
    clock[0] = now_s
    if len(ends_s) < count:
        assert workers.ready_in_s() == workers.free_in_s() == 0.0
    elif len(ends_s) == count:
        assert workers.free_in_s() == max(0.0, min(ends_s) - now_s)
        assert workers.ready_in_s() == max(0.0, workers.free_in_s() - AHEAD_S)
    else:
        assert workers.free_in_s() == max(0.0, sorted(ends_s)[1] - now_s)
        assert workers.ready_in_s() == math.inf


class Nothing:
    """A lane that has nothing to give."""

    waits = False
    wanted_clock_mhz = 0

    def feed(self) -> bool:
        return False


def waiting(number: int) -> WaitingText[Place]:
    return WaitingText(Place(request(5), 0), 5, float(number), 0.0, math.inf)
