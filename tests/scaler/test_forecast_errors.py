"""What errors teach: quantiles of a histogram, and which expert is heard."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaler.forecast_errors import Allowance, ErrorMemory

EXPERTS = 11
RECORD = EXPERTS - 1
HORIZON_S = 50.0


def allowed(miss: float, horizon_s: float = HORIZON_S, forgiven_ticks: float = 0.0) -> Allowance:
    return Allowance(miss, horizon_s, forgiven_ticks)


def told(memory: ErrorMemory, ratios: list[float], miss: float, upper: float = 1.0) -> ErrorMemory:
    """One tick in which 100 came, of experts that expected 100 over their ratio each."""
    expected = tuple(100 / ratio for ratio in ratios)
    uppers = tuple(upper * one for one in expected)
    return memory.after(expected, uppers, ((100.0,),) * EXPERTS, miss)


def test_before_anything_is_seen_there_is_something_to_fear() -> None:
    """But of a record, which chance does not exceed; and to shrink more than to grow."""
    memory = ErrorMemory()
    factors = memory.upper_factors(allowed(0.0005))
    assert factors[RECORD] == 1.0
    assert all(1.0 <= factor <= memory.calm_factor(0, allowed(0.0005)) for factor in factors)
    assert memory.calm_factor(0, allowed(0.0005)) == pytest.approx(2.6, rel=0.1)


def test_the_factor_to_shrink_falls_as_quiet_time_passes_and_is_less_for_short_horizons() -> None:
    factors, horizons = [], []
    memory = ErrorMemory()
    for _ in range(17_280 // 20):
        for _ in range(20):
            memory = told(memory, [1.0] * EXPERTS, 0.0005)  # quiet ticks
        factors.append(memory.calm_factor(0, allowed(0.0005)))
        horizons.append([memory.calm_factor(0, allowed(0.0005, horizon_s)) for horizon_s in (3, 50, 300)])
    assert all(one == sorted(one) for one in horizons)
    assert len(set(horizons[17])) == 3
    assert factors == sorted(factors, reverse=True)
    assert factors[17] == pytest.approx(2.03, rel=0.05)  # half an hour of ticks of 5 s
    assert factors[-1] == pytest.approx(1.0, rel=0.05)  # a day


@settings(max_examples=3)
@given(st.integers(0, 2**16), st.sampled_from([0.05, 0.02, 0.01]))
def test_beyond_the_factor_came_as_much_as_is_allowed(seed: int, miss: float) -> None:
    rng = np.random.default_rng(seed)
    ratios = np.exp(0.3 * rng.standard_normal(3000))
    memory = ErrorMemory()
    for rate in 100 * ratios:
        memory = memory.after((100.0,) * EXPERTS, (100.0,) * EXPERTS, ((float(rate),),) * EXPERTS, miss)
    factors = memory.upper_factors(allowed(miss))
    over, tighter = (
        np.maximum(0.0, ratios - share * factors[0]).sum() / ratios.sum() for share in (1.0, 0.9)
    )
    assert over <= 1.4 * miss, "what came before it knew an hour counts the less"
    assert tighter > 0.9 * miss
    assert factors[RECORD] == 1.0, "of a record nothing is learnt: it is not exceeded by chance"


@settings(max_examples=20)
@given(st.floats(0.002, 0.02), st.floats(1.05, 50))
def test_what_was_often_exceeded_by_a_factor_is_raised_by_it(miss: float, ratio: float) -> None:
    known = ErrorMemory(total=20_000.0, ticks=20_000.0)  # a day in which all stayed under it
    assert max(known.upper_factors(allowed(miss))) == 1.0
    exceeded = known
    for _ in range(round(2 * miss * known.total)):
        exceeded = told(exceeded, [ratio] * EXPERTS, miss)
    assert exceeded.upper_factors(allowed(miss))[0] == pytest.approx(ratio, rel=0.1)


@settings(max_examples=20)
@given(st.floats(1.0, 20), st.floats(1.0, 20))
def test_the_higher_a_record_stands_out_the_further_beyond_it_traffic_may_come(
    low: float, high: float
) -> None:
    """Its next one weighs as much more. A day that did not break it leaves nothing to fear."""
    low, high = sorted((low, high))
    young = ErrorMemory(total=100.0, learnt=100.0, mean_rps=100.0, ticks=100.0)
    assert (
        1.0
        < young.record_factor(100 * low, allowed(0.001))
        <= young.record_factor(100 * high, allowed(0.001))
    )
    known = ErrorMemory(total=30_000.0, learnt=30_000.0, mean_rps=100.0, ticks=30_000.0)
    assert known.record_factor(100 * high, allowed(0.001)) == 1.0


def test_a_record_that_is_broken_often_is_no_bound() -> None:
    memory = ErrorMemory()
    for _ in range(2000):
        memory = told(memory, [1.3] * EXPERTS, 0.001)
    assert memory.record_factor(100.0, allowed(0.001)) == pytest.approx(1.3, rel=0.1)


def test_what_is_usual_of_bursty_traffic_is_not_all_that_a_smaller_fleet_must_stand() -> None:
    """Half of the requests come in bursts of twice the mean: rarer ones are that many times more."""
    smooth, bursty = ErrorMemory(), ErrorMemory()
    for tick in range(1500):
        smooth = told(smooth, [1.0] * EXPERTS, 0.001)
        bursty = told(bursty, [2.0 if tick % 2 else 1.0] * EXPERTS, 0.001)
    factors = [memory.calm_factor(0, allowed(0.001)) for memory in (smooth, bursty)]
    assert factors[1] == pytest.approx(2 * factors[0], rel=0.15)


def test_a_step_that_is_soon_answered_is_forgiven_once() -> None:
    known = ErrorMemory(total=100.0, ticks=1000.0, mean_rps=100.0)
    once = told(known, [8.0] * EXPERTS, 0.001)
    assert once.upper_factors(allowed(0.001))[0] > 4
    assert once.upper_factors(allowed(0.001, horizon_s=2.5, forgiven_ticks=0.9))[0] < 1.5
    twice = told(once, [8.0] * EXPERTS, 0.001)
    assert twice.upper_factors(allowed(0.001, horizon_s=2.5, forgiven_ticks=0.9))[0] > 3.5


def test_the_expert_of_the_least_loss_is_heard_and_those_near_it() -> None:
    memory, miss = ErrorMemory(), 0.01
    for tick in range(400):
        surprise = 5.0 if tick % 40 == 0 else 1.0
        ratios = [surprise, 1.0, 0.99, 0.8, *(surprise,) * (RECORD - 4), 0.8]
        memory = told(memory, ratios, miss, upper=1.05)
    assert memory.heard[0] == 1
    assert memory.loss[0] > 10 * memory.loss[1]
    assert set(memory.heard) == {1, 2}


def test_what_may_come_beyond_a_forecast_is_no_loss_and_what_comes_beyond_that_is() -> None:
    """Bursts of twice the usual, one tick in a hundred: a forecast of the usual misses 1/101 of requests."""
    for miss, heard in ((0.0105, 0), (0.005, RECORD)):
        memory = ErrorMemory()
        for tick in range(1000):
            came, usual = (200.0 if tick % 100 == 99 else 100.0), (100.0,) * RECORD
            memory = memory.after((*usual, 200.0), (*usual, 200.0), ((came,),) * EXPERTS, miss)
        assert memory.heard[0] == heard


def test_a_wide_forecast_is_lossy_too() -> None:
    """An expert that always provides for ten times as much misses nothing, and is not the best for it."""
    memory = ErrorMemory()
    for _ in range(100):
        memory = told(memory, [0.1] + [1.0] * RECORD, 0.01, upper=1.0)
    assert memory.heard[0] != 0


def test_the_record_is_heard_only_alone() -> None:
    memory = ErrorMemory()
    for _ in range(100):
        memory = told(memory, [1.0] * EXPERTS, 0.01)
    assert RECORD not in memory.heard[1:]
    for _ in range(100):
        memory = told(memory, [1.5] * RECORD + [1.0], 0.01)
    assert memory.heard == [RECORD]


@given(
    st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 1e6)), min_size=1, max_size=60),
    st.floats(1e-6, 0.5),
)
def test_whatever_came_factors_are_finite_and_one_or_more(
    ticks: list[tuple[float, float]], miss: float
) -> None:
    memory = ErrorMemory()
    for expected, came in ticks:
        memory = memory.after((expected,) * EXPERTS, (expected,) * EXPERTS, ((came,),) * EXPERTS, miss)
    factors = [
        *memory.upper_factors(allowed(miss)),
        *(memory.calm_factor(k, allowed(miss)) for k in range(EXPERTS)),
    ]
    assert np.isfinite(factors).all()
    assert min(factors) >= 1.0
    assert np.isfinite(memory.loss).all()
    assert sorted(set(memory.heard)) == sorted(memory.heard)
