"""The keeper against any sequence of requests, failures, crashes and restarts.

never outside of what card and policy allow      the cards assert it, and what is granted is looked at
the highest wins                                 what is in force is no lower than any lease in force
what is set is in the journal                    at each moment, also inside of a call
what a crash leaves behind is restored           by the next start, wherever it happened
a card that nobody leased is never touched       the third card counts its sets
what others change is set anew                   at the next check
in the end all is as it was
"""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from energy.gpu import GpuError, GpuGone, Refused
from minwatt.v1.node_agent import LeaseRequest, RenewRequest
from nodeagent.cards import Node
from nodeagent.journal import UNTOUCHED, Journal
from nodeagent.keeper import CHECK_S, Holder, Keeper, Refusal
from tests.nodeagent.in_memory import (
    DEFAULT_LIMIT_W,
    FIRST,
    SECOND,
    Card,
    Crashed,
    Disk,
    Machine,
    owner_of,
    policy,
)

THIRD = "GPU-00000000-0000-0000-0000-000000000002"
LEASED = st.sampled_from([FIRST, SECOND])
HOLDERS = st.sampled_from([Holder(1, "pid:1"), Holder(2, "pid:2"), Holder(3, "pid:2")])
ERRORS = st.none() | st.sampled_from([GpuError("Timeout"), Refused("Not Supported"), GpuGone("GPU is lost")])
POLICY = policy(
    maxTtl="30s", default={"shared": True, "smClock": {"minMHz": 500}, "powerLimit": {"max": "350W"}}
)
ALLOWED_MHZ = (600, 900, 1200, 1500)
FOUND_W = {FIRST: 300.0, SECOND: 250.0, THIRD: 400.0}


class KeeperLaws(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0
        self.disk = Disk()
        self.machine = Machine(*(Card(uuid, limit_w=found_w) for uuid, found_w in FOUND_W.items()))
        self.crash_in = 0  # steps of card or disk until the process is gone; 0: it stays
        self.disk.about_to = self.step
        for card in self.machine.cards.values():
            card.about_to = lambda what, card=card: self.step(what)  # type: ignore[misc]

    def step(self, what: str) -> None:
        if what == "read":
            return
        self.journal_covers_what_is_set()
        if self.crash_in:
            self.crash_in -= 1
            if not self.crash_in:
                raise Crashed

    def journal_covers_what_is_set(self) -> None:
        written = Journal(self.disk, "boot")
        for uuid, card in self.machine.cards.items():
            touched = written.touched(uuid)
            assert card.clock_mhz is None or touched.clocks
            assert card.limit_w == FOUND_W[uuid] or touched.found_limit_w == FOUND_W[uuid]

    @initialize()
    def start(self) -> None:
        self.keeper = Keeper(
            Node(self.machine.find, self.machine.open, owner_of), Journal(self.disk, "boot"), POLICY
        )
        self.keeper.recover(self.now_s)

    @contextlib.contextmanager
    def crashing(self):  # type: ignore[no-untyped-def]
        """The process may be gone in the middle; another one is started then."""
        try:
            yield
        except Crashed:
            self.crash_in = 0
            self.now_s += 1.0
            for card in self.machine.cards.values():
                card.opened = 0  # the kernel closes what a dead process had open
            self.start()
            for uuid, card in self.machine.cards.items():
                if card.error is None and not card.failing and not self.disk.full:
                    assert (card.clock_mhz, card.limit_w) == (None, FOUND_W[uuid])

    @rule(
        holder=HOLDERS,
        uuid=LEASED,
        clock_mhz=st.none() | st.integers(1, 3000),
        limit_w=st.none() | st.integers(50, 500),
        ttl_s=st.integers(1, 100),
    )
    def lease(
        self, holder: Holder, uuid: str, clock_mhz: int | None, limit_w: int | None, ttl_s: int
    ) -> None:
        if clock_mhz is None and limit_w is None:
            return
        before = self.keeper.leases.at(self.now_s).by_key.get((uuid, holder.connection))
        request = LeaseRequest(card=uuid, sm_clock_mhz=clock_mhz, power_limit_w=limit_w, ttl_s=ttl_s)
        with self.crashing():
            try:
                reply = self.keeper.grant(holder, request, self.now_s)
            except Refusal:
                assert self.keeper.leases.by_key.get((uuid, holder.connection)) == before
                return
            assert reply.ttl_s <= 30
            assert (reply.granted_sm_clock_mhz is None) == (clock_mhz is None)
            assert reply.granted_sm_clock_mhz in (None, *ALLOWED_MHZ)
            assert reply.granted_power_limit_w is None or 100 <= reply.granted_power_limit_w <= 350
            card = self.machine.cards[uuid]
            assert reply.in_force_sm_clock_mhz == card.clock_mhz
            assert reply.in_force_power_limit_w in (None, card.limit_w)

    @rule(holder=HOLDERS, uuid=LEASED)
    def renew(self, holder: Holder, uuid: str) -> None:
        with self.crashing(), contextlib.suppress(Refusal):
            self.keeper.renew(holder, RenewRequest(card=uuid, ttl_s=20), self.now_s)

    @rule(holder=HOLDERS, uuid=LEASED)
    def release(self, holder: Holder, uuid: str) -> None:
        with self.crashing():
            self.keeper.release(holder, uuid, self.now_s)

    @rule(holder=HOLDERS)
    def leave(self, holder: Holder) -> None:
        with self.crashing():
            self.keeper.left(holder.connection, self.now_s)

    @rule(seconds=st.floats(0, 40))
    def wait(self, seconds: float) -> None:
        self.now_s += seconds
        with self.crashing():
            assert self.keeper.tick(self.now_s) > self.now_s

    @rule(uuid=LEASED, pids=st.frozensets(st.integers(1, 3)))
    def compute(self, uuid: str, pids: frozenset[int]) -> None:
        self.machine.cards[uuid].pids = pids

    @rule(uuid=st.sampled_from([FIRST, SECOND, THIRD]), error=ERRORS)
    def fail(self, uuid: str, error: GpuError | None) -> None:
        self.machine.cards[uuid].error = error

    @rule(uuid=LEASED, failing=st.sampled_from(["", "lock", "reset", "limit"]))
    def fail_partly(self, uuid: str, failing: str) -> None:
        self.machine.cards[uuid].failing = failing

    @rule(full=st.booleans())
    def fill_the_disk(self, full: bool) -> None:
        self.disk.full = full

    @rule(uuid=LEASED)
    def others_reset(self, uuid: str) -> None:
        """As `nvidia-smi -rgc -pl` does."""
        with self.crashing():
            self.keeper.tick(self.now_s)
            card = self.machine.cards[uuid]
            card.clock_mhz, card.limit_w = None, FOUND_W[uuid]
            self.now_s += CHECK_S
            self.keeper.tick(self.now_s)
            in_force = self.keeper.cards.holds[uuid].in_force
            if uuid not in self.keeper.owed and in_force is not None:
                limit_w = FOUND_W[uuid] if in_force.limit_w is None else in_force.limit_w
                assert (card.clock_mhz, card.limit_w) == (in_force.clock_mhz, limit_w)

    @rule(steps=st.integers(1, 6))
    def crash_soon(self, steps: int) -> None:
        self.crash_in = steps

    @rule()
    def kill(self) -> None:
        with self.crashing():
            raise Crashed

    @invariant()
    def nobody_is_slowed(self) -> None:
        if not hasattr(self, "keeper"):
            return
        for uuid, card in self.machine.cards.items():
            if card.clock_mhz is None or uuid in self.keeper.owed:
                continue
            wishes = [lease.wish.clock_mhz for lease in self.keeper.leases.of(uuid)]
            assert None not in wishes
            assert card.clock_mhz == max(wish for wish in wishes if wish is not None)

    @invariant()
    def what_is_set_is_written_down(self) -> None:
        self.journal_covers_what_is_set()

    @invariant()
    def what_nobody_leased_is_not_touched(self) -> None:
        assert self.machine.cards[THIRD].sets == 0

    def teardown(self) -> None:
        self.crash_in = 0
        self.disk.full = False
        for card in self.machine.cards.values():
            card.error, card.failing = None, ""
        assert self.keeper.close() == ()
        for uuid, card in self.machine.cards.items():
            assert (card.clock_mhz, card.limit_w, card.opened) == (None, FOUND_W[uuid], 0)
        journal = Journal(self.disk, "boot")
        assert all(journal.touched(uuid) == UNTOUCHED for uuid in FOUND_W)


KeeperLaws.TestCase.settings = settings(max_examples=100, stateful_step_count=30)
TestKeeperLaws = KeeperLaws.TestCase


def test_an_agent_that_has_given_its_cards_back_sets_none() -> None:
    machine, journal = Machine(Card(FIRST)), Journal(Disk(), "boot")
    keeper = Keeper(Node(machine.find, machine.open, owner_of), journal, POLICY)
    keeper.recover(0.0)
    assert keeper.close() == ()
    with pytest.raises(Refusal, match="the agent ends"):
        keeper.grant(Holder(1, "pid:1"), LeaseRequest(card=FIRST, sm_clock_mhz=600, ttl_s=9.0), 1.0)
    assert (machine.cards[FIRST].sets, journal.cards) == (0, ())


def test_of_a_lease_that_is_refused_no_half_stays() -> None:
    machine, journal = Machine(Card(FIRST)), Journal(Disk(), "boot")
    card = machine.cards[FIRST]

    def refuse_the_limit(what: str) -> None:
        if what == "limit":
            raise Refused("Insufficient Permissions")

    card.about_to = refuse_the_limit
    keeper = Keeper(Node(machine.find, machine.open, owner_of), journal, POLICY)
    keeper.recover(0.0)
    request = LeaseRequest(card=FIRST, sm_clock_mhz=600, power_limit_w=200.0, ttl_s=9.0)
    with pytest.raises(Refusal, match="Insufficient Permissions"):
        keeper.grant(Holder(1, "pid:1"), request, 1.0)
    assert (card.clock_mhz, card.limit_w, journal.cards, keeper.owed) == (None, 300.0, (), ())


def test_who_may_not_set_a_card_owes_it_nothing() -> None:
    machine, journal = Machine(Card(FIRST)), Journal(Disk(), "boot")

    def refuse(what: str) -> None:
        if what != "read":
            raise Refused("Insufficient Permissions")

    machine.cards[FIRST].about_to = refuse
    keeper = Keeper(Node(machine.find, machine.open, owner_of), journal, POLICY)
    keeper.recover(0.0)
    with pytest.raises(Refusal, match="Insufficient Permissions"):
        keeper.grant(Holder(1, "pid:1"), LeaseRequest(card=FIRST, sm_clock_mhz=600, ttl_s=9.0), 1.0)
    assert (journal.cards, keeper.owed, keeper.close()) == ((), (), ())


def test_another_that_keeps_setting_the_card_is_counted_and_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    machine, journal = Machine(Card(FIRST)), Journal(Disk(), "boot")
    card = machine.cards[FIRST]
    keeper = Keeper(Node(machine.find, machine.open, owner_of), journal, POLICY)
    keeper.recover(0.0)
    keeper.grant(Holder(1, "pid:1"), LeaseRequest(card=FIRST, sm_clock_mhz=600, ttl_s=30.0), 0.0)
    assert keeper.tick(0.0) <= CHECK_S
    for beat in range(1, 4):
        card.clock_mhz = None
        keeper.tick(beat * CHECK_S - 0.1)
        assert card.clock_mhz is None
        keeper.tick(beat * CHECK_S)
        assert card.clock_mhz == 600
    assert keeper.counts["changed"] == 3
    said = f"{FIRST}: changed by others: clock: locked to 600 MHz, is 1500; set anew"
    assert [record.getMessage() for record in caplog.records].count(said) == 1


@pytest.mark.parametrize("steps", range(1, 14))
def test_a_lost_journal_restores_every_card_wherever_it_crashes(steps: int) -> None:
    disk = Disk()
    disk.content = b'{"version":1,"boot":"boot","cards":{"GPU'
    machine = Machine(*(Card(uuid, clock_mhz=600, limit_w=150.0) for uuid in (FIRST, SECOND)))
    left = steps

    def step(what: str) -> None:
        nonlocal left
        left -= what != "read"
        if left == 0:
            raise Crashed

    disk.about_to = step
    for card in machine.cards.values():
        card.about_to = step
    for _ in range(2):
        with contextlib.suppress(Crashed):
            keeper = Keeper(Node(machine.find, machine.open, owner_of), Journal(disk, "boot"), POLICY)
            keeper.recover(0.0)
    for card in machine.cards.values():
        assert (card.clock_mhz, card.limit_w) == (None, DEFAULT_LIMIT_W)
    assert (keeper.owed, Journal(disk, "boot").cards) == ((), ())


def test_a_lost_journal_waits_for_the_driver() -> None:
    disk = Disk()
    disk.content = b"torn"
    machine, there = Machine(Card(FIRST, clock_mhz=600, limit_w=150.0)), False

    def find() -> tuple[str, ...]:
        if not there:
            raise GpuError("Driver Not Loaded")
        return machine.find()

    keeper = Keeper(Node(find, machine.open, owner_of), Journal(disk, "boot"), POLICY)
    keeper.recover(0.0)
    keeper = Keeper(Node(find, machine.open, owner_of), Journal(disk, "boot"), POLICY)
    next_s = keeper.recover(0.0)
    there = True
    keeper.tick(next_s)
    card = machine.cards[FIRST]
    assert (card.clock_mhz, card.limit_w, keeper.counts["restored"]) == (None, DEFAULT_LIMIT_W, 1)


def test_a_lost_journal_on_a_full_disk_sets_nothing_until_it_can_be_written() -> None:
    disk = Disk()
    disk.content, disk.full = b"torn", True
    machine = Machine(Card(FIRST, clock_mhz=600, limit_w=150.0))
    keeper = Keeper(Node(machine.find, machine.open, owner_of), Journal(disk, "boot"), POLICY)
    next_s = keeper.recover(0.0)
    card = machine.cards[FIRST]
    assert (card.sets, keeper.cards.present) == (0, ())
    assert "the journal can't be written: No space left on device" in keeper.cards.none_because
    disk.full = False
    keeper.tick(next_s)
    assert (card.clock_mhz, card.limit_w, keeper.cards.present) == (None, DEFAULT_LIMIT_W, (FIRST,))
