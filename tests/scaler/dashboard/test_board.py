"""What the page shows of a fleet: values, replicas, savings, and how those who look are told."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaler.bus import FleetView
from scaler.dashboard.board import Board
from scaler.dashboard.roster import COLUMNS, MOST_ROWS, Roster
from scaler.dashboard.saving import Saving
from scaler.decision import ReasonCode
from scaler.report import ReplicaState, Unmetered
from scaler.settings import Settings
from tests.scaler.dashboard.moments import (
    START_S,
    board_with,
    decision,
    reason,
    report,
    row,
    settings,
    view,
)
from tests.scaler.made_up import policy, profile


def named(values: tuple[Any, ...]) -> dict[str, Any]:
    return dict(zip(COLUMNS, values, strict=True))


def test_the_state_is_what_the_loop_told() -> None:
    state = board_with(replicas=2, seconds=5).of(900.0)
    assert state["policy"]["slo_s"] == settings().limits.slo_latency_s
    newest = {name: column[-1] for name, column in state["history"].items()}
    assert newest["offered_rps"] == 120.0
    assert newest["goodput_rps"] == pytest.approx(90.0), "a quarter was late"
    assert newest["watts"] == 6.0
    assert newest["idle_w"] == pytest.approx(2 * 0.74)
    moment = state["moment"]
    assert moment["watts_source"] == "modelled"
    assert moment["requests"] == 4 * 120
    assert moment["joules_per_request"] == pytest.approx(30 / 480, rel=1e-5)
    assert [entry["headline"] for entry in state["decisions"]] == ["1 → 2 replicas; batch ≤ 8, delay ≤ 2 ms"]
    json.dumps(state, allow_nan=False)


def test_what_is_not_known_is_null_and_never_zero() -> None:
    board = Board(settings())
    board.observed(row(1, arrivals_rps=None, completions_rps=None, watts=None, p99_s=None, joules_total=None))
    state = board.of(900.0)
    for name in ("offered_rps", "goodput_rps", "watts", "idle_w", "p99_s"):
        assert state["history"][name] == [None]
    assert state["moment"]["joules_per_request"] is None
    assert state["moment"]["saving"] is None


def test_a_replicas_row_is_of_its_last_two_reports() -> None:
    roster = Roster()
    roster.hear(FleetView.of(frozenset("ab"), [report("a", 1.0), report("b", 1.0)]))
    roster.hear(FleetView.of(frozenset("ab"), [report("a", 2.0)]))
    a, b = (named(values) for values in roster.rows(2.5))
    assert (a["name"], a["state"], a["rps"], a["batch_texts"], a["busy_fraction"]) == (
        "a",
        "ready",
        60.0,
        3.0,
        0.4,
    )
    assert a["p99_ms"] == pytest.approx(20, rel=0.011)
    assert (a["watts"], a["watts_source"]) == (3.0, "modelled")
    assert (b["rps"], b["batch_texts"]) == (None, None), "one report tells no rate"


def test_those_that_need_a_look_come_first_and_those_that_left_go() -> None:
    roster = Roster()
    members = frozenset({"a", "b", "c", "d"})
    reports = [
        report("a", 10.0),
        report("b", 10.0, state=ReplicaState.DRAINING),
        report("c", 2.0),
        report("d", 2.0, state=ReplicaState.STARTING, power=Unmetered("no meter yet")),
    ]
    roster.hear(FleetView.of(members, reports))
    rows = [named(values) for values in roster.rows(10.0)]
    assert [(one["name"], one["state"]) for one in rows] == [
        ("c", "silent"),
        ("b", "draining"),
        ("d", "starting"),
        ("a", "ready"),
    ]
    assert rows[2]["watts"] is None
    roster.hear(FleetView.of(frozenset(), [], problem="the bus is away"))
    assert roster.replicas == 4, "nobody has left by that"
    roster.hear(FleetView.of(frozenset({"a"}), []))
    assert [named(values)["name"] for values in roster.rows(10.0)] == ["a"]


def test_a_replica_that_began_anew_shows_no_rate_below_zero() -> None:
    roster = Roster()
    roster.hear(view(1, 100.0))
    roster.hear(FleetView.of(frozenset({"replica-1"}), [report("replica-1", 101.0, arrivals_total=5)]))
    assert named(roster.rows(101.0)[0])["rps"] is None


def test_a_second_of_two_hundred_replicas_is_small_and_a_larger_fleet_sends_no_more() -> None:
    for replicas in (MOST_ROWS, 5 * MOST_ROWS):
        board = board_with(replicas, seconds=2)
        looking = board.look()
        board.observed(row(3))
        text = looking.get_nowait()
        assert text is not None
        assert len(text.encode()) < 50_000
        moment = json.loads(text.split("data: ", 1)[1])["moment"]
        assert len(moment["replicas"]) == MOST_ROWS
        assert moment["replicas_all"] == replicas


def test_those_who_look_are_told_of_seconds_and_decisions() -> None:
    board = board_with(2, seconds=2)
    looking = board.look()
    board.observed(row(3, watts=9.0))
    board.decided(decision(2, 3, reason(ReasonCode.SLO_MISSED)), START_S + 3)
    beat, told = looking.get_nowait(), looking.get_nowait()
    assert beat is not None
    assert told is not None
    assert beat.startswith("event: beat\ndata: ")
    assert beat.endswith("\n\n")
    point = json.loads(beat.split("data: ", 1)[1])["point"]
    assert point == [column[-1] for column in board.of(900.0)["history"].values()]
    assert json.loads(told.split("data: ", 1)[1])["headline"] == "2 → 3 replicas"
    board.leave(looking)
    board.observed(row(4))
    assert looking.empty()


def test_who_reads_too_slowly_is_let_go_and_others_are_not() -> None:
    board = board_with(2, seconds=1)
    slow, quick = board.look(), board.look()
    for second in range(2, 40):
        board.observed(row(second))
        assert quick.get_nowait() is not None
    assert slow.get_nowait() is None
    assert slow.empty()


def test_an_edited_policy_has_those_who_look_begin_anew() -> None:
    board = board_with(2, seconds=2)
    looking = board.look()
    other = Settings(policy(slo={"latency": "70ms"}), profile())
    board.follow(other)
    assert looking.get_nowait() is None
    state = board.of(900.0)
    assert (state["policy"]["slo_s"], len(state["history"]["at_s"])) == (0.07, 2)
    looking = board.look()
    board.follow(other)
    assert looking.empty(), "nothing was edited"


@given(
    st.lists(st.tuples(st.integers(0, 50), st.floats(0, 10)), min_size=1, max_size=30), st.floats(0.1, 100)
)
def test_a_fixed_fleet_never_draws_less_and_as_much_where_nothing_moved(
    spans: list[tuple[int, float]], idle_w: float
) -> None:
    saving = Saving(idle_w)
    for running, elapsed_s in spans:
        saving = saving.after(running, elapsed_s)
    assert saving.joules >= -1e-6
    idle_j = sum((saving.most - running) * elapsed_s * idle_w for running, elapsed_s in spans)
    assert saving.joules == pytest.approx(idle_j, abs=1e-6)
    steady = Saving(idle_w).after(3, 1.0).after(3, 5.0)
    assert steady.joules == pytest.approx(0, abs=1e-9)
    assert saving.share(0.0) is None or 0 <= (saving.share(1.0) or 0) < 1
