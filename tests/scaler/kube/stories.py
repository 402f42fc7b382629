"""What stories of the controller have in common: waiting for a condition, a rival, a role of its own."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from scaler.kube.permissions import PERMISSIONS
from tests.scaler.kube.controlled import NAMESPACE, Scenario

Story = Callable[[Scenario], Coroutine[Any, Any, None]]
Play = Callable[[Story], None]
FLEET = f"{NAMESPACE}/support-text"
BUSY_RPS = 600.0


def ready(case: Scenario) -> bool:
    return case.condition("Ready")[0] == "True"


def refused(case: Scenario, reason: str, name: str = "support-text") -> Callable[[], bool]:
    return lambda: case.condition("Ready", name) == ("False", reason)


def autoscaler() -> dict[str, Any]:
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "support-text"}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "busy", "namespace": NAMESPACE},
        "spec": {"scaleTargetRef": target, "minReplicas": 1, "maxReplicas": 3},
    }


def role(case: Scenario, without: str = "") -> dict[str, Any]:
    """Options of a controller that has what the table says, and no more."""
    rules = [
        {
            "apiGroups": [one.resource.group],
            "resources": [one.resource.name],
            "verbs": sorted(one.verbs),
        }
        for one in PERMISSIONS
        if one.resource.name != without
    ]
    account = {"apiVersion": "v1", "kind": "ServiceAccount"}
    binding = {
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "minwatt"},
        "subjects": [{"kind": "ServiceAccount", "name": "minwatt", "namespace": NAMESPACE}],
    }
    rbac = "rbac.authorization.k8s.io/v1"
    case.api.apply(
        {**account, "metadata": {"name": "minwatt", "namespace": NAMESPACE}},
        {"apiVersion": rbac, "kind": "ClusterRole", "metadata": {"name": "minwatt"}, "rules": rules},
        {"apiVersion": rbac, "kind": "ClusterRoleBinding", "metadata": {"name": "minwatt"}, **binding},
    )
    return {"kubeconfig": case.api.kubeconfig(NAMESPACE, "minwatt")}
