"""Laws of a day in bounded memory: nothing is made up, means and the worst are kept, memory has a bound."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaler.dashboard.history import COLUMNS, TIERS, History, Tier

VALUES = st.one_of(st.none(), st.floats(0, 1e6))
TWO = (Tier(1.0, 10.0), Tier(5.0, 60.0))


@given(st.lists(st.tuples(VALUES, VALUES), min_size=1, max_size=60))
def test_a_point_of_several_rows_is_their_mean_or_their_worst(rows: list[tuple[float | None, ...]]) -> None:
    history = History(TWO)
    for second, (rps, p99_s) in enumerate(rows):
        history.add({"at_s": float(second), "offered_rps": rps, "p99_s": p99_s})
    shown = history.of(60.0)
    for place, at_s in enumerate(shown["at_s"]):
        assert at_s is not None
        span = rows[int(at_s // 5) * 5 : int(at_s) + 1]
        rates = [rps for rps, _ in span if rps is not None]
        worst = [p99_s for _, p99_s in span if p99_s is not None]
        assert shown["offered_rps"][place] == (pytest.approx(sum(rates) / len(rates)) if rates else None)
        assert shown["p99_s"][place] == (max(worst) if worst else None)
    assert shown["at_s"][-1] == len(rows) - 1, "the newest is there, though its span is not over"


def test_each_span_comes_from_the_finest_tier_that_has_it_all() -> None:
    history = History(TWO)
    for second in range(100):
        history.add({"at_s": float(second), "ready": 1.0})
    assert history.of(4.0)["at_s"] == [96.0, 97.0, 98.0, 99.0]
    coarse = history.of(60.0)["at_s"]
    assert coarse[-3:] == [89.0, 94.0, 99.0]
    assert history.of(1e6)["at_s"][-len(coarse) :] == coarse, "what there is"


def test_a_day_and_more_stays_within_its_memory() -> None:
    history = History()
    for minute in range(26 * 60):
        for second in (0.0, 20.0, 40.0):
            history.add({"at_s": 60.0 * minute + second})
    for tier in TIERS:
        columns = history.of(tier.kept_s)
        assert set(columns) == set(COLUMNS)
        assert {len(column) for column in columns.values()} == {len(columns["at_s"])}
        assert len(columns["at_s"]) <= tier.kept_s / tier.every_s + 1
    assert history.of(86_400.0)["at_s"][0] == pytest.approx(2 * 3600, abs=120)


@given(st.lists(st.floats(0, 50), min_size=1, max_size=30))
def test_a_clock_that_goes_back_loses_nothing_of_what_comes_after(times_s: list[float]) -> None:
    history = History(TWO)
    for at_s in times_s:
        history.add({"at_s": at_s, "ready": at_s})
    assert history.of(60.0)["ready"][-1] is not None
