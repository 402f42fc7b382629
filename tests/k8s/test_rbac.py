"""The controller's roles grant what scaler/kube/permissions.py says that it does: no less, no more."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import pytest

from scaler.cli import scale
from scaler.kube.permissions import LEASES, PERMISSIONS, Scope
from tests.k8s.rendered import APPLIED, Object, of_kind

ACCOUNT = {"kind": "ServiceAccount", "name": "minwatt-controller", "namespace": "minwatt-system"}

Right = tuple[str, str, str]  # group, resource, verb


def roles_bound(root: str, binding_kind: str) -> Iterator[tuple[Object, Object]]:
    """Roles of the controller's account, each with its binding."""
    roles = {
        (one["kind"], one["metadata"].get("namespace"), one["metadata"]["name"]): one
        for one in of_kind(root, "Role", "ClusterRole")
    }
    for binding in of_kind(root, binding_kind):
        if ACCOUNT in binding["subjects"]:
            ref = binding["roleRef"]
            namespace = binding["metadata"].get("namespace") if ref["kind"] == "Role" else None
            yield binding, roles[ref["kind"], namespace, ref["name"]]


def rights(role: Object) -> Iterator[Right]:
    for rule in role["rules"]:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                for verb in rule["verbs"]:
                    yield group, resource, verb


def used(scope: Scope) -> set[Right]:
    return {
        (one.resource.group, one.resource.name, verb)
        for one in PERMISSIONS
        if one.scope is scope
        for verb in one.verbs
    }


@pytest.mark.parametrize("root", APPLIED)
def test_where_policies_are_the_controller_may_what_it_does(root: str) -> None:
    ((_, role),) = roles_bound(root, "ClusterRoleBinding")
    granted = set(rights(role))
    assert granted - used(Scope.POLICIES) == set(), "granted and not used"
    assert used(Scope.POLICIES) - granted == set(), "used and not granted"


@pytest.mark.parametrize("root", APPLIED)
def test_in_its_own_namespace_it_may_hold_one_lease(root: str) -> None:
    ((binding, role),) = roles_bound(root, "RoleBinding")
    assert binding["metadata"]["namespace"] == "minwatt-system"
    assert set(rights(role)) == used(Scope.LEASE)
    lease = inspect.signature(scale).parameters["lease_name"].default
    for rule in role["rules"]:
        assert rule["resources"] == [LEASES.name]
        if rule["verbs"] != ["create"]:  # a name is not known yet when creating is checked
            assert rule["resourceNames"] == [lease]


@pytest.mark.parametrize("root", APPLIED)
def test_no_role_has_a_wildcard_or_grants_roles(root: str) -> None:
    for role in of_kind(root, "Role", "ClusterRole"):
        for group, resource, verb in rights(role):
            assert "*" not in (group, resource, verb), role["metadata"]["name"]
            assert group != "rbac.authorization.k8s.io"
            assert resource != "secrets"


@pytest.mark.parametrize("root", APPLIED)
def test_nobody_else_is_bound(root: str) -> None:
    for binding in of_kind(root, "RoleBinding", "ClusterRoleBinding"):
        assert binding["subjects"] == [ACCOUNT]
