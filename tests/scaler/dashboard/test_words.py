"""Decisions as people read them, and which of them are news."""

from __future__ import annotations

from dataclasses import replace

import pytest

from scaler.dashboard.log import MOST_ENTRIES, DecisionLog
from scaler.dashboard.words import Before, Patience, changes, headline, why
from scaler.decision import Action, ReasonCode
from tests.scaler.dashboard.moments import POINT, decision, reason

BREAK_EVEN = Patience(None, 80.0)
HERE = Before(POINT)


def test_a_move_down_says_how_long_the_surplus_lasted_and_what_it_is_measured_by() -> None:
    down = decision(3, 2, reason(ReasonCode.SURPLUS_LASTED, surplus_for_s=94.0))
    assert headline(down, HERE) == "3 → 2 replicas"
    assert why(down, BREAK_EVEN) == [
        "surplus lasted 94 s, longer than the 80 s break-even",
        "120 requests/s now, up to 140 within 7 s",
    ]
    assert why(down, Patience(60.0, 80.0))[0] == "surplus lasted 94 s, of the policy's window of 60 s"
    early = decision(3, 2, reason(ReasonCode.SURPLUS_LASTED, surplus_for_s=50.0))
    assert why(early, BREAK_EVEN)[0] == "surplus lasted 50 s, break-even 80 s", "others' surplus counts too"


def test_what_is_new_of_an_operating_point_alone_is_said() -> None:
    assert changes(None, POINT) == ["batch ≤ 8", "delay ≤ 2 ms"]
    assert changes(POINT, replace(POINT, version=9)) == []
    slower = replace(POINT, sm_clock_mhz=1175, max_delay_s=0.0)
    assert changes(POINT, slower) == ["delay ≤ 0 ms", "clock 1175 MHz"]
    assert changes(slower, POINT) == ["delay ≤ 2 ms", "clock 0 MHz"]


def test_what_stays_as_it_is_is_no_news() -> None:
    log = DecisionLog()
    first = log.add(decision(1, 2), 10.0, BREAK_EVEN)
    assert first is not None
    assert first.headline == "1 → 2 replicas; batch ≤ 8, delay ≤ 2 ms"
    assert log.add(decision(1, 2), 12.0, BREAK_EVEN) is None, "asked for, and still to start"
    assert log.add(decision(2, 2), 14.0, BREAK_EVEN) is None
    assert [entry.number for entry in log.entries] == [1]


def test_a_condition_is_said_when_it_begins_and_when_it_ends() -> None:
    log = DecisionLog()
    log.add(decision(2, 2), 0.0, BREAK_EVEN)
    missed = reason(ReasonCode.SLO_MISSED, "p99 204 ms over the SLO 100 ms")
    began = log.add(decision(2, 2, missed), 1.0, BREAK_EVEN)
    assert began is not None
    assert (began.headline, began.conditions) == ("SLO missed: 2 replicas", ("SLO missed",))
    assert log.conditions == (("SLO missed", "p99 204 ms over the SLO 100 ms"),)
    assert log.add(decision(2, 2, missed), 2.0, BREAK_EVEN) is None
    ended = log.add(decision(2, 2), 3.0, BREAK_EVEN)
    assert ended is not None
    assert (ended.headline, log.conditions) == ("no longer SLO missed: 2 replicas", ())


def test_a_fleet_that_is_held_says_so_whatever_the_reason() -> None:
    log = DecisionLog()
    log.add(decision(2, 2, action=Action.HOLD), 0.0, BREAK_EVEN)
    assert [name for name, _ in log.conditions] == ["held"]


@pytest.mark.parametrize("code", list(ReasonCode))
def test_each_reason_has_a_sentence(code: ReasonCode) -> None:
    values = {"arrivals_rps": 1.0, "forecast_rps": 2.0, "horizon_s": 3.0, "surplus_for_s": 4.0}
    assert all(why(decision(2, 1, reason(code, **values)), BREAK_EVEN))


def test_a_day_of_decisions_stays_within_its_memory() -> None:
    log = DecisionLog()
    for number in range(2 * MOST_ENTRIES):
        log.add(decision(1 + number % 2, 2 - number % 2), float(number), BREAK_EVEN)
    assert len(log.entries) == MOST_ENTRIES
    assert log.entries[-1].number == 2 * MOST_ENTRIES
