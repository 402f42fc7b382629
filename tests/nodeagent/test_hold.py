"""One card: the journal first, the card next, and after a failure all anew."""

from __future__ import annotations

import pytest

from energy.gpu import GpuError, GpuGone, NotPermitted, Refused
from nodeagent.hold import Hold
from nodeagent.journal import SUSPECTED, UNTOUCHED, Journal, Touched
from nodeagent.leases import DEFAULT, Setting
from tests.nodeagent.in_memory import DEFAULT_LIMIT_W, FIRST, Card, Disk, Machine


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
    bench.hold.reach(DEFAULT)
    assert bench.hold.is_at(DEFAULT)
    assert (bench.card.sets, bench.journal.touched(FIRST)) == (0, UNTOUCHED)
    other = Bench()
    other.hold.reach(DEFAULT)
    assert (other.card.sets, other.card.opened) == (0, 0)


def test_what_others_have_changed_is_said_and_set_anew() -> None:
    bench = Bench()
    assert bench.hold.check() == (), "nothing is set"
    bench.hold.reach(Setting(900, 200.0))
    assert bench.hold.check() == ()
    bench.card.clock_mhz, bench.card.limit_w = None, 400.0
    assert bench.hold.check() == (
        "clock: locked to 900 MHz, is 1500",
        "power limit: set to 200 W, is 400",
    )
    assert bench.card_is == (900, 200.0)
    assert bench.hold.check() == ()
    bench.hold.reach(DEFAULT)
    assert bench.card_is == (None, 300.0), "as it was found, not as others set it meanwhile"


def test_a_lock_that_was_lost_on_an_idle_card_is_set_anew_unseen() -> None:
    bench = Bench()
    bench.hold.reach(Setting(900))
    bench.card.clock_mhz = 300
    assert bench.hold.check() == ()
    assert bench.card_is == (900, 300.0)


def test_a_check_that_fails_leaves_the_card_to_be_set() -> None:
    bench = Bench()
    bench.hold.reach(Setting(900))
    bench.card.error = GpuGone("GPU is lost")
    with pytest.raises(GpuGone):
        bench.hold.check()
    bench.card.error, bench.card.clock_mhz = None, None
    assert not bench.hold.is_at(Setting(900))
    bench.hold.reach(Setting(900))
    assert bench.card_is == (900, 300.0)
    bench.card.failing = "lock"
    with pytest.raises(GpuError, match="Timeout"):
        bench.hold.check()
    assert not bench.hold.is_at(Setting(900))


class Suspected(Bench):
    """Set by an agent whose journal was lost."""

    def __init__(self) -> None:
        super().__init__()
        self.journal.write(FIRST, SUSPECTED)
        self.card.clock_mhz, self.card.limit_w = 600, 150.0
        self.hold = Hold(FIRST, Machine(self.card).open, self.journal)


def test_a_card_whose_journal_was_lost_gets_its_default_before_anything_else() -> None:
    bench = Suspected()
    assert not bench.hold.is_at(DEFAULT)
    bench.hold.reach(DEFAULT)
    assert bench.card_is == (None, DEFAULT_LIMIT_W)
    assert bench.hold.is_at(DEFAULT)
    leased = Suspected()
    leased.hold.reach(Setting(900, 200.0))
    leased.hold.reach(DEFAULT)
    assert leased.card_is == (None, DEFAULT_LIMIT_W), "the limit that was lost is not taken for one found"


@pytest.mark.parametrize("failing", ["reset", "limit"])
def test_what_a_card_can_not_do_is_not_owed_and_what_this_user_may_not_is(failing: str) -> None:
    def refuse(error: GpuError) -> Suspected:
        def about_to(what: str) -> None:
            if what == failing:
                raise error

        bench = Suspected()
        bench.card.about_to = about_to
        return bench

    bench = refuse(Refused("Not Supported"))
    bench.hold.reach(DEFAULT)
    assert bench.journal.touched(FIRST) == UNTOUCHED
    bench = refuse(NotPermitted("Insufficient Permissions"))
    with pytest.raises(NotPermitted):
        bench.hold.reach(DEFAULT)
    assert bench.journal.touched(FIRST) == SUSPECTED
