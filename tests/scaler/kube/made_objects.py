"""Kubernetes objects as the API server would hand them out, with as little in them as a test needs."""

from __future__ import annotations

from typing import Any

from scaler.kube.rivals import TargetKey
from scaler.kube.target import Scale

TARGET = TargetKey("inference", "apps", "Deployment", "support-text")


def pod(name: str, standing: str = "ready", revision: str = "r1", **labels: str) -> dict[str, Any]:
    """`standing`: ready, starting, pending, unschedulable, terminating, failed."""
    made: dict[str, Any] = {
        "metadata": {
            "name": name,
            "namespace": "inference",
            "creationTimestamp": "2026-11-22T02:08:03Z",
            "labels": {"app": "support-text", "pod-template-hash": revision, **labels},
        },
        "spec": {},
        "status": {"phase": "Running", "conditions": []},
    }
    conditions = made["status"]["conditions"]
    if standing in {"ready", "starting", "terminating"}:
        made["spec"]["nodeName"] = "node-1"
        conditions.append({"type": "PodScheduled", "status": "True"})
        conditions.append({"type": "Ready", "status": "True" if standing != "starting" else "False"})
    if standing in {"pending", "unschedulable"}:
        made["status"]["phase"] = "Pending"
    if standing == "unschedulable":
        conditions.append(
            {
                "type": "PodScheduled",
                "status": "False",
                "reason": "Unschedulable",
                "message": "0/3 nodes are available: 3 Insufficient nvidia.com/gpu.",
                "lastTransitionTime": "2026-11-22T02:08:04Z",
            }
        )
    if standing == "terminating":
        made["metadata"]["deletionTimestamp"] = "2026-11-22T02:10:00Z"
    if standing == "failed":
        made["status"]["phase"] = "Failed"
    return made


def pods(**standings: int) -> list[dict[str, Any]]:
    return [pod(f"{one}-{number}", one) for one, count in standings.items() for number in range(count)]


def budget(name: str = "guard", **spec: Any) -> dict[str, Any]:
    """`spec`: minAvailable or maxUnavailable."""
    selector = {"matchLabels": {"app": "support-text"}}
    return {
        "metadata": {"name": name, "namespace": "inference", "generation": 1},
        "spec": {"selector": selector, **spec},
    }


def deployment(replicas: int = 3, updated: int | None = None, total: int | None = None) -> dict[str, Any]:
    total = replicas if total is None else total
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "support-text", "namespace": "inference", "generation": 2},
        "spec": {"replicas": replicas},
        "status": {
            "observedGeneration": 2,
            "replicas": total,
            "updatedReplicas": total if updated is None else updated,
        },
    }


def scale(replicas: int = 3, version: str = "10") -> Scale:
    return Scale(replicas, version, "uid-1", "app=support-text")


def policy_object(
    name: str = "support-text",
    *,
    namespace: str = "inference",
    generation: int = 1,
    created: str = "2026-11-22T02:00:00Z",
    target: str = "support-text",
    kind: str = "Deployment",
    annotations: dict[str, str] | None = None,
    **spec: Any,
) -> dict[str, Any]:
    base: dict[str, Any] = {
        "targetRef": {"apiVersion": "apps/v1", "kind": kind, "name": target},
        "model": "tiny",
        "slo": {"latency": "100ms"},
        "replicas": {"min": 1, "max": 6},
        "batching": {"maxSize": 8, "maxDelay": "10ms"},
        "behavior": {"tick": "1s"},
    }
    return {
        "apiVersion": "minwatt.dev/v1alpha1",
        "kind": "PowerPolicy",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "uid": f"uid-{namespace}-{name}",
            "generation": generation,
            "creationTimestamp": created,
            "resourceVersion": "1",
            "annotations": annotations or {},
        },
        "spec": {**base, **spec},
    }
