from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaler.error_account import (
    EARNED_OVER_S,
    LEAST_BOLD,
    MOST_BOLD,
    MOST_EARNED,
    ErrorAccount,
    late_rps,
)
from scaler.latency_sketch import Latencies
from tests.scaler.made_up import signals

TICK_S = 5.0
TARGET = 0.0005
RATE_RPS = 1000.0

shares = st.lists(st.one_of(st.just(0.0), st.floats(0, 0.01), st.floats(0, 1)), min_size=1, max_size=200)


def run(late: list[float], rate_rps: float = RATE_RPS, tick_s: float = TICK_S) -> list[ErrorAccount]:
    """After each tick; of its requests so large a share was late."""
    account, seen = ErrorAccount().after(0.0, rate_rps, 0.0, TARGET), []
    for tick, share in enumerate(late, start=1):
        account = account.after(tick * tick_s, rate_rps, share * rate_rps, TARGET)
        seen.append(account)
    return seen


@given(shares, st.floats(0, 1e6), st.floats(0.1, 3600))
def test_it_stays_within_its_bounds(late: list[float], rate_rps: float, tick_s: float) -> None:
    for account in run(late, rate_rps, tick_s):
        assert LEAST_BOLD * (1 - 1e-9) <= account.boldness <= MOST_BOLD * (1 + 1e-9)


@given(shares)
def test_since_it_was_most_careful_no_more_was_late_than_the_target_and_the_way_up(late: list[float]) -> None:
    way = math.log(MOST_BOLD / LEAST_BOLD) * EARNED_OVER_S * RATE_RPS * TARGET
    came = were_late = 0.0
    for share, account in zip(late, run(late), strict=True):
        came, were_late = came + RATE_RPS * TICK_S, were_late + share * RATE_RPS * TICK_S
        if account.boldness <= LEAST_BOLD * (1 + 1e-9):
            came = were_late = 0.0
        assert were_late <= TARGET * came + way * (1 + 1e-9)


@given(shares, st.data())
def test_more_that_is_late_never_makes_it_bolder(late: list[float], data: st.DataObject) -> None:
    where = data.draw(st.integers(0, len(late) - 1))
    worse = [*late]
    worse[where] = data.draw(st.floats(late[where], 1))
    for better, other in zip(run(late), run(worse), strict=True):
        assert other.log_boldness <= better.log_boldness + 1e-12


def test_hours_without_a_late_request_make_it_e_times_as_bold() -> None:
    ticks = int(EARNED_OVER_S / TICK_S)
    assert run([0.0] * ticks)[-1].boldness == pytest.approx(math.e, rel=1e-6)
    assert run([TARGET] * ticks)[-1].boldness == pytest.approx(1.0)
    assert run([0.0] * 10 * ticks)[-1].boldness == pytest.approx(MOST_BOLD)


def test_one_tick_that_is_all_late_takes_hours_of_trust() -> None:
    before, after = run([0.0] * 4000 + [1.0])[-2:]
    lost = before.log_boldness - after.log_boldness
    assert lost == pytest.approx(TICK_S / TARGET / EARNED_OVER_S, rel=1e-3)


@given(st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 1)), max_size=100))
def test_however_traffic_comes_boldness_takes_its_time(
    seen: list[tuple[float, float]],
) -> None:
    account = ErrorAccount()
    for tick, (rate_rps, late) in enumerate(seen):
        before, account = account, account.after(tick * TICK_S, rate_rps, late * rate_rps, TARGET)
        assert account.log_boldness <= before.log_boldness + MOST_EARNED * TICK_S / EARNED_OVER_S + 1e-12


def test_a_long_silence_earns_no_more_than_a_minute() -> None:
    account = ErrorAccount().after(0.0, RATE_RPS, 0.0, TARGET).after(3600.0, RATE_RPS, 0.0, TARGET)
    assert account.log_boldness == pytest.approx(60.0 / EARNED_OVER_S)


def test_what_is_late_are_slow_answers_and_refusals_for_overload() -> None:
    half_slow = Latencies.of_histogram([0.01, 0.2], [1, 1])
    seen = signals(completions_rps=100.0, recent_latencies=half_slow, overload_refusals_rps=7.0)
    assert late_rps(seen, 0.05) == pytest.approx(57.0)
    assert late_rps(seen, 0.5) == pytest.approx(7.0)


def test_without_latencies_nothing_is_known_of_answers() -> None:
    assert late_rps(signals(completions_rps=100.0, recent_latencies=None), 0.05) is None
    silent = signals(completions_rps=0.0, recent_latencies=None, overload_refusals_rps=3.0)
    assert late_rps(silent, 0.05) == 3.0
