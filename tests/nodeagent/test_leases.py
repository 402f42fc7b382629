"""The lease table: the highest wins, what ends is gone, and nobody is slowed by another."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from nodeagent.leases import DEFAULT, Lease, Leases, Setting

SETTINGS = st.builds(Setting, st.none() | st.integers(300, 1500), st.none() | st.floats(100, 400)).filter(
    lambda setting: setting != DEFAULT
)
LEASES = st.builds(Lease, st.sampled_from(["pod:a", "pod:b", "pid:7"]), SETTINGS, st.floats(0, 100))
TABLES = st.dictionaries(st.tuples(st.sampled_from("XY"), st.integers(0, 4)), LEASES, max_size=8).map(Leases)
OWNERS = st.frozensets(st.sampled_from(["pod:a", "pod:b", "pid:7", "pod:other"]))


def height(value: float | None) -> float:
    """A card's own default is above all."""
    return math.inf if value is None else value


@given(TABLES, OWNERS)
def test_no_lease_and_nobody_else_gets_less_than_it_wants(table: Leases, computing: frozenset[str]) -> None:
    for card in "XY":
        wanted = table.wanted(card, computing)
        for lease in table.of(card):
            assert height(wanted.clock_mhz) >= height(lease.wish.clock_mhz)
            assert height(wanted.limit_w) >= height(lease.wish.limit_w)
        if computing - table.owners(card):
            assert wanted == DEFAULT


@given(TABLES)
def test_the_card_gets_what_one_of_the_leases_asks_for_and_not_more(table: Leases) -> None:
    for card in "XY":
        wanted = table.wanted(card)
        assert wanted.clock_mhz in {None, *(lease.wish.clock_mhz for lease in table.of(card))}
        assert wanted.limit_w in {None, *(lease.wish.limit_w for lease in table.of(card))}
        if (leases := table.of(card)) and all(lease.wish.clock_mhz for lease in leases):
            assert wanted.clock_mhz is not None


@given(TABLES, st.floats(0, 100))
def test_what_has_run_out_is_gone_and_the_next_end_is_told(table: Leases, now_s: float) -> None:
    left = table.at(now_s)
    assert all(lease.ends_s > now_s for lease in left.by_key.values())
    assert left.by_key == {key: one for key, one in table.by_key.items() if one.ends_s > now_s}
    assert left.at(now_s) is left
    assert (left is table) == (table.next_end_s > now_s)
    assert not table.at(math.inf).by_key
    assert Leases().next_end_s == math.inf


@given(TABLES, st.integers(0, 4))
def test_a_holder_that_leaves_takes_its_own_leases_only(table: Leases, holder: int) -> None:
    left = table.left(holder)
    assert left.by_key == {key: lease for key, lease in table.by_key.items() if key[1] != holder}
    assert all(left.wanted(card) == DEFAULT for card in "XY" if card not in left.cards)


@given(TABLES, LEASES)
def test_one_lease_a_card_and_holder(table: Leases, lease: Lease) -> None:
    granted = table.granted("X", 1, lease)
    assert granted.by_key["X", 1] == lease
    assert granted.released("X", 1).by_key == table.released("X", 1).by_key
    assert granted.renewed("X", 1, 7.0).by_key["X", 1].wish == lease.wish
