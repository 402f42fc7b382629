"""Laws of a difference: its interval, its verdict, and what is told of both."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelkit.scoring.intervals import wilson
from report.comparison import Bounds, Change, Comparison, Part, between, change, document
from report.markdown import as_markdown
from tests.report.made import MADE_BY

NUMBERS = st.floats(-1e6, 1e6)
BOUNDS = st.lists(NUMBERS, min_size=3, max_size=3).map(lambda three: tuple(sorted(three)))


@given(BOUNDS, BOUNDS)
def test_an_interval_holds_the_difference_and_turns_with_it(a: Bounds, b: Bounds) -> None:
    low, high = between(a, b)
    assert low <= b[1] - a[1] <= high
    back_low, back_high = between(b, a)
    assert (-back_high, -back_low) == pytest.approx((low, high))


@given(BOUNDS)
def test_a_figure_does_not_differ_from_itself(a: Bounds) -> None:
    assert change("p99", "ms", a, a, less_is_better=True).verdict == "within noise"


def test_newcombes_own_example() -> None:
    """56 of 70 less 48 of 80, by Wilson's intervals: Newcombe 1998, table II, example (a), method 10."""
    shares = [wilson(48, 80), wilson(56, 70)]
    low, high = between(*((one.low, one.value, one.high) for one in shares))
    assert (low, high) == (pytest.approx(0.0524, abs=1e-4), pytest.approx(0.3339, abs=1e-4))


@pytest.mark.parametrize(
    ("low", "high", "less_is_better", "verdict"),
    [
        (None, None, True, "no spread"),
        (-1.0, 3.0, True, "within noise"),
        (1.0, 3.0, True, "worse"),
        (1.0, 3.0, False, "better"),
        (1.0, 3.0, None, "higher"),
        (-3.0, -1.0, True, "better"),
    ],
)
def test_verdicts(low: float | None, high: float | None, less_is_better: bool | None, verdict: str) -> None:
    assert Change("p99", "ms", 1.0, 3.0, low, high, less_is_better).verdict == verdict


def test_what_is_not_known_is_no_difference() -> None:
    found = change("watts", "W", None, (1.0, 2.0, 3.0), less_is_better=True)
    assert (found.a, found.b, found.low, found.verdict) == (None, 2.0, None, "unknown")
    told = as_markdown(document(Comparison("T", ("a", "b"), [Part("", [found])], (), "rapl"), MADE_BY))
    assert "| watts | – | 2 W | – | – | unknown |" in told
    assert "Watts: rapl." in told
