"""Laws of a tally: joules are the meter's own, gaps are told and not filled."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from energy.reading import Reading, Unknown
from energy.tally import Tally

STEPS = st.lists(
    st.tuples(st.floats(0.01, 10), st.one_of(st.none(), st.floats(0, 500))), min_size=1, max_size=40
)  # (seconds, watts of them; None: unknown at their end)


def tally(steps: list[tuple[float, float | None]]) -> Tally:
    result, now_s, joules = Tally().after(Reading(0.0, 0.0, "nvml", 0.0)), 0.0, 0.0
    for span_s, watts in steps:
        now_s += span_s
        joules += (watts or 0.0) * span_s
        now = Unknown("the card is lost", now_s) if watts is None else Reading(joules, watts, "nvml", now_s)
        result = result.after(now)
    return result


@given(STEPS)
def test_all_time_is_known_or_told_to_be_unknown(steps: list[tuple[float, float | None]]) -> None:
    result = tally(steps)
    whole_s = sum(span_s for span_s, _ in steps)
    assert result.known_s + sum(result.unknown_s.values()) == pytest.approx(whole_s)
    assert set(result.unknown_s) <= {"the card is lost"}


@given(STEPS)
def test_joules_are_of_the_spans_whose_both_ends_are_known(steps: list[tuple[float, float | None]]) -> None:
    result, known_j, known, watts_of = tally(steps), 0.0, True, []
    for span_s, watts in steps:
        if known and watts is not None:
            known_j += watts * span_s
            watts_of.append(watts)
        known = watts is not None
    assert result.joules == pytest.approx(known_j, abs=1e-6)
    if not watts_of:
        assert (result.average_w, result.peak_w, result.source) == (None, None, "unknown")
        return
    assert result.average_w is not None
    assert result.peak_w == pytest.approx(max(watts_of), abs=1e-6)
    assert min(watts_of) - 1e-6 <= result.average_w <= max(watts_of) + 1e-6
    assert result.source == "nvml"


def test_two_readings_at_one_moment_are_one() -> None:
    one = Tally().after(Reading(5.0, 1.0, "rapl", 1.0)).after(Reading(6.0, 1.0, "rapl", 1.0))
    assert one.known_s == 0
    assert one.after(Reading(8.0, 1.0, "rapl", 2.0)).joules == 2.0
