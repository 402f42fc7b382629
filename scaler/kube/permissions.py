"""Everything the controller may ask of the API server: one table, and what is not in it is not asked.

Owns the table and the check. `api` asks it before each call, so that a call that the role does not grant
fails in tests and not on a cluster; the manifests' roles are compared with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Scope(Enum):
    POLICIES = "policies"  # wherever policies may be: all namespaces, or those that are named
    LEASE = "lease"  # the namespace of the controller's own Lease


@dataclass(frozen=True, slots=True)
class Resource:
    """As RBAC names it; `name` is the plural, with `/scale` or `/status` for a subresource."""

    group: str  # empty: the core group
    version: str
    name: str

    @property
    def plural(self) -> str:
        return self.name.partition("/")[0]

    @property
    def subresource(self) -> str:
        return self.name.partition("/")[2]

    def __str__(self) -> str:
        return f"{self.name}.{self.group}" if self.group else self.name


@dataclass(frozen=True, slots=True)
class Permission:
    resource: Resource
    verbs: frozenset[str]
    scope: Scope
    why: str


POLICIES = Resource("minwatt.dev", "v1alpha1", "powerpolicies")
POLICY_STATUS = Resource("minwatt.dev", "v1alpha1", "powerpolicies/status")
PODS = Resource("", "v1", "pods")
BUDGETS = Resource("policy", "v1", "poddisruptionbudgets")
AUTOSCALERS = Resource("autoscaling", "v2", "horizontalpodautoscalers")
SCALED_OBJECTS = Resource("keda.sh", "v1alpha1", "scaledobjects")
EVENTS = Resource("events.k8s.io", "v1", "events")
LEASES = Resource("coordination.k8s.io", "v1", "leases")
DEPLOYMENTS = Resource("apps", "v1", "deployments")
STATEFUL_SETS = Resource("apps", "v1", "statefulsets")

_WATCHED = frozenset({"list", "watch"})
_TARGET_WHY = "whether a rollout is in progress"
_SCALE_WHY = "how many replicas there are to be: read, and written with the version that was read"

PERMISSIONS: tuple[Permission, ...] = (
    Permission(POLICIES, _WATCHED, Scope.POLICIES, "what is wanted"),
    Permission(POLICY_STATUS, frozenset({"update"}), Scope.POLICIES, "what was decided, and why"),
    Permission(DEPLOYMENTS, _WATCHED, Scope.POLICIES, _TARGET_WHY),
    Permission(STATEFUL_SETS, _WATCHED, Scope.POLICIES, _TARGET_WHY),
    Permission(
        Resource("apps", "v1", "deployments/scale"), frozenset({"get", "update"}), Scope.POLICIES, _SCALE_WHY
    ),
    Permission(
        Resource("apps", "v1", "statefulsets/scale"), frozenset({"get", "update"}), Scope.POLICIES, _SCALE_WHY
    ),
    Permission(PODS, _WATCHED, Scope.POLICIES, "which replicas are ready, start, wait or leave"),
    Permission(BUDGETS, _WATCHED, Scope.POLICIES, "how many ready pods a scale-down must leave"),
    Permission(AUTOSCALERS, _WATCHED, Scope.POLICIES, "not to fight an HPA over a target"),
    Permission(SCALED_OBJECTS, _WATCHED, Scope.POLICIES, "not to fight KEDA over a target"),
    Permission(EVENTS, frozenset({"create", "patch"}), Scope.POLICIES, "to tell of decisions"),
    Permission(LEASES, frozenset({"get", "create", "update"}), Scope.LEASE, "one controller acts at a time"),
)

_GRANTED = {(one.resource.group, one.resource.name): one.verbs for one in PERMISSIONS}
_TARGET_VERBS = {"": _WATCHED, "scale": frozenset({"get", "update"})}


class NotInTableError(Exception):
    """A mistake in this program: a call that no role is written for."""


def check(verb: str, resource: Resource, *, target: bool = False) -> None:
    """`target`: of a kind that a policy names, whatever its group; its roles are granted by who names it."""
    verbs = _GRANTED.get((resource.group, resource.name))
    if verbs is None and target:
        verbs = _TARGET_VERBS.get(resource.subresource)
    if verbs is None or verb not in verbs:
        raise NotInTableError(f"{verb} {resource}: not in scaler/kube/permissions.py")
