"""Arrivals ahead: steady, stepping, rising, noisy, bursty, daily, and with gaps."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaler.forecast import Forecast, ForecastRules, ForecastState, look_ahead, update


@dataclass
class Run:
    """Ticks of `window_s`, each with the rate of the time before it."""

    window_s: float = 1.0
    horizon_s: float = 3.0
    miss: float = 0.0005
    now_s: float = 0.0
    state: ForecastState | None = None
    ahead: list[Forecast] = field(default_factory=list)

    def see(self, rates: Iterable[float], beats: tuple[float, ...] = ()) -> Run:
        rules = ForecastRules(self.window_s, self.miss)
        for rate in rates:
            self.state = update(self.state, self.now_s, float(rate), rules, beats)
            self.state, forecast = look_ahead(self.state, self.horizon_s, rules)
            self.ahead.append(forecast)
            self.now_s += self.window_s
        return self

    @property
    def last(self) -> Forecast:
        return self.ahead[-1]

    @property
    def known(self) -> ForecastState:
        assert self.state is not None
        return self.state


def slow_ticks() -> Run:
    return Run(window_s=5.0, horizon_s=50.0)


@settings(max_examples=30)
@given(st.floats(10, 1e6), st.integers(1, 120), st.sampled_from([Run, slow_ticks]))
def test_a_constant_load_has_no_trend_and_is_never_underrated(
    rate: float, ticks: int, kind: Callable[[], Run]
) -> None:
    run = kind().see([rate] * ticks)
    assert run.last.expected_rps == pytest.approx(rate)
    assert all(0.999 * rate <= one.upper_rps <= 1.001 * rate for one in run.ahead), "fear alone adds nothing"
    assert run.last.calm_rps > run.last.upper_rps
    assert run.known.trend_rps2 == 0


@pytest.mark.parametrize("rate", [0.5, 1e5])
@pytest.mark.parametrize("kind", [Run, slow_ticks])
def test_a_constant_load_is_forecast_closely_once_it_is_known(kind: Callable[[], Run], rate: float) -> None:
    run = kind().see([rate] * 4000)
    assert rate * 0.999 <= run.last.upper_rps <= 1.2 * rate


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.floats(0, 1e6), st.floats(0.5, 20)), min_size=1, max_size=60),
    st.floats(0.5, 300),
    st.lists(st.floats(0, 1e6), max_size=4),
)
def test_whatever_came_the_forecast_is_finite_and_ordered(
    steps: list[tuple[float, float]], horizon_s: float, beats: list[float]
) -> None:
    run = Run(horizon_s=horizon_s)
    for rate, elapsed_s in steps:
        run.see([rate], tuple(beats))
        run.now_s += elapsed_s - run.window_s
        assert 0 <= run.last.expected_rps <= max(one for one, _ in steps)
        assert run.last.upper_rps <= run.last.calm_rps
        assert math.isfinite(run.last.upper_rps)


@settings(max_examples=50)
@given(st.floats(10, 1e5), st.floats(3, 20), st.integers(1, 200))
def test_a_step_is_met_in_one_update(rate: float, factor: float, ticks: int) -> None:
    run = Run().see([rate] * ticks).see([factor * rate])
    noise = 3 * math.sqrt(factor * rate)
    assert run.last.upper_rps >= factor * rate - noise
    assert math.isinf(run.last.calm_rps) == (ticks < 36)


def test_a_steep_rise_is_seen_ahead_once_it_is_known_and_a_fall_is_not_believed() -> None:
    ramp = [50 + 30.0 * step for step in range(1, 15)]
    rising = Run().see([50.0] * 30 + ramp)
    assert rising.last.upper_rps > ramp[-1] + 30  # beyond where it is, though short of where it will be
    falling = Run().see([600.0] * 60 + [600 - 30.0 * step for step in range(1, 7)])
    assert falling.last.upper_rps >= 600 - 6 * 30


def test_young_traffic_lets_no_replica_go() -> None:
    run = slow_ticks().see([100.0] * 300)
    first = next(k for k, one in enumerate(run.ahead) if math.isfinite(one.calm_rps))
    assert first * 5.0 == 12 * 50.0  # horizons
    calm = [one.calm_rps for one in run.ahead[first:]]
    assert calm == sorted(calm, reverse=True), "the longer it is quiet, the less it fears"
    assert calm[0] > 1.3 * 100


@pytest.mark.parametrize("rate", [30, 1000])
@pytest.mark.parametrize("kind", [Run, slow_ticks])
def test_counting_noise_alone_adds_next_to_nothing(kind: Callable[[], Run], rate: int) -> None:
    run = kind()
    rng = np.random.default_rng(rate)
    run.see(rng.poisson(rate * run.window_s, 3000) / run.window_s)
    uppers = np.array([one.upper_rps for one in run.ahead[2000:]]) / rate
    assert 0.97 < uppers.mean() < 1.2
    assert np.quantile(uppers, 0.99) < 1.4
    assert max(one.calm_rps for one in run.ahead[2000:]) < 3 * rate


def test_counting_noise_seldom_exceeds_what_a_smaller_fleet_must_stand() -> None:
    run = Run().see(np.random.default_rng(3).poisson(200, 3000))
    pairs = list(zip(run.ahead[200:], run.ahead[203:], strict=False))
    assert sum(after.upper_rps > before.calm_rps for before, after in pairs) <= 1e-3 * len(pairs)


@pytest.mark.parametrize(("miss", "spread"), [(0.01, 0.3), (0.01, 0.5), (0.05, 0.3)])
def test_what_comes_above_the_forecast_is_within_the_miss(miss: float, spread: float) -> None:
    """Of rates that scatter by chance and by far more than counting does."""
    rates = 1e5 * np.exp(spread * np.random.default_rng(7).standard_normal(5000))
    run = Run(miss=miss).see(rates)
    upper = np.array([one.upper_rps for one in run.ahead[:-3]])
    came = rates[3:]
    settled = slice(2000, None)
    over = np.maximum(0.0, came - upper)[settled].sum() / came[settled].sum()
    assert 0 < over < miss


def test_errors_beyond_noise_raise_the_forecast_of_all_that_follows() -> None:
    run = Run().see(400.0 if tick % 6 == 0 else 40.0 for tick in range(300))
    assert min(one.upper_rps for one in run.ahead[150:]) >= 380


def test_traffic_of_short_bursts_is_met_by_its_record() -> None:
    rates = np.full(3000, 50.0)
    rates[::97] = 500.0
    run = Run().see(rates)
    late = [one.upper_rps for one in run.ahead[1500:]]
    assert min(late) > 400
    assert max(late) < 600


def test_a_record_is_of_a_day() -> None:
    run = Run(window_s=60, horizon_s=120).see([40.0] * 60 + [400.0] + [40.0] * 600)
    assert max(run.known.record_rps) > 300
    run.see([40.0] * 1000)
    assert max(run.known.record_rps) < 45


def test_bursts_between_two_ticks_are_seen_by_their_beats() -> None:
    calm, bursty = slow_ticks(), slow_ticks()
    calm.see([100.0] * 200)
    bursty.see([100.0] * 200, (20.0, 20.0, 20.0, 20.0, 420.0))
    assert calm.last.upper_rps < 200
    assert bursty.last.upper_rps > 250


@settings(max_examples=40)
@given(st.floats(1, 1e5), st.floats(10, 2e5), st.floats(1, 1e5))
def test_a_gap_teaches_nothing(before: float, silence_s: float, after: float) -> None:
    run = slow_ticks().see([before] * 150)
    learnt = run.known.errors
    run.now_s += silence_s + 4 * run.window_s
    run.see([after])
    assert run.known.trend_rps2 == 0
    if silence_s > 50 + 2 * run.window_s:
        assert run.known.errors is learnt, "what was expected of the silence fell due in it"
        assert len(run.known.pending) == 1
    assert run.last.upper_rps >= after - 3 * math.sqrt(max(after, 0.2) / 5)
    assert math.isfinite(run.last.upper_rps)
    hour = run.known.smoothed_rps[2]
    assert min(before, after) * 0.999 <= hour <= max(before, after) * 1.001
    assert abs(hour - before) <= 0.02 * abs(after - before) + 1e-6 * before, "long memories stay"


def test_gaps_within_the_traffic_do_not_poison_it() -> None:
    steady = slow_ticks().see([100.0] * 400)
    holed = slow_ticks()
    for _ in range(20):
        holed.see([100.0] * 20)
        holed.now_s += 200
    assert holed.last.upper_rps == pytest.approx(steady.last.upper_rps, rel=0.02)


def test_a_restart_begins_anew_and_meets_what_is_there() -> None:
    run = slow_ticks().see([100.0] * 500 + [300.0])
    again = slow_ticks()
    again.now_s = run.now_s
    again.see([300.0])
    assert 300 - 3 * math.sqrt(300 / 5) <= again.last.upper_rps < 5 * 300
    assert math.isinf(again.last.calm_rps)


def test_two_updates_at_one_time_are_one() -> None:
    rules = ForecastRules(1.0)
    once = update(None, 0.0, 10.0, rules)
    assert update(once, 0.0, 99.0, rules) is once


def test_before_the_same_jump_on_the_fourth_day_the_forecast_has_risen() -> None:
    run = Run(window_s=60, horizon_s=120)
    day = [100.0] * 720 + [300.0] * 720
    run.see(day)
    assert run.ahead[718].upper_rps < 250, "on the first day nobody knows"
    run.see(day).see(day).see(day[:720])
    assert run.ahead[-2].upper_rps > 280, "a horizon ahead of it"
    assert run.ahead[-2].upper_rps > 1.1 * run.ahead[-60].upper_rps, "beyond what such days leave usual"


@pytest.mark.parametrize(("before_rps", "after_rps"), [(0.0, 39.0), (0.1, 39.0), (0.0, 4000.0), (1.0, 39.0)])
def test_a_first_burst_after_a_quiet_night_is_not_feared_many_times_over(
    before_rps: float, after_rps: float
) -> None:
    run = slow_ticks().see([before_rps] * 2880)
    for _ in range(24):
        run.see([after_rps])
        assert after_rps - 3 * math.sqrt(after_rps / 5) <= run.last.upper_rps < 3 * after_rps
