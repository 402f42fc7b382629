"""The GPU meter's arithmetic under any sequence of failures, on a card in memory."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from energy.gpu import GpuError, GpuGone, GpuMeter, Refused
from energy.reading import MeterUnavailable, Reading, Telemetry


@dataclass
class Card:
    """Counts energy; refuses, fails or is gone as told."""

    energy: int = 0
    error: GpuError | None = None
    has_counter: bool = True
    opened: int = 0
    closed: int = 0
    uuid: str = "GPU-in-memory"

    def open(self, selector: str) -> Card:
        if self.error:
            raise self.error
        self.opened += 1
        return self

    def energy_mj(self) -> int:
        if self.error:
            raise self.error
        if not self.has_counter:
            raise Refused("Not Supported")
        return self.energy

    def instant_power_mw(self) -> int:
        if self.error:
            raise self.error
        return 50_000

    def average_power_mw(self) -> int:
        raise Refused("Not Supported")

    def shares_card(self) -> bool:
        return False

    def telemetry(self) -> Telemetry:
        if self.error:
            raise self.error
        return Telemetry(utilization=0.5)

    def close(self) -> None:
        self.closed += 1


ERRORS = st.none() | st.sampled_from([GpuError("Timeout"), Refused("Not Supported"), GpuGone("GPU is lost")])
STEPS = st.lists(st.tuples(st.floats(0, 100), st.integers(0, 10**6), st.booleans(), ERRORS), max_size=30)


@given(STEPS)
def test_joules_are_those_the_counter_showed_whatever_fails(
    steps: list[tuple[float, int, bool, GpuError | None]],
) -> None:
    now_s = 0.0
    card = Card()
    meter = GpuMeter(card.open, "0", lambda: now_s)
    seen_mj = shown_mj = 0
    for wait_s, more_mj, reloaded, error in steps:
        now_s += wait_s
        card.energy = (0 if reloaded else card.energy) + more_mj
        card.error = error
        outcome = meter.read()
        if error is None and isinstance(outcome, Reading):
            seen_mj += max(0, card.energy - shown_mj)
            shown_mj = card.energy
            assert outcome.joules_total == pytest.approx(seen_mj / 1000)
            assert outcome.at_s == now_s
        elif error is not None:
            assert not isinstance(outcome, Reading)
    meter.close()
    assert card.opened == card.closed


def test_lost_card_is_tried_less_and_less_often_and_found_again() -> None:
    now_s = 0.0
    tries: list[tuple[float, str]] = []
    card = Card()

    def open_card(selector: str) -> Card:
        tries.append((now_s, selector))
        return card.open(selector)

    meter = GpuMeter(open_card, "0", lambda: now_s)
    card.error = GpuGone("GPU is lost")
    for second in range(1, 200):
        now_s = float(second)
        meter.read()
    # By UUID: the index may be another card's by then.
    assert tries == [(0, "0"), *((at_s, "GPU-in-memory") for at_s in (2, 4, 8, 16, 32, 64, 124, 184))]
    card.error = None
    now_s = 244.0
    assert isinstance(meter.read(), Reading)
    assert meter.telemetry().utilization == 0.5


def test_no_card_at_the_start_is_refused() -> None:
    with pytest.raises(MeterUnavailable, match="meter = 'nvml': Driver Not Loaded"):
        GpuMeter(Card(error=GpuGone("Driver Not Loaded")).open, "0", lambda: 0.0)


def test_changing_from_the_counter_to_power_counts_nothing_twice() -> None:
    now_s = 0.0
    card = Card()
    meter = GpuMeter(card.open, "0", lambda: now_s)
    now_s, card.energy = 10.0, 1_000_000
    assert meter.read() == Reading(1000.0, 100.0, "nvml", 10.0)
    card.has_counter = False
    assert not isinstance(meter.read(), Reading)
    meter.read()
    now_s = 12.0
    assert meter.read() == Reading(1100.0, 50.0, "nvml", 12.0)
    assert meter.telemetry() == Telemetry(utilization=0.5)
    meter.close()
    assert meter.telemetry() == Telemetry()
    assert not isinstance(meter.read(), Reading)
