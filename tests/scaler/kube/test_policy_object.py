"""What an object of the API server is to the controller."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from minwatt.v1.errors import UsageError
from scaler.kube.policy_object import (
    Accepted,
    Problem,
    annotation_problem,
    in_force,
    on_kubernetes,
    parse,
    was_heard,
)
from scaler.policy import Policy, load_policy
from scaler.policy_sections import TargetRef
from tests.scaler.kube.moments import accepted, policy_object, problem


def test_an_object_as_the_server_gives_it() -> None:
    found = accepted(generation=7, annotations={"minwatt.dev/profile": "a100.yaml"})
    assert (found.namespace, found.name, found.uid, found.generation) == (
        "inference",
        "support-text",
        "u1",
        7,
    )
    assert found.fleet == "inference/support-text"
    assert (found.paused, found.external, found.profile) == (False, False, "a100.yaml")
    assert (found.target.api_version, found.target.kind, found.target.name) == (
        "apps/v1",
        "Deployment",
        "support-text",
    )
    assert found.policy.spec.slo.latency_s == 0.05
    assert found.policy.not_acted_on() == ()  # the target is acted on here


@pytest.mark.parametrize(
    ("changes", "reason", "said"),
    [
        ({"slo": {"latency": "70s"}}, "InvalidPolicy", "spec.slo.latency = '70s': allowed: 1ms to 60s"),
        (
            {"slo": {"latencyy": "70s"}},
            "InvalidPolicy",
            "spec.slo.latencyy: unknown field; allowed: latency,",
        ),
        (
            {"replicas": {"min": 3, "max": 2}},
            "InvalidPolicy",
            "spec.replicas.max = 2: allowed: replicas.min (3)",
        ),
        ({"targetRef": None}, "InvalidPolicy", "spec.targetRef: Field required"),
        ({"model": None}, "InvalidPolicy", "spec.model = None: Input should be a valid string"),
        (
            {"annotations": {"minwatt.dev/pausd": "true"}},
            "InvalidAnnotation",
            "metadata.annotations[minwatt.dev/pausd]: unknown annotation; allowed: minwatt.dev/paused, ",
        ),
        (
            {"annotations": {"minwatt.dev/paused": "yes"}},
            "InvalidAnnotation",
            "metadata.annotations[minwatt.dev/paused] = 'yes': allowed: 'true' or 'false'",
        ),
        (
            {"annotations": {"minwatt.dev/replicas": "keda"}},
            "InvalidAnnotation",
            "metadata.annotations[minwatt.dev/replicas] = 'keda': allowed: 'external'",
        ),
        (
            {"annotations": {"minwatt.dev/profile": "../etc/passwd"}},
            "InvalidAnnotation",
            "metadata.annotations[minwatt.dev/profile] = '../etc/passwd': allowed: the name of a file",
        ),
    ],
)
def test_a_problem_is_one_line_with_field_value_and_what_is_allowed(
    changes: dict[str, Any], reason: str, said: str
) -> None:
    found = problem(**changes)
    assert found.reason == reason
    assert said in found.line
    assert "\n" not in found.line


@pytest.mark.parametrize(
    ("value", "paused"), [(None, False), ("false", False), ("true", True), ("True", True), ("", True)]
)
def test_whatever_is_not_plainly_false_pauses(value: str | None, paused: bool) -> None:
    annotations = {} if value is None else {"minwatt.dev/paused": value}
    found = parse(policy_object(annotations=annotations))
    assert found.paused == paused
    assert isinstance(found, Accepted) == (value in {None, "true", "false"})


def test_a_fleet_can_be_paused_whatever_else_is_wrong() -> None:
    last = accepted(generation=1)
    found = problem(generation=2, model=None, annotations={"minwatt.dev/paused": "true"})
    held = in_force(found, last)
    assert held is not None
    assert (held.paused, held.generation, held.policy) == (True, 1, last.policy)


def test_the_last_good_policy_stays_in_force_but_not_that_of_another_object() -> None:
    last, bad = accepted(generation=1), problem(generation=2, model=None)
    assert in_force(bad, None) is None
    assert in_force(bad, last) == last
    assert in_force(problem(generation=1, model=None, uid="u2"), last) is None
    assert in_force(accepted(generation=3), last) == accepted(generation=3)


@pytest.mark.parametrize(
    ("stale", "heard"),
    [
        ({"status": "False", "reason": "ReportsFresh"}, True),
        ({"status": "True", "reason": "ReportsMissing"}, True),
        ({"status": "True", "reason": "FallbackReplicas"}, True),
        ({"status": "False", "reason": "Starting"}, False),
        ({"status": "Unknown", "reason": "NotDecidedYet"}, False),
    ],
)
def test_a_status_tells_whether_this_target_was_ever_heard(stale: dict[str, str], heard: bool) -> None:
    obj = policy_object()
    now = parse(obj)
    assert isinstance(now, Accepted)
    assert not was_heard(obj, now), "no status yet"
    status = {
        "conditions": [{"type": "Ready", "status": "True", "reason": "SloMet"}, {"type": "Stale", **stale}],
        "lastGood": {"generation": 1, "spec": obj["spec"]},
    }
    assert was_heard({**obj, "status": status}, now) == heard
    other = {**now.target.model_dump(by_alias=True), "name": "another"}
    assert not was_heard({**obj, "status": status}, replace(now, target=TargetRef.model_validate(other)))
    assert not was_heard({**obj, "status": {**status, "conditions": "?"}}, now)


def test_what_kubectl_gets_is_a_policy_file(tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(yaml.safe_dump(policy_object(generation=3)))
    assert load_policy(file).spec == Policy.model_validate(policy_object()).spec
    file.write_text(yaml.safe_dump({**policy_object(), "stats": {}}))
    with pytest.raises(UsageError, match="stats: unknown field"):
        load_policy(file)


_JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=20)),
    lambda below: st.one_of(
        st.lists(below, max_size=3), st.dictionaries(st.text(max_size=10), below, max_size=3)
    ),
    max_leaves=10,
)


@given(st.sampled_from(["apiVersion", "kind", "metadata", "spec", "status"]), _JSON)
def test_nothing_that_a_server_could_hold_raises(field: str, value: Any) -> None:
    found = parse({**policy_object(), field: value})
    assert isinstance(found, Accepted | Problem)


@given(st.dictionaries(st.text(max_size=30), st.text(max_size=30)))
def test_others_annotations_are_their_own(annotations: dict[str, str]) -> None:
    assert annotation_problem({f"x{key}": value for key, value in annotations.items()}) is None


def test_what_a_file_would_do_as_an_object() -> None:
    def said(annotations: dict[str, str], **spec: Any) -> str:
        plain = policy_object(**spec)
        document = {key: plain[key] for key in ("apiVersion", "kind", "spec")}
        return on_kubernetes(Policy(**document, metadata={"name": "x", "annotations": annotations}))

    assert said({}) == "scales Deployment support-text (apps/v1) in the namespace it is created in"
    assert said({}, targetRef=None) == "spec.targetRef is missing: an object must have it"
    assert said(
        {"minwatt.dev/paused": "true", "minwatt.dev/replicas": "external", "minwatt.dev/profile": "t4.yaml"}
    ) == (
        "tunes Deployment support-text (apps/v1) in the namespace it is created in; another autoscaler scales"
        " it; paused: moves nothing; profile t4.yaml"
    )
