"""What to start, stop and edit: the same from scratch each time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaler.candidate import Corrections
from scaler.control import first_point
from scaler.control_state import ControlState, carried, start_beside
from scaler.forecast import ForecastState
from scaler.kube.policy_object import Accepted, Problem, parse
from scaler.kube.profiles import Library, settings_for
from scaler.kube.reconcile import Changes, Wanted, reconcile, unread, wanted_of, with_claims
from scaler.kube.status import status_of
from scaler.kube.status_moment import StatusMoment
from scaler.kube.store import Key
from scaler.settings import Settings
from tests.scaler.kube.made_objects import policy_object
from tests.scaler.kube.moments import AT_S
from tests.scaler.made_up import policy, profile, variant

LIBRARY = Library({"tiny.yaml": profile()})


def fit(accepted: Accepted) -> Settings | Problem:
    return settings_for(accepted, LIBRARY)


def wanted(obj: dict[str, Any], before: Wanted | None = None) -> Wanted:
    return wanted_of(obj, before, parse, fit)


def by_key(*all_wanted: Wanted) -> Mapping[Key, Wanted]:
    return with_claims(all_wanted)


def test_the_newest_policy_that_can_be_used_is_in_force() -> None:
    good = wanted(policy_object())
    bad = wanted(policy_object(generation=2, model="unheard"), good)
    assert (bad.accepted, bad.settings, bad.generation) == (good.accepted, good.settings, 2)
    assert bad.problem is not None
    assert reconcile(by_key(bad), by_key(good)) == Changes(edit=(good.key,))
    mended = wanted(policy_object(generation=3, replicas={"min": 2, "max": 3}), bad)
    assert mended.settings is not good.settings
    assert mended.problem is None


def test_a_policy_of_the_same_name_that_was_made_anew_inherits_nothing() -> None:
    good = wanted(policy_object())
    other = policy_object(model="unheard")
    other["metadata"]["uid"] = "another"
    assert wanted(other, good).accepted is None
    assert reconcile(by_key(wanted(other, good)), by_key(good)) == Changes(stop=(good.key,))


def told(good: Wanted) -> dict[str, Any]:
    """The status, once it was written."""
    return status_of(None, StatusMoment(AT_S, good.generation, good.accepted))


def test_a_controller_that_starts_goes_on_with_the_last_good_one() -> None:
    external = {"minwatt.dev/replicas": "external"}
    good = wanted(policy_object(annotations=external, replicas={"min": 2, "max": 5}))
    nonsense = {**policy_object(generation=2, model="unheard"), "status": told(good)}
    started = wanted(nonsense)
    assert started.accepted == good.accepted
    assert started.settings == good.settings
    assert started.problem is not None
    paused = {**policy_object(generation=2, model="unheard"), "status": told(good)}
    paused["metadata"]["annotations"] = {"minwatt.dev/paused": "true"}
    assert wanted(paused).accepted == replace(good.accepted, paused=True) if good.accepted else False


@pytest.mark.parametrize(
    "change",
    [
        {"spec": {}},
        {"spec": "words"},
        {"spec": None},
        {"spec": {**policy_object()["spec"], "replicas": {"min": 9, "max": 3}}},
        {"spec": {**policy_object()["spec"], "model": "unheard"}},
        {"spec": {**policy_object()["spec"], "no": "such field"}},
        {"profile": "a/b"},
        {"replicas": "nonsense"},
    ],
)
def test_a_last_good_one_that_can_not_be_used_is_none(change: dict[str, Any]) -> None:
    status = told(wanted(policy_object()))
    status["lastGood"] = {**status["lastGood"], **change}
    started = wanted({**policy_object(generation=2, model="unheard"), "status": status})
    assert started.accepted is None
    assert started.settings is None
    assert started.problem is not None


def test_a_pause_edits_and_keeps_the_settings_themselves() -> None:
    good = wanted(policy_object())
    paused = wanted(policy_object(annotations={"minwatt.dev/paused": "true"}), good)
    assert paused.settings is good.settings
    assert reconcile(by_key(paused), by_key(good)) == Changes(edit=(good.key,))


def test_another_target_is_another_loop() -> None:
    good = wanted(policy_object())
    moved = wanted(policy_object(generation=2, target="other"), good)
    assert reconcile(by_key(moved), by_key(good)) == Changes(stop=(good.key,), start=(good.key,))


def test_what_the_controller_itself_fails_on_leaves_what_was_in_force() -> None:
    good = wanted(policy_object())
    left = unread(policy_object(generation=2), good, KeyError("oops"))
    assert left.accepted == good.accepted
    assert left.problem is not None
    assert "KeyError" in left.problem.line


OBJECTS = st.lists(
    st.builds(
        policy_object,
        st.sampled_from(["a", "b", "c"]),
        namespace=st.sampled_from(["n", "m"]),
        generation=st.integers(1, 3),
        created=st.sampled_from(["2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"]),
        target=st.sampled_from(["x", "y"]),
        model=st.sampled_from(["tiny", "tiny", "unheard"]),
        annotations=st.sampled_from(
            [{}, {"minwatt.dev/paused": "true"}, {"minwatt.dev/replicas": "external"}]
        ),
    ),
    max_size=6,
    unique_by=lambda one: (one["metadata"]["namespace"], one["metadata"]["name"]),
)


@given(OBJECTS, OBJECTS)
def test_after_the_changes_exactly_those_run_that_can_and_no_two_on_one_target(
    before: list[dict[str, Any]], now: list[dict[str, Any]]
) -> None:
    first = by_key(*(wanted(one) for one in before))
    running = {key: first[key] for key in reconcile(first, {}).start}
    second = by_key(
        *(wanted(one, first.get((one["metadata"]["namespace"], one["metadata"]["name"]))) for one in now)
    )
    changes = reconcile(second, running)
    assert not set(changes.edit) & (set(changes.start) | set(changes.stop))
    for key in changes.stop:
        del running[key]
    for key in (*changes.start, *changes.edit):
        running[key] = second[key]
    assert set(running) == {
        key for key, one in second.items() if one.accepted is not None and one.obstacle is None
    }
    assert len({one.target for one in running.values()}) == len(running)
    assert reconcile(second, running) == Changes()


@pytest.mark.parametrize(
    ("after", "forecast", "corrections"),
    [
        (Settings(policy(replicas={"min": 2, "max": 9}), profile()), True, True),
        (Settings(policy(behavior={"tick": "30s"}), profile()), False, True),
        (Settings(policy(), profile(variant(name="fp16"))), True, False),
    ],
)
def test_an_edit_keeps_what_still_holds(after: Settings, forecast: bool, corrections: bool) -> None:
    before = Settings(policy(), profile())
    learnt = ForecastState(0.0, 0.0, 1.0, (1.0, 1.0, 1.0), 1.0, (1.0, 0.0))
    point = first_point(before)
    base = start_beside(0.0)
    state = ControlState(
        **{name: getattr(base, name) for name in ("started_s", "found_running")},
        forecast=learnt,
        corrections=Corrections(service=2.0),
        point=point,
    )
    kept = carried(state, before, after)
    assert (kept.forecast is learnt) is forecast
    assert (kept.corrections.service == 2.0) is corrections
    assert kept.point is point  # its version goes on growing
    assert kept.started_s == state.started_s
