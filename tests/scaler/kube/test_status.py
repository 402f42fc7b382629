"""The status: valid by the CRD, the same when nothing changed, written when it is worth it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaler.decision import Action, ReasonCode
from scaler.kube import crd
from scaler.kube.status import status_of
from scaler.kube.status_changes import NOISE_EVERY_S, STILL_THERE_EVERY_S, worth_writing
from scaler.kube.status_moment import StatusMoment
from tests.scaler.kube.admission import admitted
from tests.scaler.kube.moments import (
    AT_S,
    COUNTS,
    LOAD,
    MOMENTS,
    POINT,
    accepted,
    decision,
    moment,
    policy_object,
    problem,
    reason,
    row,
)

SCHEMA = crd.status_schema()


def test_everything_that_describe_should_answer() -> None:
    status = status_of(None, moment())
    conditions = status.pop("conditions")
    assert status == {
        "observedGeneration": 1,
        "generationInForce": 1,
        "lastGood": {"generation": 1, "spec": policy_object()["spec"]},
        "updated": "2027-01-15T08:00:00Z",
        "replicas": {
            "desired": 4,
            "current": 4,
            "ready": 3,
            "starting": 1,
            "pending": 0,
            "unschedulable": 0,
            "terminating": 0,
        },
        "latency": {"p50": "12ms", "p99": "31ms"},
        "power": {"drawn": "210W", "source": "nvml", "budget": "1.2kW", "joules": 123457},
        "traffic": {"arrivals": "103rps", "forecast": "120rps"},
        "operatingPoint": {
            "version": 7,
            "maxSize": 16,
            "maxTokens": 2048,
            "maxDelay": "10ms",
            "variant": "int8",
            "shedsLowPriority": False,
        },
        "decision": {
            "since": "2027-01-15T07:59:57Z",
            "action": "keep",
            "current": 4,
            "desired": 4,
            "message": "keep: 4 replicas · batch ≤ 16, delay ≤ 10 ms, int8 · "
            "103.0 rps now, up to 120.5 in 9.0 s",
            "predicted": {"p99": "38ms", "watts": "240W", "basis": "measured"},
            "reasons": [
                {
                    "code": "load",
                    "message": "103.0 rps now, up to 120.5 in 9.0 s",
                    "values": {"arrivals_rps": "103", "forecast_rps": "120.5"},
                }
            ],
        },
        "fence": {"holder": "minwatt-controller-7d9f-abcde", "transitions": 3},
        "columns": {
            "p99": "31ms",
            "watts": "210W nvml / 1.2kW",
            "replicas": "3/4",
            "point": "16 texts 10ms int8",
        },
    }
    assert [one["type"] for one in conditions] == ["Ready", "Stale", "OverBudget", "Infeasible", "Paused"]


def test_what_is_not_known_is_left_out() -> None:
    status = status_of(
        None, StatusMoment(at_s=AT_S, generation=2, in_force=None, problem=problem(model=None))
    )
    assert set(status) == {"observedGeneration", "updated", "replicas", "columns", "conditions"}
    assert status["columns"] == {"replicas": "?/?"}
    blind = status_of(
        None, moment(row=row(watts=None, watts_source="unknown", p99_s=None, arrivals_rps=None))
    )
    assert "latency" not in blind
    assert "drawn" not in blind["power"]
    assert blind["columns"]["watts"] == "? / 1.2kW"


def test_the_last_good_policy_is_kept_where_none_can_be_used() -> None:
    marked = accepted(annotations={"minwatt.dev/replicas": "external", "minwatt.dev/profile": "t4.yaml"})
    good = status_of(None, moment(in_force=marked))
    assert good["lastGood"]["replicas"] == "external"
    assert good["lastGood"]["profile"] == "t4.yaml"
    nothing = StatusMoment(at_s=AT_S, generation=2, in_force=None, problem=problem(model=None))
    after = status_of(good, nothing)
    assert after["lastGood"] == good["lastGood"]
    assert "generationInForce" not in after
    edited = status_of(after, moment(in_force=accepted(generation=3)))
    assert edited["lastGood"] == {"generation": 3, "spec": policy_object()["spec"]}
    assert worth_writing(good, edited, AT_S)


@given(st.lists(MOMENTS, min_size=1, max_size=4))
@settings(max_examples=30)
def test_it_is_valid_by_the_crd_idempotent_and_small(moments: list[StatusMoment]) -> None:
    status: dict[str, Any] | None = None
    for one in moments:
        status = status_of(status, one)
        stored, errors = admitted(status, SCHEMA)
        assert errors == []
        assert stored == status  # nothing is dropped, nothing filled in
        assert status_of(status, one) == status
        assert not worth_writing(status, status, one.at_s)
        json.dumps(status, allow_nan=False)


@given(MOMENTS, st.dictionaries(st.sampled_from([*SCHEMA["properties"], "x"]), st.integers() | st.text()))
@settings(max_examples=30)
def test_whatever_was_left_there_is_no_obstacle(one: StatusMoment, left: dict[str, Any]) -> None:
    assert admitted(status_of(left, one), SCHEMA)[1] == []
    worth_writing(left, status_of(left, one), one.at_s)


def test_since_when_it_has_been_decided_so() -> None:
    first = status_of(None, moment(at_s=AT_S, decided_at_s=AT_S))
    louder = decision(reason(ReasonCode.LOAD, "140.0 rps now"), forecast_rps=150.0)
    same = status_of(first, moment(at_s=AT_S + 5, decided_at_s=AT_S + 5, decision=louder))
    assert same["decision"]["since"] == first["decision"]["since"]
    assert same["decision"]["message"].endswith("140.0 rps now")
    retuned = decision(operating_point=replace(POINT, version=8))
    assert status_of(same, moment(at_s=AT_S + 10, decided_at_s=AT_S + 10, decision=retuned))["decision"][
        "since"
    ] == ("2027-01-15T08:00:10Z")


def test_the_last_scaling_is_remembered_also_by_another_controller() -> None:
    up = decision(action=Action.UP, desired_replicas=6)
    wished = status_of(None, moment(decision=up))
    assert "lastScaling" not in wished
    assert wished["replicas"]["desired"] == 6
    six = replace(COUNTS, current=6)
    scaled = status_of(wished, moment(at_s=AT_S + 1, decision=up, replicas=six))
    assert worth_writing(wished, scaled, AT_S + 1)
    assert scaled["lastScaling"]["at"] == "2027-01-15T08:00:01Z"
    assert (scaled["lastScaling"]["current"], scaled["lastScaling"]["desired"]) == (4, 6)
    assert scaled["lastScaling"]["message"].startswith("up: 4 → 6 replicas · ")
    later = status_of(scaled, moment(at_s=AT_S + 60, replicas=six))
    assert later["lastScaling"] == scaled["lastScaling"]
    fresh = status_of(later, moment(at_s=AT_S + 90, decision=None, row=None, replicas=None))
    assert fresh["lastScaling"] == scaled["lastScaling"]


def test_a_hand_that_scales_is_told_beside_what_is_wanted() -> None:
    was = status_of(None, moment())
    status = status_of(was, moment(replicas=replace(COUNTS, current=10)))
    assert status["lastScaling"]["message"].startswith("4 → 10 replicas; 4 are wanted: keep: 4 replicas · ")
    early = status_of(was, moment(replicas=replace(COUNTS, current=1), decision=None))
    assert early["lastScaling"]["message"] == "4 → 1 replicas, before minwatt decided anything"


def test_numbers_that_move_alone_are_written_now_and_then() -> None:
    was = status_of(None, moment())
    noise = moment(at_s=AT_S + 1, row=row(p99_s=0.041, watts=220.0, joules_total=123_700.0))
    after = status_of(was, noise)
    assert not worth_writing(was, after, AT_S + 1)
    assert not worth_writing(was, after, AT_S + NOISE_EVERY_S - 1)
    assert worth_writing(was, after, AT_S + NOISE_EVERY_S)


def test_a_second_without_a_request_is_no_news() -> None:
    was = status_of(None, moment())
    after = status_of(was, moment(at_s=AT_S + 1, row=row(p99_s=None, p50_s=None)))
    assert after["conditions"][0]["reason"] == "NoTraffic"
    assert not worth_writing(was, after, AT_S + 1)
    assert worth_writing(was, after, AT_S + NOISE_EVERY_S)


def test_noise_below_what_is_shown_is_no_change() -> None:
    was = status_of(None, moment())
    hardly = row(p99_s=0.0314, p50_s=0.0121, watts=210.2, arrivals_rps=103.1, joules_total=123_456.9)
    after = status_of(was, moment(at_s=AT_S + 60, row=hardly))
    assert {**after, "updated": was["updated"]} == was
    assert not worth_writing(was, after, AT_S + 60)
    assert worth_writing(was, after, AT_S + STILL_THERE_EVERY_S)


@pytest.mark.parametrize(
    "changes",
    [
        {"decision": decision(action=Action.UP, desired_replicas=5)},
        {"decision": decision(operating_point=replace(POINT, version=8))},
        {"decision": decision(LOAD, reason(ReasonCode.OVER_BUDGET))},
        {"in_force": accepted(annotations={"minwatt.dev/paused": "true"})},
        {"generation": 2, "in_force": accepted(generation=2)},
        {"generation": 2, "problem": problem(generation=2, model=None)},
        {"fence": None},
    ],
)
def test_what_people_wait_for_is_written_at_once(changes: dict[str, Any]) -> None:
    was = status_of(None, moment())
    after = status_of(was, moment(at_s=AT_S + 1, **changes))
    assert worth_writing(was, after, AT_S + 1)


def test_a_first_status_and_one_of_an_unreadable_time_are_written() -> None:
    after = status_of(None, moment())
    assert worth_writing(None, after, AT_S)
    assert worth_writing({}, after, AT_S)
    assert worth_writing({**after, "updated": "soon"}, after, AT_S)
    assert worth_writing({**after, "updated": "2099-01-01T00:00:00Z"}, after, AT_S)


def test_the_point_names_variant_clock_and_what_is_shed() -> None:
    point = replace(POINT, sm_clock_mhz=1410, shed_low_priority=True)
    status = status_of(None, moment(decision=decision(operating_point=point)))
    assert status["columns"]["point"] == "16 texts 10ms int8 1410MHz sheds"
    assert status["operatingPoint"]["smClock"] == "1410MHz"


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ({"starting": 1, "pending": 0}, "no replica has joined; pods: 1 starting"),
        (
            {"starting": 1, "pending": 3, "unschedulable": 2},
            "no replica has joined; pods: 1 starting, 3 pending (2 unschedulable)",
        ),
        ({"starting": 0, "pending": 3}, "no replica has joined; pods: 3 pending"),
        ({"starting": 0, "pending": 0}, "no replica has joined"),
    ],
)
def test_where_no_replica_is_ready_ready_says_where_the_pods_are(counts: dict[str, int], said: str) -> None:
    blind = decision(reason(ReasonCode.MISSING_REPORTS, "no replica has joined"), action=Action.HOLD)
    seen = moment(decision=blind, row=row(replicas_ready=0), replicas=replace(COUNTS, ready=0, **counts))
    (ready,) = [one for one in status_of(None, seen)["conditions"] if one["type"] == "Ready"]
    assert (ready["reason"], ready["message"]) == ("NoReplicaReady", said)
