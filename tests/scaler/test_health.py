"""Backoff and liveness of local replicas, second by second."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from scaler.local.health import STEADY_S, Backoff, Silences


def test_waits_double_up_to_a_bound() -> None:
    backoff = Backoff()
    assert backoff.may_start(0.0)
    assert [backoff.failed(10.0 * n) for n in range(8)] == [0.5, 1, 2, 4, 8, 16, 30, 30]
    assert not backoff.may_start(99.9)
    assert backoff.may_start(100.0)


def test_a_replica_that_lasts_ends_the_waits_and_an_old_one_does_not() -> None:
    backoff = Backoff()
    for now_s in (100.0, 101.0, 102.0):
        backoff.failed(now_s)
    backoff.lasting([0.0], 200.0)
    assert backoff.failed(200.0) == 4
    backoff.lasting([0.0, 201.0], 201.0 + STEADY_S - 0.1)
    assert backoff.failed(300.0) == 8
    backoff.lasting([0.0, 301.0], 301.0 + STEADY_S)
    assert backoff.failed(400.0) == 0.5


def test_the_longest_silent_comes_first_and_a_word_ends_it() -> None:
    silences = Silences(3.0)
    overdue = [silences.overdue(float(s), "ab", set() if s > 1 else {"b"}) for s in range(7)]
    assert overdue == [[], [], [], [], ["a"], ["a", "b"], ["a", "b"]]
    assert silences.overdue(7.0, "ab", {"a"}) == ["b"]
    assert silences.overdue(8.0, "ab", {"b"}) == []


@given(st.lists(st.floats(0.0, 100.0), min_size=1, max_size=30))
def test_a_scaler_that_was_away_blames_nobody_for_it(gaps_s: list[float]) -> None:
    """However long it was away, a replica is given up only after looks enough to hear it."""
    silences, now_s, silent_s = Silences(15.0), 0.0, 0.0
    silences.overdue(now_s, ["a"], ["a"])
    for gap_s in gaps_s:
        now_s += gap_s
        silent_s += min(gap_s, 2.0)
        assert bool(silences.overdue(now_s, ["a"], [])) == (silent_s > 15.0)
