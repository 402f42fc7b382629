"""What each condition says, and when its time of transition moves."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaler.decision import Action, ReasonCode
from scaler.kube import policy_page
from scaler.kube.conditions import (
    MEANINGS,
    OBSTACLES,
    REASONS,
    SHOWN_S,
    Circumstances,
    Obstacle,
    conditions_of,
)
from scaler.kube.policy_object import Problem
from scaler.kube.spelling import rfc3339, unix_s
from scaler.kube.status_fields import Condition
from tests.scaler.kube.moments import AT_S, MOMENTS, accepted, decision, problem, reason, row


def now(**changes: Any) -> Circumstances:
    made = Circumstances(at_s=AT_S, generation=1, in_force=accepted(), decision=decision(), row=row())
    return replace(made, **changes)


def said(circumstances: Circumstances, before: tuple[Condition, ...] = ()) -> dict[str, tuple[str, str, str]]:
    found = conditions_of(before, circumstances)
    return {one.type: (one.status, one.reason, one.message) for one in found}


def test_all_is_well() -> None:
    found = said(now())
    assert found["Ready"] == ("True", "SloMet", "p99 31ms; the SLO is 50ms for 99% of requests")
    assert found["Stale"][:2] == ("False", "ReportsFresh")
    assert found["OverBudget"] == ("False", "WithinBudget", "210W (nvml) of 1.2kW")
    assert found["Infeasible"][:2] == ("False", "Feasible")
    assert found["Paused"][:2] == ("False", "NotPaused")


def test_a_policy_that_cannot_be_used_says_why_and_what_is_in_force_instead() -> None:
    bad = problem(generation=2, slo={"latency": "70s"})
    found = said(now(generation=2, problem=bad))
    assert found["Ready"] == (
        "False",
        "InvalidPolicy",
        "spec.slo.latency = '70s': allowed: 1ms to 60s; generation 1 stays in force",
    )
    assert found["Infeasible"][:2] == ("Unknown", "InvalidPolicy")
    nothing = said(now(generation=2, problem=bad, in_force=None, decision=None, row=None))
    assert nothing["Ready"][2].endswith("no replica is moved")
    assert {one.observed_generation for one in conditions_of((), now(generation=2, problem=bad))} == {2}


@pytest.mark.parametrize("why", ["NoProfile", "SeveralProfiles", "Infeasible"])
def test_what_no_profile_meets_is_infeasible(why: Any) -> None:
    found = said(now(problem=Problem("u1", 2, why, "spec.model = 'x': ...")))
    assert found["Infeasible"][:2] == ("True", why)
    assert found["Ready"][:2] == ("False", why)


@pytest.mark.parametrize(
    ("code", "ready", "also"),
    [
        (ReasonCode.SLO_MISSED, "SloMissed", None),
        (ReasonCode.ERROR_BUDGET_SPENT, "ErrorBudgetSpent", None),
        (ReasonCode.SLO_UNREACHABLE, "SloUnreachable", ("Infeasible", "True", "SloUnreachable")),
        (ReasonCode.OVER_BUDGET, "OverBudget", ("OverBudget", "True", "BudgetExceeded")),
        (ReasonCode.MISSING_REPORTS, "ReportsMissing", ("Stale", "True", "ReportsMissing")),
    ],
)
def test_what_a_decision_found_wrong(code: ReasonCode, ready: str, also: tuple[str, str, str] | None) -> None:
    found = said(now(decision=decision(reason(code, "so it is"))))
    assert found["Ready"] == ("False", ready, "so it is")
    if also is not None:
        kind, status, why = also
        assert found[kind][:2] == (status, why)
        assert "so it is" in found[kind][2]


def test_blind_for_long() -> None:
    blind = decision(
        reason(ReasonCode.MISSING_REPORTS, "2 of 3 ready replicas are silent"),
        reason(ReasonCode.FALLBACK, "blind for 15 s: at least 8 replicas"),
        action=Action.UP,
    )
    found = said(now(decision=blind))
    message = "2 of 3 ready replicas are silent; blind for 15 s: at least 8 replicas"
    assert found["Stale"] == ("True", "FallbackReplicas", message)


def test_no_replica_yet_is_not_silence() -> None:
    starting = decision(reason(ReasonCode.MISSING_REPORTS, "no replica has joined"), action=Action.HOLD)
    found = said(now(decision=starting, row=row(replicas_ready=0, p99_s=None, watts=None)))
    assert found["Ready"] == ("False", "NoReplicaReady", "no replica has joined")
    coming = "pods: 2 pending"
    found = said(now(decision=starting, row=row(replicas_ready=0, p99_s=None, watts=None), coming=coming))
    assert found["Ready"][2] == f"no replica has joined; {coming}"


def test_a_fleet_that_was_never_ready_starts_and_is_not_stale() -> None:
    starting = decision(
        reason(ReasonCode.MISSING_REPORTS, "no replica has joined"),
        reason(ReasonCode.STARTING, "no replica has been ready yet: they are waited for"),
        action=Action.HOLD,
    )
    found = said(now(decision=starting, row=row(replicas_ready=0, p99_s=None, watts=None)))
    message = "no replica has joined; no replica has been ready yet: they are waited for"
    assert found["Stale"] == ("False", "Starting", message)
    assert found["Ready"] == ("False", "NoReplicaReady", message)


def test_unknown_watts_are_not_within_the_budget() -> None:
    found = said(now(row=row(watts=None, watts_source="unknown"), decision=decision(watts_basis="profile")))
    assert found["OverBudget"][:2] == ("Unknown", "WattsUnknown")
    assert "planned 240W" in found["OverBudget"][2]
    assert said(now(in_force=accepted(power={})))["OverBudget"][:2] == ("False", "NoBudget")


def test_before_the_first_decision_nothing_is_claimed() -> None:
    found = said(now(decision=None, row=None))
    for kind in ("Ready", "Stale", "OverBudget", "Infeasible"):
        assert found[kind][:2] == ("Unknown", "NotDecidedYet")


def test_paused_by_annotation_or_by_one_that_can_not_be_read() -> None:
    held = accepted(annotations={"minwatt.dev/paused": "true"})
    found = said(now(in_force=held))
    assert found["Paused"][:2] == ("True", "Annotation")
    assert found["Ready"][:2] == ("False", "Paused")
    unreadable = problem(annotations={"minwatt.dev/paused": "ja"})
    found = said(now(problem=unreadable))
    assert found["Paused"][:2] == ("True", "InvalidAnnotation")
    assert "'ja': allowed: 'true' or 'false'" in found["Paused"][2]


def test_an_obstacle_is_said_with_its_own_reason() -> None:
    found = said(
        now(obstacle=Obstacle("OtherAutoscaler", "HorizontalPodAutoscaler web scales it: remove it"))
    )
    assert found["Ready"] == ("False", "OtherAutoscaler", "HorizontalPodAutoscaler web scales it: remove it")


def test_every_obstacle_that_there_is_has_a_line_in_the_page() -> None:
    sources = Path(policy_page.__file__).parent.glob("*.py")
    named = {
        name
        for one in sources
        for name in re.findall(r'(?:Obstacle|UnscalableError)\(\s*"(\w+)"', one.read_text("utf-8"))
    }
    assert named <= set(OBSTACLES)


def test_no_traffic_is_well() -> None:
    assert said(now(row=row(p99_s=None)))["Ready"][:2] == ("True", "NoTraffic")


def test_a_broken_promise_is_shown_for_a_while_and_then_gone() -> None:
    missed = now(decision=decision(reason(ReasonCode.SLO_MISSED, "p99 80 ms over the SLO 50 ms")))
    was = conditions_of((), missed)
    soon = said(replace(now(), at_s=AT_S + SHOWN_S - 1), was)
    assert soon["Ready"] == ("False", "SloMissed", "lately: p99 80 ms over the SLO 50 ms")
    later = conditions_of(
        conditions_of(was, replace(now(), at_s=AT_S + 5)), replace(now(), at_s=AT_S + SHOWN_S)
    )
    assert {one.type: one.status for one in later}["Ready"] == "True"
    edited = said(replace(now(), at_s=AT_S + 1, generation=2), was)
    assert edited["Ready"][:2] == ("True", "SloMet")  # of another policy


@given(st.lists(MOMENTS, min_size=2, max_size=6))
@settings(max_examples=30)
def test_a_transition_time_moves_with_its_status_and_only_then(moments: list[Any]) -> None:
    before: tuple[Condition, ...] = ()
    for at_s, moment in enumerate(sorted(moments, key=lambda one: one.at_s)):
        circumstances = Circumstances(
            at_s=moment.at_s + at_s,
            generation=moment.generation,
            in_force=moment.in_force,
            problem=moment.problem,
            obstacle=moment.obstacle,
            decision=moment.decision,
            row=moment.row,
        )
        after = conditions_of(before, circumstances)
        assert [one.type for one in after] == list(MEANINGS)
        for old, new in zip(before, after, strict=False):
            moved = old.last_transition_time != new.last_transition_time
            assert not (moved and old.status == new.status)
            if old.status != new.status:
                assert new.last_transition_time == rfc3339(circumstances.at_s)
        for one in after:
            known = {*REASONS[one.type], *OBSTACLES}
            assert one.reason in known
            assert one.message or moment.problem or moment.obstacle or moment.decision
        assert conditions_of(after, circumstances) == after
        before = after


@given(st.floats(0, 4e9))
def test_times_read_back_to_the_second(at_s: float) -> None:
    assert unix_s(rfc3339(at_s)) == int(at_s)


@pytest.mark.parametrize("time", ["", "yesterday", "2026-11-22T02:08:03", "2026-13-01T00:00:00Z"])
def test_what_is_no_time(time: str) -> None:
    assert unix_s(time) is None
