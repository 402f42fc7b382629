"""Which Events there are: few, and each of something that an SRE would look for."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from scaler.decision import Action, ReasonCode
from scaler.kube.conditions import Obstacle
from scaler.kube.decision_events import condition_events, decision_events
from scaler.kube.status import status_of
from scaler.kube.status_moment import StatusMoment
from tests.scaler.kube.moments import AT_S, LOAD, MOMENTS, POINT, accepted, decision, moment, problem, reason


def reasons_of(before: dict[str, Any] | None, after: dict[str, Any]) -> list[tuple[str, str]]:
    return [(one.type, one.reason) for one in condition_events(before, after)]


def test_scaling_is_told_only_where_it_happens() -> None:
    up = decision(action=Action.UP, desired_replicas=6)
    (told,) = decision_events(None, up, acted_on=True)
    assert (told.type, told.reason, told.action) == ("Normal", "ScaledUp", "Scale")
    assert told.note.startswith("up: 4 → 6 replicas · ")
    assert decision_events(None, up, acted_on=False) == ()
    (down,) = decision_events(up, decision(action=Action.DOWN, desired_replicas=2), acted_on=True)
    assert down.reason == "ScaledDown"


def test_a_retune_is_no_event_but_another_variant_and_the_ladder_are() -> None:
    was = decision()
    faster = decision(action=Action.RETUNE, operating_point=replace(POINT, version=8, max_batch_texts=8))
    assert decision_events(was, faster, acted_on=True) == ()
    why = reason(ReasonCode.VARIANT, "fp16 in the place of int8: it draws less")
    other = decision(LOAD, why, operating_point=replace(POINT, version=9, variant="fp16"))
    (told,) = decision_events(was, other, acted_on=True)
    assert (told.reason, told.note) == (
        "VariantChanged",
        "int8 → fp16: fp16 in the place of int8: it draws less",
    )
    gives_up = decision(LOAD, reason(ReasonCode.BUDGET_LADDER, "over the budget: lowerClocks"))
    assert [one.reason for one in decision_events(was, gives_up, acted_on=True)] == ["BudgetLadder"]
    assert decision_events(gives_up, gives_up, acted_on=True) == ()


def test_a_condition_that_turned_bad_is_told_once_and_so_is_its_end() -> None:
    well = status_of(None, moment())
    assert reasons_of(None, well) == []
    over = status_of(well, moment(decision=decision(reason(ReasonCode.OVER_BUDGET, "1300 W of 1200 W"))))
    assert reasons_of(well, over) == [("Warning", "BudgetExceeded")]
    assert reasons_of(over, over) == []
    again = status_of(over, moment(at_s=AT_S + 60))
    assert reasons_of(over, again) == [("Normal", "WithinBudget"), ("Normal", "Ready")]


def test_a_bad_edit_and_its_mending() -> None:
    well = status_of(None, moment())
    bad = status_of(well, moment(generation=2, problem=problem(generation=2, slo={"latency": "70s"})))
    (told,) = condition_events(well, bad)
    assert (told.type, told.reason, told.action) == ("Warning", "InvalidPolicy", "Reconcile")
    assert "spec.slo.latency = '70s'" in told.note
    mended = status_of(bad, moment(generation=3, in_force=accepted(generation=3)))
    assert reasons_of(bad, mended) == [("Normal", "Ready")]


def test_an_obstacle_is_told_whatever_else_came_or_went_with_it() -> None:
    """Another's words stand for Ready's only where Ready says the same."""
    blind = decision(reason(ReasonCode.MISSING_REPORTS, "2 of 4 replicas report"))
    rival = Obstacle("OtherAutoscaler", "HorizontalPodAutoscaler busy scales Deployment support-text too")
    well = status_of(None, moment())
    unheard = status_of(well, moment(decision=blind))
    assert reasons_of(well, unheard) == [("Warning", "ReportsMissing")]
    both = status_of(well, moment(decision=blind, obstacle=rival))
    assert reasons_of(well, both) == [("Warning", "ReportsMissing"), ("Warning", "OtherAutoscaler")]
    heard = status_of(unheard, moment(obstacle=rival, at_s=AT_S + 60))
    assert reasons_of(unheard, heard) == [("Normal", "ReportsFresh"), ("Warning", "OtherAutoscaler")]


def test_pausing_is_no_warning() -> None:
    well = status_of(None, moment())
    paused = status_of(well, moment(in_force=accepted(annotations={"minwatt.dev/paused": "true"})))
    assert reasons_of(well, paused) == [("Normal", "Annotation")]
    assert reasons_of(paused, status_of(paused, moment(at_s=AT_S + 60))) == [
        ("Normal", "Resumed"),
        ("Normal", "Ready"),
    ]


@given(st.lists(MOMENTS, min_size=2, max_size=5))
@settings(max_examples=30)
def test_each_is_what_the_events_api_takes(moments: list[StatusMoment]) -> None:
    status = None
    told = []
    for one in moments:
        after = status_of(status, one)
        told += condition_events(status, after)
        assert condition_events(after, after) == ()
        status = after
    for before, after_it in pairwise(moments):
        if after_it.decision is not None:
            told += decision_events(before.decision, after_it.decision, acted_on=True)
    for event in told:
        assert event.type in {"Normal", "Warning"}
        assert 0 < len(event.reason) <= 128
        assert 0 < len(event.action) <= 128
        assert len(event.note.encode()) <= 1024
