"""What the same time of day did before: silent on the first day, right on the days after."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaler.season import Season

DAY_S = 86_400.0
STEP_S = 100.0


def lived(rate: object, days: float, began_s: float = 0.0) -> tuple[Season, float]:
    """The season after so many days of `rate(seconds)`, and the present."""
    season, now_s = Season(), began_s
    while now_s < began_s + days * DAY_S:
        season = season.after(now_s, rate(now_s), STEP_S)  # type: ignore[operator]
        now_s += STEP_S
    return season, now_s - STEP_S


def daily_jump(now_s: float) -> float:
    return 300.0 if now_s % DAY_S >= DAY_S / 2 else 100.0


def test_it_says_nothing_of_a_time_of_day_that_it_has_not_seen() -> None:
    season, now_s = lived(daily_jump, 0.4)
    assert season.growth(now_s, 600) == 1.0
    assert Season().growth(0.0, 60) == 1.0


@pytest.mark.parametrize("began_s", [0.0, 12_345.0])
def test_a_daily_jump_is_known_from_the_second_day_on(began_s: float) -> None:
    season, _ = lived(daily_jump, 1.2, began_s)
    noon_s = 2.5 * DAY_S  # of any day: only its time counts
    assert season.growth(noon_s - 3600, 60) == pytest.approx(1)
    assert season.growth(noon_s - 300, 600) == pytest.approx(3)
    assert season.growth(noon_s + 3600, 60) == pytest.approx(1)
    assert season.growth(3 * DAY_S - 300, 600) == pytest.approx(1 / 3)


def test_a_slot_is_the_mean_of_about_three_days() -> None:
    season, now_s = lived(lambda now_s: 100.0 * (1 + now_s // DAY_S), 6)
    fresh, _ = lived(lambda now_s: 600.0, 1.5)
    # The present slot is of five days: 100 and then 0.3 of the way to 200, 300, 400 and 500.
    assert season.slots[10] == pytest.approx(100 + 100 * sum(1 - 0.7**n for n in range(1, 6)))
    assert fresh.slots[10] == 600
    assert now_s < 6 * DAY_S


@settings(max_examples=30)
@given(
    st.lists(st.tuples(st.floats(1, 90_000), st.floats(0, 1e6)), min_size=1, max_size=40),
    st.floats(1, 3600),
)
def test_whatever_came_growth_is_positive_and_bounded(
    steps: list[tuple[float, float]], horizon_s: float
) -> None:
    season, now_s = Season(), 0.0
    for elapsed_s, rate in steps:
        now_s += elapsed_s
        season = season.after(now_s, rate, min(elapsed_s, STEP_S))
        growth = season.growth(now_s, horizon_s)
        assert math.isfinite(growth)
        assert 0.25 <= growth <= 4


@settings(max_examples=20)
@given(st.floats(0.1, 1e5), st.floats(1, 7200))
def test_a_constant_load_has_no_season(rate: float, horizon_s: float) -> None:
    season, now_s = lived(lambda _: rate, 1.1)
    assert season.growth(now_s, horizon_s) == pytest.approx(1)
