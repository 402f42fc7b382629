"""A shared card's joules: the shares sum to the card's, and follow size when idle, activity when not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from energy.apportion import NJ_PER_J
from energy.reading import Reading
from nodeagent.shares import Part, Shares

PARTS = st.lists(
    st.builds(Part, st.sampled_from("abcd"), st.integers(1, 132), st.none() | st.floats(0, 100)),
    max_size=4,
    unique_by=lambda part: part.name,
)
WINDOWS = st.lists(
    st.tuples(st.sampled_from([0.0, 0.2, 1.0, 60.0]), st.floats(0, 5000), PARTS), min_size=1, max_size=20
)


@given(WINDOWS, st.lists(st.sampled_from("abcd"), max_size=2))
def test_the_shares_sum_to_what_the_card_drew(
    windows: list[tuple[float, float, list[Part]]], forgotten: list[str]
) -> None:
    shares = Shares()
    at_s, joules = 100.0, 1234.5
    shares.observe(Reading(joules, 1.0, "nvml", at_s), [])
    before = dict.fromkeys("abcd", 0.0)
    counted_j = joules
    for span_s, drawn_j, parts in windows:
        joules += drawn_j
        at_s += span_s
        counted_j = joules if span_s else counted_j  # else they come with the next reading
        shares.observe(Reading(joules, 1.0, "nvml", at_s), parts)
        for name, was_j in before.items():
            assert shares.of(name).joules >= was_j
            before[name] = shares.of(name).joules
            watts = shares.of(name).watts
            assert watts is None or watts >= 0
    names = sum(round(shares.of(name).joules * NJ_PER_J) for name in shares.names)
    total = round(counted_j * NJ_PER_J) - round(1234.5 * NJ_PER_J)
    assert names + round(shares.nobody_j * NJ_PER_J) == pytest.approx(total, abs=8)
    shares.forget(forgotten)
    names = sum(round(shares.of(name).joules * NJ_PER_J) for name in shares.names)
    assert names + round(shares.nobody_j * NJ_PER_J) == pytest.approx(total, abs=8)


class Meter:
    """A second at a time."""

    def __init__(self) -> None:
        self.shares = Shares()
        self.at_s = self.joules = 0.0
        self.shares.observe(Reading(0.0, 0.0, "nvml", 0.0), [])

    def second(self, watts: float, *parts: Part) -> dict[str, float]:
        """Joules of each of the parts in it."""
        before = {part.name: self.shares.of(part.name).joules for part in parts}
        self.at_s += 1.0
        self.joules += watts
        self.shares.observe(Reading(self.joules, watts, "nvml", self.at_s), parts)
        return {name: pytest.approx(self.shares.of(name).joules - was_j) for name, was_j in before.items()}


def test_active_watts_go_by_activity_and_idle_watts_equally() -> None:
    meter = Meter()
    for _ in range(5):
        assert meter.shares.idle_w is None
        assert meter.second(60.0, Part("a", 1, 0.0), Part("b", 1, 0.0)) == {"a": 30.0, "b": 30.0}
    assert meter.shares.idle_w == 60.0
    assert meter.second(260.0, Part("a", 1, 75.0), Part("b", 1, 25.0)) == {"a": 180.0, "b": 80.0}
    assert meter.second(260.0, Part("a", 1, 75.0), Part("b", 1, 0.0)) == {"a": 230.0, "b": 30.0}


def test_slices_have_idle_watts_by_size_and_active_ones_by_busy_multiprocessors() -> None:
    meter = Meter()
    for _ in range(5):
        idle = meter.second(60.0, Part("small", 16, 0.0), Part("large", 32, 0.0))
        assert idle == {"small": 20.0, "large": 40.0}
    assert meter.second(260.0, Part("small", 16, 1.0), Part("large", 32, 0.5)) == {
        "small": 120.0,
        "large": 140.0,
    }


def test_what_was_not_measured_is_shared_by_size() -> None:
    meter = Meter()
    assert meter.second(90.0, Part("small", 16, None), Part("large", 32, 0.9)) == {
        "small": 30.0,
        "large": 60.0,
    }
    assert meter.shares.idle_w is None, "nobody was seen idle"


def test_what_nobody_had_a_part_in_is_nobody_s_and_idle() -> None:
    meter = Meter()
    for _ in range(5):
        meter.second(50.0)
    assert (meter.shares.nobody_j, meter.shares.idle_w) == (250.0, 50.0)
    assert meter.shares.of("late").joules == 0.0
    assert meter.second(150.0, Part("late", 1, 10.0)) == {"late": 150.0}


def test_watts_are_told_once_a_window_is_over() -> None:
    meter = Meter()
    part = Part("a", 1, 1.0)
    assert (meter.shares.of("a").watts, meter.shares.of("never").watts) == (None, None)
    meter.second(100.0, part)
    assert meter.shares.of("a").watts == pytest.approx(100.0)
    assert meter.shares.of("never").watts == 0.0
