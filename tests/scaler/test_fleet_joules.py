"""Joules of a fleet: monotone, each device once, nothing made up."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from scaler.fleet_joules import FleetJoules
from scaler.pages import Page
from scaler.report import Metered, ReplicaState, Report, Unmetered


def report(name: str, device: str, joules: float | None, host: str = "h") -> Report:
    return Report(name, 0.0, ReplicaState.READY, Metered("modelled", device, joules, 1.0), host)


steps = st.lists(st.tuples(st.sampled_from("abcd"), st.floats(0, 50), st.booleans()), min_size=1, max_size=60)


@given(steps)
def test_process_meters_add_up_over_replicas_restarts_and_resets(
    rows: list[tuple[str, float, bool]],
) -> None:
    account = FleetJoules(owns_processes=True)
    counters: dict[str, float] = {}
    spent = 0.0
    for name, joules, restarted in rows:
        counters[name] = (0.0 if restarted else counters.get(name, 0.0)) + joules
        spent += joules
        before = account.total_j or 0.0
        account = account.after([Page.of([report(name, f"process:{name}", counters[name])])])
        assert account.total_j is not None
        assert account.total_j >= before
        # A restart shows only where the new count is below the old one: less is charged then, never more.
        assert account.total_j <= spent * (1 + 1e-9) + 1e-9
    if not any(restarted for _, _, restarted in rows):
        assert account.total_j is not None
        assert abs(account.total_j - spent) < 1e-6


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 10), st.floats(0, 1)), min_size=1))
def test_replicas_on_one_card_count_its_joules_once(rows: list[tuple[str, float, float]]) -> None:
    account = FleetJoules(owns_processes=True)
    meter = highest = 1e6  # it has counted since the driver was loaded
    last = dict.fromkeys("abc", 0.0)
    first: float | None = None
    for name, joules, late in rows:
        meter += joules
        told = max(last[name], meter - late)  # a neighbour may have read a little later
        last[name] = told
        first = told if first is None else first
        highest = max(highest, told) if account.total_j is not None else told
        account = account.after([Page.of([report(name, "GPU-1", told)])])
    assert account.total_j is not None
    assert abs(account.total_j - (highest - (first or 0.0))) < 1e-6


def test_no_joules_known_is_not_no_joules() -> None:
    silent = Report("a", 0.0, ReplicaState.READY, Unmetered("no permission"))
    account = FleetJoules(owns_processes=True).after([Page.of([silent, report("a", "process:1", None)])])
    assert (account.total_j, account.source) == (None, "unknown")


def test_a_cards_reset_goes_on_from_its_new_zero() -> None:
    account = FleetJoules(owns_processes=False)
    for joules in (1000.0, 1010.0, 4.0, 6.0):
        account = account.after([Page.of([report("a", "GPU-1", joules)])])
    assert account.total_j == 16.0


def test_a_fleet_that_ran_before_is_counted_from_the_first_look() -> None:
    account = FleetJoules(owns_processes=False).after([Page.of([report("a", "process:1", 500.0)])])
    assert account.after([Page.of([report("a", "process:1", 503.0)])]).total_j == 3.0
