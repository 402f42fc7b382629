"""When which texts leave."""

from __future__ import annotations

import math

import pytest

from service.queue import BatchLimits, BatchQueue
from service.service_time import ServiceTime
from service.waiting import WaitingText

CPU = ServiceTime(alpha_s=0.001, beta_s_per_token=0.00002)  # 50 tokens of padding cost as much as a batch


def text(name: str, tokens: int = 10, arrived_s: float = 0.0, due_s: float = 0.05) -> WaitingText[str]:
    return WaitingText(name, tokens, arrived_s, due_s, math.inf)


def queue_of(*texts: WaitingText[str]) -> BatchQueue[str]:
    queue: BatchQueue[str] = BatchQueue()
    for one in texts:
        queue.add(one)
    return queue


def leaving(queue: BatchQueue[str], now_s: float, limits: BatchLimits) -> set[str]:
    return {one.payload for one in queue.poll(now_s, limits, CPU).batch}


PATIENT = BatchLimits(max_texts=4, max_padded_tokens=512, max_delay_s=1.0)


def test_an_empty_queue_has_nothing_due() -> None:
    assert queue_of().poll(0.0, PATIENT, CPU).wake_at_s is None


def test_a_full_batch_leaves_at_once() -> None:
    assert leaving(queue_of(*(text(name) for name in "abcd")), 0.0, PATIENT) == set("abcd")


def test_a_batch_is_full_when_the_next_text_exceeds_the_tokens() -> None:
    queue = queue_of(*(text(name, tokens=50) for name in "abc"))
    assert leaving(queue, 0.0, BatchLimits(8, 100, 1.0)) == set("ab")
    assert leaving(queue, 0.0, BatchLimits(8, 100, 1.0)) == set()  # c waits for company


def test_a_batch_leaves_when_the_slack_is_used_up() -> None:
    queue = queue_of(text("a", due_s=0.05))
    wake_at_s = queue.poll(0.0, PATIENT, CPU).wake_at_s
    assert wake_at_s == pytest.approx(0.05 - CPU.batch_s(10))
    assert wake_at_s is not None
    assert leaving(queue, wake_at_s, PATIENT) == {"a"}


def test_a_batch_leaves_after_the_delay() -> None:
    queue = queue_of(text("a", arrived_s=0.01))
    limits = BatchLimits(4, 512, max_delay_s=0.005)
    assert queue.poll(0.012, limits, CPU).wake_at_s == pytest.approx(0.015)
    assert leaving(queue, 0.015, limits) == {"a"}


def test_no_delay_means_at_once() -> None:
    assert leaving(queue_of(text("a")), 0.0, BatchLimits(4, 512, 0.0)) == {"a"}


def test_similar_lengths_ride_together_and_who_is_due_first_rides() -> None:
    queue = queue_of(
        text("short 1", 10, due_s=0.05), text("long 1", 200, due_s=0.06), text("short 2", 12, due_s=0.07),
        text("long 2", 210, due_s=0.08),
    )  # fmt: skip
    limits = BatchLimits(4, 2048, 0.0)
    assert leaving(queue, 0.0, limits) == {"short 1", "short 2"}
    assert leaving(queue, 0.0, limits) == {"long 1", "long 2"}


def test_padding_is_worth_it_where_a_batch_of_its_own_costs_more() -> None:
    gpu = ServiceTime(alpha_s=0.002, beta_s_per_token=0.000001)
    queue = queue_of(text("short", 10), text("long", 200))
    assert len(queue.poll(0.0, BatchLimits(4, 2048, 0.0), gpu).batch) == 2


def test_company_does_not_make_late_who_is_due_first() -> None:
    slow = ServiceTime(alpha_s=0.0, beta_s_per_token=0.0001)  # 1 ms a text
    limits = BatchLimits(100, 10_000, 1.0)
    queue = queue_of(*(text(str(i), 10, due_s=0.0405) for i in range(50)))
    assert len(queue.poll(0.0, limits, slow).batch) == 40
    late = queue_of(*(text(str(i), 10, due_s=-1.0) for i in range(50)))
    assert (
        len(late.poll(0.0, limits, slow).batch) == 50
    )  # nothing to save: the largest batch clears it soonest


def test_a_text_over_the_token_bound_rides_alone() -> None:
    assert leaving(queue_of(text("a", 600), text("b", 10)), 0.0, BatchLimits(4, 512, 0.0)) == {"a"}


def test_a_deadline_that_cannot_be_met_is_not_computed() -> None:
    queue = queue_of(WaitingText("late", 10, 0.0, 0.001, 0.001), text("a"))
    poll = queue.poll(0.0005, BatchLimits(4, 512, 0.0), CPU)
    assert [one.payload for one in poll.expired] == ["late"]
    assert [one.payload for one in poll.batch] == ["a"]


def test_discarded_texts_are_gone() -> None:
    gone = text("a", 10)
    queue = queue_of(gone, text("b", 20))
    queue.discard([gone, gone])
    assert (len(queue), queue.tokens) == (1, 20)
