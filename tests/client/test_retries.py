"""Retries come when they help: not before the server asked, not after the deadline, not as a flood."""

from __future__ import annotations

import random

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minwatt.attempts import Sender
from minwatt.failures import Overloaded, RequestFailed, Unavailable, Violation
from minwatt.retries import MAX_BACKOFF_S, BudgetRules, RetryBudget, wait_s

CODES = [code.name for code in grpc.StatusCode if code is not grpc.StatusCode.OK]

attempts = st.integers(1, 10_000)
lefts = st.floats(-5, 1000)
jitters = st.floats(0, 1, exclude_max=True)
asked = st.none() | st.floats(0, 100)
failures = st.builds(RequestFailed, st.sampled_from(CODES), st.just(""), retry_after_s=asked)


@given(failures, attempts, lefts, st.booleans(), jitters)
def test_a_retry_fits_what_was_asked_and_what_is_left(
    failure: RequestFailed, attempt: int, left_s: float, elsewhere: bool, jitter: float
) -> None:
    wait = wait_s(failure, attempt, left_s, elsewhere=elsewhere, jitter=jitter)
    if wait is None:
        return
    assert (failure.retry_after_s or 0) <= wait < left_s
    assert wait <= (failure.retry_after_s or 0) + MAX_BACKOFF_S
    retried = {"UNAVAILABLE", "CANCELLED"} | (
        {"RESOURCE_EXHAUSTED"} if failure.retry_after_s is not None else set()
    )
    assert failure.code in retried


@given(attempts, st.floats(1e-3, 1000), st.booleans(), jitters, st.floats(0, 0.99))
def test_what_can_help_is_tried(
    attempt: int, left_s: float, elsewhere: bool, jitter: float, part: float
) -> None:
    for failure in (Unavailable("UNAVAILABLE", ""), Overloaded("RESOURCE_EXHAUSTED", "", (), part * left_s)):
        assert wait_s(failure, attempt, left_s, elsewhere=elsewhere, jitter=jitter) is not None


def test_another_connection_is_tried_at_once_unless_the_server_asked_to_wait() -> None:
    gone = Unavailable("UNAVAILABLE", "connection refused")
    assert wait_s(gone, 1, 1.0, elsewhere=True, jitter=0.9) == 0
    asked = Unavailable("UNAVAILABLE", "draining", (), 0.25)
    assert wait_s(asked, 1, 1.0, elsewhere=True, jitter=0.0) == 0.25


def test_waits_grow_and_stay_bounded() -> None:
    gone = Unavailable("UNAVAILABLE", "")
    waits = [wait_s(gone, attempt, 60.0, elsewhere=False, jitter=0.5) for attempt in range(1, 12)]
    assert waits == sorted(waits)  # type: ignore[type-var]
    assert (waits[0], waits[-1]) == (0.01, 0.25)


def test_a_message_that_is_too_large_is_not_sent_again() -> None:
    too_large = RequestFailed("RESOURCE_EXHAUSTED", "", (Violation("(message)", "too large"),), 0.0)
    assert wait_s(too_large, 1, 10.0, elsewhere=True, jitter=0.5) is None


@given(
    st.lists(st.tuples(st.floats(0, 3), st.booleans(), st.floats(0.001, 30)), max_size=300),
    st.builds(BudgetRules, st.floats(0, 1), st.floats(0.1, 50), st.floats(1, 50)),
)
def test_retries_never_exceed_the_budget(steps: list[tuple[float, bool, float]], rules: BudgetRules) -> None:
    """At any time t: retries sent by then ≤ burst + rate × t + share × requests sent by then."""
    budget, now_s = RetryBudget(rules), 0.0
    requests: list[float] = []
    retries: list[float] = []
    for after_s, is_request, at_most_s in steps:
        now_s += after_s
        if is_request:
            requests.append(now_s)
            budget.request_sent()
        elif (turn_s := budget.take(now_s, at_most_s)) is not None:
            assert 0 <= turn_s < at_most_s
            retries.append(now_s + turn_s)
    for at_s in retries:
        sent = sum(retry <= at_s for retry in retries)
        earned = rules.burst + rules.per_s * at_s + rules.share * sum(request <= at_s for request in requests)
        assert sent <= earned + 1e-6 * len(steps) + 1e-6


def test_a_full_budget_makes_no_retry_wait() -> None:
    budget = RetryBudget(BudgetRules(burst=3, per_s=1, share=0))
    assert [budget.take(0.0, 10) for _ in range(5)] == [0, 0, 0, 1, 2]
    assert budget.take(0.0, 2) is None
    assert budget.take(3.0, 2) == 0


@given(st.integers(0, 2**32), st.floats(0.05, 5), st.integers(1, 4), st.floats(0, 0.2))
def test_a_request_ends_within_its_deadline(
    seed: int, timeout_s: float, connections: int, takes_s: float
) -> None:
    """However its attempts fail; the clock is stepped by what the client would wait."""
    draw = random.Random(seed)
    sender = Sender(connections, seed)
    now_s = 100.0
    request = sender.request(timeout_s, now_s)
    while True:
        with sender.connection(now_s) as connection:
            assert 0 <= connection < connections
            now_s += min(takes_s, request.left_s(now_s))
            failure: RequestFailed = draw.choice(
                [
                    Unavailable("UNAVAILABLE", ""),
                    Unavailable("UNAVAILABLE", "", (), draw.random(), answered=True),
                    Overloaded("RESOURCE_EXHAUSTED", "", (), draw.random(), answered=True),
                ]
            )
            wait = request.failed(failure, connection, now_s)
        if wait is None:
            break
        now_s += wait
        assert now_s < 100.0 + timeout_s
    assert now_s <= 100.0 + timeout_s + 1e-9
    assert failure.attempts >= 1


@pytest.mark.parametrize(
    "code", ["INVALID_ARGUMENT", "UNAUTHENTICATED", "PERMISSION_DENIED", "DEADLINE_EXCEEDED"]
)
def test_some_answers_are_final(code: str) -> None:
    sender = Sender(2, seed=1)
    request = sender.request(10.0, 0.0)
    assert request.failed(RequestFailed(code, "", answered=True), 0, 0.0) is None


def test_replicas_that_leave_cost_no_budget() -> None:
    """A thousand requests refused by a draining replica go elsewhere without waiting for a turn."""
    sender = Sender(2, seed=1)
    for _ in range(1000):
        leaving = Unavailable("UNAVAILABLE", "draining", (), 0.0, answered=True)
        wait = sender.request(10.0, 0.0).failed(leaving, 0, 0.0)
        assert wait is not None
        assert wait <= MAX_BACKOFF_S
