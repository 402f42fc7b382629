"""Arrivals ahead: steady, rising, falling, and noisy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaler.forecast import Forecast, ForecastRules, ForecastState, look_ahead, update

RULES = ForecastRules(window_s=1.0)


def run(rates: list[float], horizon_s: float = 3.0) -> list[Forecast]:
    state: ForecastState | None = None
    ahead = []
    for second, rate in enumerate(rates):
        state = update(state, float(second), rate, RULES)
        state, forecast = look_ahead(state, horizon_s, RULES)
        ahead.append(forecast)
    return ahead


@given(st.floats(0, 1e4), st.integers(1, 100))
def test_a_constant_load_without_noise_is_forecast_exactly(rate: float, seconds: int) -> None:
    last = run([rate] * seconds)[-1]
    assert last.upper_rps == pytest.approx(rate)
    assert last.calm_rps >= last.upper_rps


@given(st.lists(st.floats(0, 1e5), min_size=1, max_size=80))
def test_whatever_came_the_forecast_is_finite_and_ordered(rates: list[float]) -> None:
    for ahead in run(rates):
        assert 0 <= ahead.expected_rps <= ahead.upper_rps <= ahead.calm_rps < float("inf")


def test_a_steep_rise_is_seen_ahead_and_a_fall_is_not_believed() -> None:
    rising = run([50.0] * 20 + [50 + 30.0 * step for step in range(1, 7)])[-1]
    assert rising.upper_rps > 50 + 30 * 7  # beyond what has been seen
    falling = run([300.0] * 20 + [300 - 30.0 * step for step in range(1, 7)])[-1]
    assert falling.upper_rps > 300 - 30 * 7


def test_counting_noise_alone_adds_next_to_nothing() -> None:
    rng = np.random.default_rng(1)
    uppers = [ahead.upper_rps for ahead in run([float(rng.poisson(100)) for _ in range(400)])[20:]]
    assert np.mean(uppers) == pytest.approx(100, rel=0.05)
    assert max(uppers) < 150


def test_errors_beyond_noise_raise_the_upper_bound() -> None:
    surges = [400.0 if second % 6 == 0 else 40.0 for second in range(120)]
    ahead = run(surges)[-1]
    assert ahead.upper_rps > ahead.expected_rps + 50
    once = run([40.0] * 80 + [100.0, 200.0, 300.0] + [40.0] * 30)[-1]
    assert once.upper_rps < 50, "one flash crowd is no habit"
