"""Laws of sharing: between tenants by weight, between classes by who waits for the answer."""

from __future__ import annotations

import math
from collections import Counter

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from service.company import ESTABLISHED
from service.queue import BATCH_TURN, BatchLimits, BatchQueue
from service.service_time import ServiceTime
from service.waiting import Share, WaitingText

LATER_S = 1e6
LIMITS = BatchLimits(max_texts=8, max_padded_tokens=256, max_delay_s=0.0)
CPU = ServiceTime(alpha_s=0.001, beta_s_per_token=0.00002)
NO_PADDING = ServiceTime(alpha_s=0.0, beta_s_per_token=0.00002)  # then only equal lengths ride together

weights = st.sampled_from([0.5, 1.0, 2.0, 5.0])
lengths = st.integers(1, 64)
times = st.builds(ServiceTime, st.sampled_from([0.0, 0.001, 0.02]), st.sampled_from([2e-6, 2e-5, 2e-4]))
shares = st.builds(Share, st.sampled_from("abc"), weights, st.booleans())


class Line:
    """A queue, and what left it."""

    def __init__(self, limits: BatchLimits = LIMITS, service_time: ServiceTime = CPU) -> None:
        self.queue: BatchQueue[str] = BatchQueue()
        self.limits = limits
        self.service_time = service_time

    def add(self, share: Share, tokens: int, due_s: float = LATER_S, name: str = "") -> WaitingText[str]:
        text = WaitingText(name, tokens, 0.0, due_s, math.inf, share)
        self.queue.add(text)
        return text

    def poll(self, now_s: float = 0.0) -> tuple[WaitingText[str], ...]:
        return self.queue.poll(now_s, self.limits, self.service_time).batch


@settings(max_examples=50)
@given(
    st.lists(weights, min_size=2, max_size=4),
    st.one_of(st.just(()), st.lists(lengths, min_size=4, max_size=8)),
    st.integers(1, 40),
    st.randoms(use_true_random=False),
)
def test_tenants_that_wait_get_tokens_by_weight(
    weights: list[float], mixed: list[int], polls: int, draw: object
) -> None:
    """Apart by no more than a full batch and a text of each, whatever the lengths and the flood's size."""
    line = Line(service_time=NO_PADDING if mixed else CPU)
    choose = getattr(draw, "choice")  # noqa: B009 - hypothesis' Random
    served: Counter[str] = Counter()
    waiting: Counter[str] = Counter()
    for _ in range(polls):
        for index, weight in enumerate(weights):
            share = Share(str(index), weight)
            for _ in range((index + 1) * LIMITS.max_texts - waiting[share.tenant]):  # a full batch of each
                line.add(share, choose(mixed) if mixed else 10)
                waiting[share.tenant] += 1
        for text in line.poll():
            served[text.share.tenant] += text.tokens
            waiting[text.share.tenant] -= 1
    a_batch_and_a_text = LIMITS.max_padded_tokens + 64
    for i, one in enumerate(weights):
        for j, other in enumerate(weights):
            apart = abs(served[str(i)] / one - served[str(j)] / other)
            assert apart <= a_batch_and_a_text / one + a_batch_and_a_text / other + 1e-6


@given(st.integers(1, 400), lengths, st.lists(lengths, min_size=1, max_size=20))
def test_a_flood_does_not_hold_up_another_tenant(flood: int, own: int, others: list[int]) -> None:
    """A text of a tenant that is not behind rides in the first batch or the second."""
    line = Line()
    for index in range(flood):
        line.add(Share("flood"), others[index % len(others)], due_s=0.0)
    line.poll()
    text = line.add(Share("quiet"), own)
    assert any(text in line.poll() for _ in range(2))


@given(st.integers(1, 400), st.integers(1, 64), weights, weights)
def test_what_is_predicted_to_go_first_is_by_weight_too(
    flood: int, own: int, quiet: float, loud: float
) -> None:
    line = Line()
    for _ in range(flood):
        line.add(Share("flood", loud), 10)
    before = line.queue.tokens_before(Share("quiet", quiet), own, LATER_S)
    assert before <= min(10 * flood, own * loud / quiet) + 1e-6
    assert line.queue.tokens_before(Share("flood", loud), own, LATER_S) == 10 * flood
    assert line.queue.tokens_before(Share("flood", loud), own, 0.0) == 0, "who is due first goes first"


@given(st.lists(st.tuples(shares, lengths, st.floats(0, 1)), max_size=60), times, st.floats(0, 1))
def test_an_idle_engine_never_waits_and_everybody_leaves_once(
    texts: list[tuple[Share, int, float]], service_time: ServiceTime, now_s: float
) -> None:
    line = Line(service_time=service_time)
    added = [line.add(share, tokens, due_s) for share, tokens, due_s in texts]
    left: list[WaitingText[str]] = []
    while len(line.queue):
        batch = line.poll(now_s)
        assert batch, "texts wait, and the engine is idle"
        assert len(batch) <= LIMITS.max_texts
        assert len(batch) == 1 or len(batch) * max(t.tokens for t in batch) <= LIMITS.max_padded_tokens
        left += batch
    assert sorted(map(id, left)) == sorted(map(id, added))
    assert line.queue.tokens == 0
    assert line.poll(now_s) == ()


@example(
    [(Share("a", 0.5), 4), (Share("a", 0.5), 8), (Share("a", 0.5), 10), (Share("a", 0.5, batch=True), 7)],
    ServiceTime(0.001, 0.0002),
)
@given(st.lists(st.tuples(shares, lengths), min_size=1, max_size=60), times)
def test_batch_takes_only_places_that_would_stay_empty(
    texts: list[tuple[Share, int]], service_time: ServiceTime
) -> None:
    """While interactive texts stay behind, it rides until the batch is worth its start and no longer."""
    line = Line(service_time=service_time)
    for share, tokens in texts:
        line.add(share, tokens)
    while len(line.queue):
        waiting = line.queue.interactive.texts
        batch = line.poll()
        interactive = [text for text in batch if not text.share.batch]
        if waiting:
            assert interactive
        if line.queue.interactive.texts and len(interactive) < len(batch):
            padded = len(batch) * max(text.tokens for text in batch)
            assert padded <= ESTABLISHED * service_time.worth_padding_tokens


@given(st.integers(1, 5), st.lists(lengths, min_size=1, max_size=8))
def test_an_overdue_text_of_batch_leads_in_its_turn(texts: int, others: list[int]) -> None:
    """Under an endless stream of interactive texts each of them leaves within its turn."""
    line = Line(BatchLimits(1, 256, 0.0))
    late = [line.add(Share("night", batch=True), 64, due_s=1.0) for _ in range(texts)]
    gone = 0
    for polls in range(1, texts * BATCH_TURN + 1):
        line.add(Share("day"), others[polls % len(others)], due_s=50.0)
        line.add(Share("day"), others[polls % len(others)], due_s=50.0)
        gone += line.poll(100.0)[0] in late
        assert gone <= polls // BATCH_TURN + 1, "and never in more than its turn"
    assert gone == texts


@settings(max_examples=30)
@given(st.integers(2, 60))
def test_many_tenants_each_have_their_turn(tenants: int) -> None:
    line = Line()
    for index in range(tenants):
        for _ in range(3):
            line.add(Share(f"{index}"), 10)
    first = Counter(text.share.tenant for _ in range(-(-tenants // 8)) for text in line.poll())
    assert len(first) >= min(tenants, 8)
    while len(line.queue):
        line.poll()


def test_idleness_earns_no_credit() -> None:
    line = Line(BatchLimits(1, 256, 0.0))
    for _ in range(100):
        line.add(Share("busy"), 10)
    for _ in range(50):
        line.poll()
    for _ in range(10):
        line.add(Share("late"), 10)
    next_ten = Counter(line.poll()[0].share.tenant for _ in range(10))
    assert next_ten == pytest.approx({"busy": 5, "late": 5}, abs=1)


def test_places_left_by_who_goes_first_are_free() -> None:
    """Texts that don't fit the one furthest behind don't leave its batches empty, and cost nothing."""
    gpu = ServiceTime(alpha_s=0.002, beta_s_per_token=0.00002)  # a batch of 400 tokens is worth its start
    line = Line(BatchLimits(8, 300, 0.0), gpu)
    for _ in range(100):
        line.add(Share("ahead", weight=0.001), 10)
    for _ in range(4):
        line.poll()
    for _ in range(4):
        line.add(Share("behind"), 290)
        line.add(Share("behind"), 30)
    together = [{text.share.tenant for text in line.poll()} for _ in range(6)]  # one is led by "ahead"
    assert {"ahead", "behind"} in together
    assert sum("behind" in tenants for tenants in together) == 5
