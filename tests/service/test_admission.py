"""Who may come in."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from service.admission import (
    LATE_FRACTION,
    MOST_MARGIN,
    TARGET_FRACTION,
    AdmissionLimits,
    Forecast,
    Load,
    Margin,
    Offered,
    Why,
    in_time,
    room_for,
)

LIMITS = AdmissionLimits(max_in_flight=2, max_queue_texts=10)
SLO_S = 0.05
seconds = st.floats(0.0, 0.2)
forecasts = st.builds(Forecast, seconds, seconds, seconds, seconds)


def test_in_flight_is_bounded() -> None:
    assert room_for(1, False, Load(1, 0, 0.0), LIMITS) is None
    full = room_for(1, False, Load(2, 0, 0.0), LIMITS)
    assert full is not None
    assert full.message == "2 requests are in flight, the limit is 2"


def test_waiting_texts_are_bounded_and_the_retry_time_is_their_compute() -> None:
    full = room_for(3, False, Load(0, 8, 0.1), LIMITS)
    assert full is not None
    assert full.message == "8 texts wait and 3 more exceed the limit of 10"
    assert full.retry_after_s == 0.1


@given(st.integers(1, 20), st.booleans(), st.integers(0, 5), st.integers(0, 20))
def test_the_bounds_hold_and_batch_is_refused_first(
    texts: int, batch: bool, in_flight: int, waiting: int
) -> None:
    load = Load(in_flight, waiting, 0.1)
    if room_for(texts, batch, load, LIMITS) is None:
        assert in_flight + 1 <= LIMITS.max_in_flight
        assert waiting + texts <= LIMITS.max_queue_texts
        assert room_for(texts, False, load, LIMITS) is None


@given(forecasts, forecasts, st.floats(0.0, 0.02))
def test_whoever_is_let_in_is_expected_in_time_and_batch_is_refused_first(
    interactive: Forecast, as_batch: Forecast, margin_s: float
) -> None:
    if in_time(interactive, None, margin_s, SLO_S) is None:
        waits_s = interactive.spent_s + interactive.engine_left_s + interactive.wait_s
        assert interactive.wait_s == 0 or waits_s + margin_s <= TARGET_FRACTION * SLO_S + 1e-9
    else:
        refused = in_time(interactive, as_batch, margin_s, SLO_S)
        assert refused is not None
        assert refused.why is Why.SHED
        assert refused.retry_after_s > 0


@given(seconds, seconds, seconds)
def test_who_waits_behind_nobody_is_never_refused(engine_s: float, own_s: float, spent_s: float) -> None:
    assert in_time(Forecast(engine_s, 0.0, own_s, spent_s), None, 0.02, SLO_S) is None


@given(seconds, seconds)
def test_a_request_is_judged_by_what_waits_and_not_by_its_size(wait_s: float, own_s: float) -> None:
    small, large = Forecast(0.0, wait_s, 0.0), Forecast(0.0, wait_s, own_s)
    assert in_time(small, None, 0.0, SLO_S) == in_time(large, None, 0.0, SLO_S)


@settings(max_examples=20)
@given(st.integers(0, 1000), st.floats(0.001, 0.015))
def test_the_margin_finds_the_tail_of_what_was_not_predicted(seed: int, tail_s: float) -> None:
    """One answer in 100 is later than it, whatever the distribution: here 5% lie between half and whole."""
    draw = np.random.default_rng(seed)
    later = np.where(draw.random(5_000) < 0.05, tail_s * draw.uniform(0.5, 1.0, 5_000), 0.0)
    margin = Margin()
    over = 0
    for late_s in later.tolist():
        over += late_s > margin.margin_s
        margin.learn(0.01 + late_s, Forecast(0.004, 0.006, 0.0), SLO_S)
    assert over / len(later) < 2.5 * LATE_FRACTION
    assert 0 <= margin.margin_s <= MOST_MARGIN * TARGET_FRACTION * SLO_S


@given(st.floats(0.05, 3.0), st.floats(0.0005, 0.02), st.integers(1, 4))
def test_the_margin_counts_only_as_far_as_more_is_asked_for_than_can_be_done(
    load: float, work_s: float, workers: int
) -> None:
    """Requests of so much work each, evenly; within the step of one request."""
    offered = Offered()
    gap_s = work_s / load / workers
    now_s = 0.0
    for _ in range(int(12.0 / gap_s)):
        now_s += gap_s
        offered.add(now_s, work_s)
    share = offered.overload(now_s, workers)
    step = work_s / 2.0 / workers + 0.01
    assert 0.0 <= share <= 1.0
    if load < 0.8 - step:
        assert share == 0.0
    if load > 1.0 + step:
        assert share == 1.0
    assert offered.overload(now_s + 20.0, workers) == 0.0, "a burst passes"
