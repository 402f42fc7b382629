from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaler.kube.rivals import Claim, TargetKey, autoscaler_on, refused_claims
from scaler.kube.selectors import matches
from scaler.kube.target import UnscalableError, scale_of, target_kind
from tests.scaler.kube.made_objects import TARGET


def aims(called: str, **ref: str) -> dict[str, object]:
    return {"metadata": {"name": called, "namespace": "inference"}, "spec": {"scaleTargetRef": ref}}


def test_an_autoscaler_on_the_same_target_is_found_whatever_its_version() -> None:
    hpa = aims("busy", apiVersion="apps/v1beta2", kind="Deployment", name="support-text")
    assert autoscaler_on(TARGET, [], [hpa]) == "HorizontalPodAutoscaler busy"
    assert autoscaler_on(TARGET, [], [aims("x", apiVersion="apps/v1", kind="Deployment", name="other")]) == ""
    elsewhere = {**hpa, "metadata": {"name": "busy", "namespace": "other"}}
    assert autoscaler_on(TARGET, [], [elsewhere]) == ""


def test_keda_s_own_words_come_before_the_hpa_that_it_made() -> None:
    hpa = aims("keda-hpa-x", apiVersion="apps/v1", kind="Deployment", name="support-text")
    assert autoscaler_on(TARGET, [aims("x", name="support-text")], [hpa]) == "ScaledObject x"


CLAIMS = st.lists(
    st.builds(
        Claim,
        policy=st.tuples(st.just("ns"), st.text("abc", min_size=1, max_size=3)),
        created=st.sampled_from(["2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"]),
        target=st.builds(
            TargetKey, st.just("ns"), st.just("apps"), st.just("Deployment"), st.sampled_from("xy")
        ),
    ),
    unique_by=lambda one: one.policy,
)


@given(CLAIMS, st.randoms(use_true_random=False))
def test_each_target_has_one_policy_the_oldest_and_the_order_of_looking_changes_nothing(
    claims: list[Claim], rng: random.Random
) -> None:
    refused = refused_claims(claims)
    shuffled = list(claims)
    rng.shuffle(shuffled)
    assert refused_claims(shuffled) == refused
    for target in {one.target for one in claims}:
        rivals = [one for one in claims if one.target == target]
        holders = [one for one in rivals if one.policy not in refused]
        assert len(holders) == 1
        assert holders[0].created == min(one.created for one in rivals)


@pytest.mark.parametrize(
    ("requirement", "expected"),
    [
        ({"key": "a", "operator": "In", "values": ["1"]}, True),
        ({"key": "a", "operator": "NotIn", "values": ["1"]}, False),
        ({"key": "b", "operator": "NotIn", "values": ["1"]}, True),
        ({"key": "a", "operator": "Exists"}, True),
        ({"key": "b", "operator": "DoesNotExist"}, True),
        ({"key": "a", "operator": "DoesNotExist"}, False),
        ({"key": "a", "operator": "Unheard"}, False),
    ],
)
def test_selectors_match_as_kubernetes_says(requirement: dict[str, object], expected: bool) -> None:
    assert matches({"matchExpressions": [requirement]}, {"a": "1"}) is expected


APPS = {
    "resources": [
        {"name": "deployments", "kind": "Deployment", "namespaced": True},
        {"name": "deployments/scale", "kind": "Scale", "group": "autoscaling", "namespaced": True},
        {"name": "daemonsets", "kind": "DaemonSet", "namespaced": True},
        {"name": "clusterthings", "kind": "ClusterThing", "namespaced": False},
        {"name": "clusterthings/scale", "kind": "Scale", "namespaced": False},
    ]
}


def test_a_kind_with_a_scale_is_found_by_discovery() -> None:
    found = target_kind(APPS, "apps", "v1", "Deployment")
    assert (found.resource.name, found.scale.name) == ("deployments", "deployments/scale")
    assert found.deletes_not_ready_first


@pytest.mark.parametrize(
    ("kind", "reason", "words"),
    [
        ("DaemonSet", "TargetNotScalable", "no scale subresource"),
        ("ClusterThing", "TargetNotScalable", "not in a namespace"),
        ("Deploymnt", "TargetKindUnknown", "there are ClusterThing, DaemonSet, Deployment"),
    ],
)
def test_what_can_t_be_scaled_says_why(kind: str, reason: str, words: str) -> None:
    with pytest.raises(UnscalableError, match=words) as caught:
        target_kind(APPS, "apps", "v1", kind)
    assert caught.value.reason == reason


def test_a_scale_of_none_is_read_as_none() -> None:
    found = scale_of(
        {"metadata": {"resourceVersion": "7", "uid": "u"}, "spec": {}, "status": {"replicas": 0}}
    )
    assert (found.replicas, found.version, found.selector) == (0, "7", "")
