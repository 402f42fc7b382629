"""Every overlay renders, and every object is one that a Kubernetes API server knows, field by field."""

from __future__ import annotations

import json
from collections import Counter
from functools import cache

import kubernetes_validate
import pytest
import yaml
from jsonschema import Draft4Validator

from scaler.feasible import check_feasible
from scaler.policy import load_policy
from scaler.profile import load_profile
from tests.k8s.rendered import APPLIED, K8S, ROOT, ROOTS, Object, name_of, of_kind, render

# Kinds of others' CRDs, whose schemas are not Kubernetes' own.
FOREIGN = {
    ("monitoring.coreos.com/v1", "ServiceMonitor"),
    ("monitoring.coreos.com/v1", "PodMonitor"),
    ("monitoring.coreos.com/v1", "PrometheusRule"),
}
POLICIES = sorted((K8S / "policies").glob("*.yaml"))
VERSION = kubernetes_validate.latest_version()


@cache
def validate(document: str) -> None:
    """Once for all overlays that have it."""
    kubernetes_validate.validate(json.loads(document), VERSION, strict=True)


@pytest.mark.parametrize("root", ROOTS)
def test_each_object_is_valid(root: str) -> None:
    objects = render(root)
    assert objects
    for one in objects:
        if (one["apiVersion"], one["kind"]) not in FOREIGN:
            validate(json.dumps(one))


@pytest.mark.parametrize("root", ROOTS)
def test_no_object_is_there_twice(root: str) -> None:
    names = Counter(f"{one['apiVersion']} {name_of(one)}" for one in render(root))
    assert not [name for name, count in names.items() if count > 1]


@pytest.mark.parametrize("root", APPLIED)
def test_what_is_applied_at_once_needs_nothing_that_comes_later(root: str) -> None:
    """Namespaces and the CRD come first, and no object is of a kind that the same apply only defines."""
    objects = render(root)
    own_groups = {one["spec"]["group"] for one in objects if one["kind"] == "CustomResourceDefinition"}
    assert own_groups == {"minwatt.dev"}
    assert not [name_of(one) for one in objects if one["apiVersion"].partition("/")[0] in own_groups]
    assert not [name_of(one) for one in objects if (one["apiVersion"], one["kind"]) in FOREIGN]
    made: set[str] = set()
    for one in objects:
        if one["kind"] == "Namespace":
            made.add(one["metadata"]["name"])
        assert one["metadata"].get("namespace") in {*made, None}, name_of(one)


def schema_of_policies() -> Object:
    (crd,) = of_kind("overlays/cpu", "CustomResourceDefinition")
    (version,) = (one for one in crd["spec"]["versions"] if one["name"] == "v1alpha1")
    schema: Object = version["schema"]["openAPIV3Schema"]
    return schema


@pytest.mark.parametrize("path", POLICIES, ids=lambda path: path.stem)
def test_the_example_policies_are_ones_that_the_controller_takes(path: object) -> None:
    text = (K8S / "policies" / str(path)).read_text(encoding="utf-8")
    document = yaml.safe_load(text)
    Draft4Validator(schema_of_policies()).validate(document)  # whose words OpenAPI 3.0 has
    policy = load_policy(K8S / "policies" / str(path))
    profile_file = ROOT / "profiles" / "support-text-cpu.yaml"
    check_feasible(policy, load_profile(profile_file), str(path), str(profile_file))

    target, namespace = policy.spec.target_ref, policy.metadata.namespace
    assert target is not None
    (deployment,) = (
        one
        for one in of_kind("overlays/cpu", target.kind)
        if (one["metadata"]["namespace"], one["metadata"]["name"]) == (namespace, target.name)
    )
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert labels["minwatt.dev/policy"] == policy.metadata.name
    slo = f"--slo={document['spec']['slo']['latency']}"
    assert slo in deployment["spec"]["template"]["spec"]["containers"][0]["args"]
    assert "replicas" not in deployment["spec"], "apply would reset what the controller has set"
