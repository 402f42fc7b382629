"""Every contender gets the same arrivals, and they scatter as asked for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaler.simulate.traffic import Traffic

TICKS_S = (1.0, 2.0, 5.0, 15.0)


@settings(deadline=None)
@given(
    bin_s=st.sampled_from([0.5, 1.0, 7.5, 10.0, 60.0, 600.0]),
    tick_s=st.floats(0.5, 60),
)
def test_a_step_is_a_whole_part_of_a_bin_and_at_most_a_tick(bin_s: float, tick_s: float) -> None:
    step_s = Traffic(bin_s, np.ones(3)).step_s(tick_s)
    assert bin_s / step_s == pytest.approx(round(bin_s / step_s))
    assert step_s <= max(1.0, min(5.0, tick_s)) + 1e-9


@pytest.mark.parametrize("bin_s", [1.0, 60.0, 600.0])
@pytest.mark.parametrize("tick_s", TICKS_S)
def test_ticks_fall_on_steps(bin_s: float, tick_s: float) -> None:
    step_s = Traffic(bin_s, np.ones(3)).step_s(tick_s)
    assert tick_s / step_s == pytest.approx(round(tick_s / step_s))


@settings(max_examples=40, deadline=None)
@given(
    counts=st.lists(st.one_of(st.just(float("nan")), st.floats(0, 5e4)), min_size=1, max_size=12),
    cv=st.sampled_from([0.5, 1.0, 2.0]),
    seed=st.integers(0, 999),
)
def test_every_step_width_sees_the_same_requests_bin_by_bin(
    counts: list[float], cv: float, seed: int
) -> None:
    traffic = Traffic(60.0, np.array(counts))
    by_bin = []
    for step_s in (traffic.step_s(tick_s) for tick_s in TICKS_S):
        drawn = traffic.drawn(step_s, cv, seed).reshape(len(counts), -1)
        assert (np.isnan(drawn).all(axis=1) == np.isnan(counts)).all()
        assert (drawn[~np.isnan(drawn)] >= 0).all()
        assert (np.mod(drawn[~np.isnan(drawn)], 1) == 0).all()
        by_bin.append(drawn.sum(axis=1))
    for other in by_bin[1:]:
        np.testing.assert_array_equal(by_bin[0], other)


@pytest.mark.parametrize("cv", [0.5, 1.0, 2.0])
def test_counts_scatter_with_the_variance_of_such_gaps(cv: float) -> None:
    drawn = Traffic(60.0, np.full(500, 30_000.0)).drawn(1.0, cv, seed=1)
    assert drawn.mean() == pytest.approx(500, rel=0.005)
    assert drawn.var() == pytest.approx(cv**2 * 500, rel=0.05)


def test_figures_leave_the_time_without_data_out() -> None:
    traffic = Traffic(10.0, np.array([100.0, np.nan, 300.0]))
    assert (traffic.duration_s, traffic.observed_s) == (30, 20)
    assert (traffic.requests, traffic.mean_rps, traffic.peak_rps) == (400, 20, 30)
    nothing = Traffic(10.0, np.array([np.nan]))
    assert (nothing.requests, nothing.mean_rps, nothing.peak_rps) == (0, 0, 0)
