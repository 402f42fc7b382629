"""Quotas are never exceeded, over any span of time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from service.quotas import Bucket

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
