"""The online estimate of a batch's compute."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.service_time import ServiceTime, ServiceTimeEstimate, ServiceTimes


def test_it_finds_the_line() -> None:
    estimate = ServiceTimeEstimate()
    for tokens in (16, 64, 256, 1024, 32, 128):
        estimate.observe(tokens, 0.002 + 0.00001 * tokens)
    assert estimate.current.alpha_s == pytest.approx(0.002)
    assert estimate.current.beta_s_per_token == pytest.approx(0.00001)


def test_it_follows_a_change_of_speed() -> None:
    estimate = ServiceTimeEstimate()
    for factor in (1, 2):
        for index in range(300):
            tokens = 16 * (1 + index % 8)
            estimate.observe(tokens, factor * (0.002 + 0.00001 * tokens))
    assert estimate.current.batch_s(64) == pytest.approx(2 * (0.002 + 0.00001 * 64), rel=0.05)


def test_batches_of_one_size_keep_the_slope() -> None:
    estimate = ServiceTimeEstimate()
    for tokens in (16, 1024):
        estimate.observe(tokens, 0.00001 * tokens)
    for _ in range(500):
        estimate.observe(64, 0.00064)
    assert estimate.current.batch_s(1024) == pytest.approx(0.01024, rel=0.3)


def test_nothing_is_known_at_first() -> None:
    assert ServiceTimeEstimate().current == ServiceTime()


@given(st.lists(st.tuples(st.integers(1, 4096), st.floats(1e-6, 1.0)), min_size=1, max_size=100))
def test_no_part_is_ever_negative(batches: list[tuple[int, float]]) -> None:
    estimate = ServiceTimeEstimate()
    for tokens, compute_s in batches:
        estimate.observe(tokens, compute_s)
        assert estimate.current.alpha_s >= 0
        assert estimate.current.beta_s_per_token >= 0
        assert estimate.current.residual_fraction >= 0


def test_a_clock_never_used_begins_with_the_nearest() -> None:
    times = ServiceTimes(ServiceTimeEstimate())
    times.at(0).observe(10, 0.1)
    times.at(1000).observe(10, 0.5)
    assert times.at(1400).current == times.at(1000).current
    assert times.at(100).current == times.at(0).current
    times.at(1400).observe(10, 0.01)
    assert times.at(1400).current != times.at(1000).current
