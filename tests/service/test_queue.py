"""When which texts leave."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.company import Company, CompanyLimits, Everyone
from service.flows import FairClass, Flow
from service.queue import BatchLimits, BatchQueue, padded_tokens
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


@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=6),
    due_s=st.floats(0.0, 0.1),
    max_padded_tokens=st.integers(20, 300),
)
def test_who_rides_is_the_same_whether_all_or_some_are_chosen(
    lengths: list[int], due_s: float, max_padded_tokens: int
) -> None:
    texts = [text(str(index), size, due_s=due_s) for index, size in enumerate(lengths)]
    fair: FairClass[str] = FairClass()
    for order, one in enumerate(texts):
        one.order = order
        fair.add(one)
    flow = fair.next_flow()
    assert flow is not None
    limits = CompanyLimits.of(5, max_padded_tokens, max_padded_tokens, CPU)
    everyone, company = Everyone(fair, flow), Company(flow.first(), flow, limits)
    company.invite(fair)
    company.cut()
    assert everyone.fits(limits) <= (company.size == len(texts))
    if everyone.fits(limits):
        assert (everyone.padded_tokens, everyone.token_bound) == (company.padded_tokens, company.token_bound)
        assert company.leave() == everyone.leave()
        assert fair.texts == fair.tokens == 0


def test_all_are_not_listed_where_more_wait_than_a_batch_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = []

    class Seen(Everyone[str]):
        def __init__(self, fair: FairClass[str], flow: Flow[str]) -> None:
            listed.append(len(flow.by_due))
            super().__init__(fair, flow)

    monkeypatch.setattr("service.queue.Everyone", Seen)
    queue = queue_of(*(text(str(index)) for index in range(10)))
    limits = BatchLimits(4, 512, 0.0)
    assert [len(queue.poll(0.0, limits, CPU).batch) for _ in range(3)] == [4, 4, 2]
    assert listed == [2]


def test_padding_is_worth_it_where_a_batch_of_its_own_costs_more() -> None:
    gpu = ServiceTime(alpha_s=0.002, beta_s_per_token=0.000001)
    queue = queue_of(text("short", 10), text("long", 200))
    assert len(queue.poll(0.0, BatchLimits(4, 2048, 0.0), gpu).batch) == 2


def test_a_batch_is_cut_where_two_cost_less() -> None:
    """Each of the short ones wastes little, but together they save more than another batch costs."""
    dear = ServiceTime(alpha_s=0.001, beta_s_per_token=1 / 40_000)  # 40 tokens
    queue = queue_of(*(text(f"long {i}", 16) for i in range(8)), *(text(f"short {i}", 10) for i in range(8)))
    limits = BatchLimits(16, 2048, 0.0)
    assert {one.tokens for one in queue.poll(0.0, limits, dear).batch} == {16}
    assert {one.tokens for one in queue.poll(0.0, limits, dear).batch} == {10}


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


SMALL = ServiceTime(alpha_s=0.00103, beta_s_per_token=0.000139)  # as measured of support-text on one core


@given(st.lists(st.integers(3, 120), min_size=1, max_size=40), st.integers(1, 16))
def test_two_batches_would_not_cost_less_than_the_one_that_leaves(tokens: list[int], max_texts: int) -> None:
    queue = queue_of(*(text(str(index), size, due_s=0.05 + index) for index, size in enumerate(tokens)))
    batch = list(queue.poll(0.0, BatchLimits(max_texts, 2048, 0.0), SMALL).batch)
    assert "0" in {one.payload for one in batch}  # it is due first
    together_s = SMALL.batch_s(padded_tokens(batch))
    for cut in range(1, len(batch)):
        apart_s = sum(SMALL.batch_s(padded_tokens(part)) for part in (batch[:cut], batch[cut:]))
        assert together_s <= apart_s + 1e-9


@pytest.mark.parametrize("waiting", [8, 32, 64])
def test_little_is_padding_where_lengths_are_mixed(waiting: int) -> None:
    """p50 15 tokens, p99 60; who is answered asks anew. At most a tenth is padding."""
    draw = random.Random(1)
    queue: BatchQueue[str] = BatchQueue()
    tokens = padded = 0
    for turn in range(1500):
        while len(queue) < waiting:
            queue.add(text("", max(3, round(draw.lognormvariate(math.log(15), 0.6))), due_s=turn + 0.05))
        batch = list(queue.poll(turn, BatchLimits(16, 2048, 0.0), SMALL).batch)
        tokens += sum(one.tokens for one in batch)
        padded += padded_tokens(batch)
    assert 1 - tokens / padded <= 0.1
