"""Quotas are never exceeded, over any span of time."""

from __future__ import annotations

from google.rpc.error_details_pb2 import RetryInfo
from hypothesis import given
from hypothesis import strategies as st

from service.quotas import Bucket, Quota, Usage
from service.statuses import quota_exceeded

gaps = st.lists(st.tuples(st.floats(0, 3), st.floats(0.1, 30)), min_size=1, max_size=60)


@given(gaps, st.floats(0.5, 50), st.floats(0.01, 5))
def test_no_span_of_time_lets_more_in_than_burst_and_rate(
    asked: list[tuple[float, float]], rate: float, burst_s: float
) -> None:
    bucket = Bucket(rate, burst_s, 1.0)
    burst = max(1.0, rate * burst_s)
    now_s, taken = 0.0, []
    for gap_s, amount in asked:
        now_s += gap_s
        if bucket.missing_s(amount, now_s) == 0.0:
            bucket.take(amount)
            taken.append((now_s, amount))
    for first in range(len(taken)):
        for last in range(first, len(taken)):
            owed = max(0.0, taken[last][1] - burst)  # what no burst holds is let in, and paid for later
            total = sum(amount for _, amount in taken[first : last + 1])
            assert total <= burst + rate * (taken[last][0] - taken[first][0]) + owed + 1e-6


@given(st.integers(1, 50), st.integers(0, 50), st.integers(1, 100))
def test_a_request_that_can_never_fit_is_told_no_time_to_retry(bound: int, held: int, texts: int) -> None:
    usage = Usage(Quota(max_queue_texts=bound))
    usage.enter(held, 0.0)
    exceeded = usage.exceeded(texts, 0.0, 0.0)
    assert (exceeded is None) == (held + texts <= bound)
    if exceeded is not None:
        assert (exceeded.retry_after_s is None) == (texts > bound)
        details = quota_exceeded("t", exceeded.quota, bound, exceeded.retry_after_s).details
        assert any(isinstance(detail, RetryInfo) for detail in details) == (texts <= bound)
