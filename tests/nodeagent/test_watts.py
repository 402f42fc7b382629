"""What a reading is told as: a whole card's joules, or somebody's share of them."""

from __future__ import annotations

from energy.gpu import GpuError, GpuGone
from nodeagent.watts import ESTIMATE, Sight, Watts
from tests.nodeagent.in_memory import FIRST, Card, Machine, Slice, owner_of

MIG = ("MIG-small", "MIG-large")


class Bench:
    """One card, read each second."""

    def __init__(self, card: Card) -> None:
        self.card = card
        self.now_s = 0.0
        self.watts = Watts(Sight(Machine(card).open, owner_of, lambda: self.now_s))
        self.watts.poll([FIRST])

    def draw(self, watts: float, seconds: int = 1) -> None:
        for _ in range(seconds):
            self.now_s += 1.0
            self.card.joules += watts
            self.watts.poll([FIRST])


def test_a_whole_card_is_read_as_it_counts() -> None:
    bench = Bench(Card(FIRST, joules=5000.0))
    bench.draw(100.0, 6)
    told = bench.watts.read(FIRST, None)
    assert (told.source, told.device, told.age_s) == ("nvml", FIRST, 0.0)
    assert (told.joules_total, told.watts, told.unknown) == (5600.0, 100.0, "")


def test_who_asks_later_gets_it_read_anew() -> None:
    bench = Bench(Card(FIRST))
    bench.draw(100.0, 6)
    bench.card.joules += 50.0
    bench.now_s += 0.1
    assert bench.watts.read(FIRST, None).joules_total == 600.0
    assert bench.watts.read(FIRST, None).age_s > 0
    bench.now_s += 0.4
    assert bench.watts.read(FIRST, None).joules_total == 650.0


def test_two_processes_share_a_card_by_their_activity() -> None:
    bench = Bench(Card(FIRST, pids=frozenset({1, 2}), activity={}))
    bench.watts.read(FIRST, "pid:1")
    bench.draw(60.0, 5)
    bench.card.activity = {1: 90, 2: 30}
    bench.draw(260.0, 2)
    one, two = (bench.watts.read(FIRST, f"pid:{pid}") for pid in (1, 2))
    assert (one.source, one.device) == (ESTIMATE, f"{FIRST}/pid:1")
    assert (one.joules_total, two.joules_total) == (5 * 30 + 2 * 180, 5 * 30 + 2 * 80)
    assert one.epoch == two.epoch != Bench(Card(FIRST)).watts.read(FIRST, "pid:1").epoch
    nobody = bench.watts.read(FIRST, "pid:3")
    assert (nobody.joules_total, nobody.watts) == (0.0, 0.0), "it computes nothing there"


def test_without_measured_activity_processes_share_equally() -> None:
    bench = Bench(Card(FIRST, pids=frozenset({1, 2}), activity=None))
    bench.watts.read(FIRST, "pid:1")
    bench.draw(260.0, 2)
    assert bench.watts.read(FIRST, "pid:2").joules_total == 260.0


def test_slices_share_a_card_by_size_and_activity() -> None:
    slices = (Slice(MIG[0], 1, 16), Slice(MIG[1], 2, 32))
    bench = Bench(Card(FIRST, slices=slices, busy={1: 0.0, 2: 0.0}))
    bench.watts.read(FIRST, MIG[0])
    bench.draw(60.0, 5)
    bench.card.busy = {1: 1.0, 2: 0.0}
    bench.draw(160.0)
    small, large = (bench.watts.read(FIRST, slice_) for slice_ in MIG)
    assert (small.device, small.source) == (MIG[0], ESTIMATE)
    assert (small.joules_total, large.joules_total) == (20 * 6 + 100, 40 * 6)
    bench.card.busy = {}
    bench.draw(60.0)
    assert bench.watts.read(FIRST, MIG[0]).joules_total == 240, "before Hopper: by size"


def test_what_cannot_be_read_is_unknown_and_says_why() -> None:
    bench = Bench(Card(FIRST, error=GpuError("Timeout")))
    told = bench.watts.read(FIRST, None)
    assert (told.joules_total, told.watts, told.unknown) == (None, None, "Timeout")
    bench.card.error = None
    bench.draw(70.0, 2)
    assert bench.watts.read(FIRST, None).joules_total == 140.0


def test_a_lost_card_keeps_its_shares_and_goes_on() -> None:
    bench = Bench(Card(FIRST, pids=frozenset({1}), activity={1: 50}))
    bench.watts.read(FIRST, "pid:1")
    bench.draw(100.0, 3)
    bench.card.error = GpuGone("GPU is lost")
    bench.draw(100.0)
    assert bench.watts.read(FIRST, "pid:1").unknown == "GPU is lost"
    bench.card.error = None
    bench.draw(100.0, 5)
    before_j = bench.watts.read(FIRST, "pid:1").joules_total
    assert before_j is not None
    assert before_j >= 300.0
    bench.watts.close()
    assert bench.card.opened == 0


def test_who_is_gone_for_long_is_forgotten() -> None:
    bench = Bench(Card(FIRST, pids=frozenset({1}), activity={}))
    bench.watts.read(FIRST, "pid:1")
    bench.draw(60.0, 2)
    bench.card.pids = frozenset({2})
    bench.now_s += 700.0
    bench.draw(60.0)
    assert bench.watts.cards[FIRST].shares.names == ("pid:2",)
