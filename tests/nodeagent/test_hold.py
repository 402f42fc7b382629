"""One card: the journal first, the card next, and after a failure all anew."""

from __future__ import annotations

import pytest

from energy.gpu import GpuError, GpuGone
from nodeagent.hold import Hold
from nodeagent.journal import UNTOUCHED, Journal, Touched
from nodeagent.leases import DEFAULT, Setting
from tests.nodeagent.in_memory import FIRST, Card, Disk, Machine


class Bench:
    def __init__(self) -> None:
        self.card = Card(FIRST)
        self.journal = Journal(Disk(), "boot")
        self.hold = Hold(FIRST, Machine(self.card).open, self.journal)

    @property
    def card_is(self) -> tuple[int | None, float]:
        return self.card.clock_mhz, self.card.limit_w


def test_what_failed_half_way_is_not_believed_to_be_as_before() -> None:
    bench = Bench()
    fast, slow = Setting(1200), Setting(600, 200.0)
    bench.hold.reach(fast)
    bench.card.failing = "limit"
    with pytest.raises(GpuError, match="Timeout"):
        bench.hold.reach(slow)
    assert bench.card_is == (600, 300.0)
    assert not bench.hold.is_at(fast)
    bench.card.failing = ""
    bench.hold.reach(fast)
    assert bench.card_is == (1200, 300.0)
    assert bench.journal.touched(FIRST) == Touched(clocks=True), "the limit is as it was found"


def test_only_what_differs_is_set() -> None:
    bench = Bench()
    bench.hold.reach(Setting(1200, 200.0))
    before = bench.card.sets
    bench.hold.reach(Setting(1200, 200.0))
    assert bench.card.sets == before
    bench.hold.reach(Setting(600, 200.0))
    assert bench.card.sets == before + 1


def test_the_limit_that_was_found_comes_back_not_the_factory_s() -> None:
    bench = Bench()
    bench.card.limit_w = 222.0
    bench.hold.reach(Setting(None, 150.0))
    bench.hold.reach(Setting(None, 180.0))
    bench.hold.reach(DEFAULT)
    assert bench.card.limit_w == 222.0
    assert bench.journal.touched(FIRST) == UNTOUCHED


def test_a_card_that_was_lost_is_set_anew_on_one_that_is_opened_anew() -> None:
    bench = Bench()
    bench.hold.reach(Setting(900))
    bench.card.error = GpuGone("GPU is lost")
    with pytest.raises(GpuGone):
        bench.hold.compute_pids()
    bench.card.error, bench.card.clock_mhz = None, None  # the driver was loaded anew
    assert not bench.hold.is_at(Setting(900))
    bench.hold.reach(Setting(900))
    assert (bench.card.clock_mhz, bench.card.opened) == (900, 1)


def test_a_card_that_was_never_set_is_not_touched_however_it_fails() -> None:
    bench = Bench()
    bench.card.error = GpuGone("GPU is lost")
    with pytest.raises(GpuGone):
        bench.hold.reach(Setting(900))
    bench.card.error = None
    bench.hold.reach(DEFAULT)
    assert bench.card.sets == 1, "its clocks: the journal said so before it was known to be lost"
    assert bench.journal.touched(FIRST) == UNTOUCHED
    other = Bench()
    other.hold.reach(DEFAULT)
    assert (other.card.sets, other.card.opened) == (0, 0)
