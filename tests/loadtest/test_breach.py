"""A run is given up when, and only when, too many of the last answers were over the SLO."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from loadtest.breach import LEAST_ANSWERS, WINDOW_S, Breach
from loadtest.outcomes import Outcome, Result


def answer(latency_s: float, result: Result = Result.COMPLETED) -> Outcome:
    return Outcome(0.0, 0.0, latency_s, "classify", 1, result, "OK")


GOOD, SLOW, REFUSED = answer(0.01), answer(0.2), answer(0.001, Result.REFUSED)


@given(
    st.lists(
        st.tuples(st.floats(0, 6), st.lists(st.sampled_from([GOOD, GOOD, SLOW, REFUSED]), max_size=30)),
        max_size=12,
    ),
    st.floats(0, 0.99),
)
def test_a_breach_is_a_share_of_the_window(parts: list[tuple[float, list[Outcome]]], share: float) -> None:
    breach, at_s = Breach(share, 0.05), 0.0
    seen: list[tuple[float, Outcome]] = []
    for gap_s, outcomes in parts:
        at_s += gap_s
        seen += [(at_s, outcome) for outcome in outcomes]
        window = [outcome for when_s, outcome in seen if when_s > at_s - WINDOW_S]
        over = sum(outcome is not GOOD for outcome in window)
        expected = len(window) >= LEAST_ANSWERS and over > share * len(window)
        assert bool(breach.add(at_s, outcomes)) == expected


def test_without_an_slo_only_what_was_lost_counts() -> None:
    assert not Breach(0.1, None).add(1.0, [SLOW] * 40)
    assert "refused or failed" in Breach(0.1, None).add(1.0, [REFUSED] * 5 + [GOOD] * 35)
