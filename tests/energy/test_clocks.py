"""A card's clock: locked to what it supports, and given back whatever happens."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from energy.clocks import ClocksUnavailable, GpuClocks
from energy.gpu import GpuError, GpuGone, Refused
from tests.energy.nvml_stand_in import probe

SUPPORTED = "memory_clocks 405 5001\ngraphics_clocks 1590 300 900 1200\n"


@pytest.mark.parametrize(
    ("asked_mhz", "locked_mhz"), [(900, 900), (1000, 900), (1100, 1200), (10, 300), (9999, 1590)]
)
def test_the_nearest_supported_clock_is_locked(tmp_path: Path, asked_mhz: int, locked_mhz: int) -> None:
    answers = probe(SUPPORTED, tmp_path / "log", clocks=[["lock", asked_mhz], ["lock", 300], ["restore"]])
    assert answers == [locked_mhz, 300, None]
    assert (tmp_path / "log").read_text().split("\n") == [f"lock {locked_mhz}", "lock 300", "reset 0", ""]


def test_a_card_that_lists_no_clocks_is_asked_for_the_very_one(tmp_path: Path) -> None:
    assert probe("", tmp_path / "log", clocks=[["lock", 1111]]) == [1111]
    assert (tmp_path / "log").read_text() == "lock 1111\nreset 0\n", "closing gives it back"


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (f"{SUPPORTED}nvmlDeviceSetGpuLockedClocks !4", "NotPermitted: Insufficient Permissions"),
        (f"{SUPPORTED}nvmlDeviceSetGpuLockedClocks !3", "Refused: Not Supported"),
        ("nvmlDeviceGetMigMode 1/1", "Refused: MIG is on: the clock of"),
        (f"{SUPPORTED}nvmlDeviceSetGpuLockedClocks !10", "GpuError: Timeout"),
        (f"{SUPPORTED}nvmlDeviceSetGpuLockedClocks !15", "GpuGone: GPU is lost"),
    ],
)
def test_what_cannot_be_set_says_why_and_nothing_is_given_back(
    tmp_path: Path, script: str, reason: str
) -> None:
    answers = probe(script, tmp_path / "log", clocks=[["lock", 900], ["restore"]])
    assert answers[0].startswith(reason)
    assert answers[1] is None
    assert not (tmp_path / "log").exists()


def test_a_lost_card_is_opened_anew(tmp_path: Path) -> None:
    script = f"{SUPPORTED}nvmlDeviceSetGpuLockedClocks !15 0"
    answers = probe(script, tmp_path / "log", clocks=[["lock", 900], ["lock", 900]])
    assert answers == ["GpuGone: GPU is lost", 900]


def test_no_card_is_one_line() -> None:
    assert probe("nvmlInit !9", clocks=[]) == ["gpu-clocks: Driver Not Loaded"]
    with pytest.raises(ClocksUnavailable, match="gpu-clocks: CUDA_VISIBLE_DEVICES hides every GPU"):
        GpuClocks.of_this_machine({"CUDA_VISIBLE_DEVICES": ""})


@dataclass
class Card:
    """`locked_mhz` 0: the driver's own. Fails as told."""

    error: GpuError | None = None
    locked_mhz: int = 0
    opened: int = 0
    closed: int = 0
    uuid: str = "GPU-in-memory"

    def open(self, selector: str) -> Card:
        self._fail()
        self.opened += 1
        return self

    def shares_card(self) -> bool:
        return False

    def supported_clocks_mhz(self) -> tuple[int, ...]:
        return (300, 900, 1500)

    def lock_clocks_mhz(self, lowest_mhz: int, highest_mhz: int) -> None:
        self._fail()
        self.locked_mhz = highest_mhz

    def reset_clocks(self) -> None:
        self._fail()
        self.locked_mhz = 0

    def close(self) -> None:
        self.closed += 1

    def _fail(self) -> None:
        if self.error:
            raise self.error


def test_a_lock_that_another_took_away_is_there_again_after_the_next_renewal() -> None:
    card = Card()
    clocks = GpuClocks(card.open, "0")
    assert clocks.lock(900) == 900
    card.locked_mhz = 0
    assert clocks.renew_s is not None
    assert clocks.lock(900) == card.locked_mhz == 900
    clocks.close()


ERRORS = st.none() | st.sampled_from([GpuError("Timeout"), Refused("Not Supported"), GpuGone("GPU is lost")])


@given(st.lists(st.tuples(ERRORS, st.sampled_from([0, 300, 1500])), max_size=20))
def test_a_card_that_answers_in_the_end_gets_its_clock_back(steps: list[tuple[GpuError | None, int]]) -> None:
    card = Card()
    clocks = GpuClocks(card.open, "0")
    for error, clock_mhz in steps:
        card.error = error
        with contextlib.suppress(GpuError):
            clocks.lock(clock_mhz) if clock_mhz else clocks.restore()
            assert card.locked_mhz == clock_mhz
    card.error = None
    clocks.close()
    assert card.locked_mhz == 0
    assert card.opened == card.closed


def test_who_was_waiting_for_its_turn_locks_nothing_after_the_end() -> None:
    card = Card()
    clocks = GpuClocks(card.open, "0")
    clocks.lock(900)
    clocks.close()
    with pytest.raises(GpuError, match="given back"):
        clocks.lock(900)
    clocks.close()
    assert card.locked_mhz == 0
