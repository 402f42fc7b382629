"""Objects for tests: a policy with a small schema of its own, a Deployment, a Lease."""

from __future__ import annotations

from typing import Any

Object = dict[str, Any]

POLICY_PATH = "/apis/minwatt.dev/v1alpha1/namespaces/default/powerpolicies/support-text"
SCALE_PATH = "/apis/apps/v1/namespaces/default/deployments/support-text/scale"

_REPLICAS = {
    "type": "object",
    "properties": {
        "min": {"type": "integer", "minimum": 0, "default": 1},
        "max": {"type": "integer", "minimum": 1, "default": 10},
    },
}
_SLO = {
    "type": "object",
    "required": ["latency"],
    "properties": {
        "latency": {"type": "string", "pattern": "^[0-9]+(ms|s)$"},
        "percentile": {"type": "number", "minimum": 50, "maximum": 99.99, "default": 99},
    },
}
_SPEC = {
    "type": "object",
    "required": ["targetRef", "slo"],
    "properties": {
        "targetRef": {
            "type": "object",
            "required": ["name"],
            "properties": {"kind": {"type": "string", "default": "Deployment"}, "name": {"type": "string"}},
        },
        "slo": _SLO,
        "replicas": _REPLICAS,
    },
    "x-kubernetes-validations": [
        {
            "rule": "!has(self.replicas) || self.replicas.min <= self.replicas.max",
            "message": "replicas.min must not exceed replicas.max",
        }
    ],
}


def crd() -> Object:
    status = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    schema = {"type": "object", "required": ["spec"], "properties": {"spec": _SPEC, "status": status}}
    version = {
        "name": "v1alpha1",
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "schema": {"openAPIV3Schema": schema},
    }
    names = {"plural": "powerpolicies", "kind": "PowerPolicy", "shortNames": ["pp"]}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "powerpolicies.minwatt.dev"},
        "spec": {"group": "minwatt.dev", "scope": "Namespaced", "names": names, "versions": [version]},
    }


def policy(**spec: Any) -> Object:
    base = {"targetRef": {"name": "support-text"}, "slo": {"latency": "50ms"}}
    return {
        "apiVersion": "minwatt.dev/v1alpha1",
        "kind": "PowerPolicy",
        "metadata": {"name": "support-text", "namespace": "default"},
        "spec": {**base, "replicas": {"min": 1, "max": 4}, **spec},
    }


def deployment(replicas: int = 1, namespace: str = "default", **spec: Any) -> Object:
    labels = {"app": "support-text"}
    container = {"name": "service", "image": "minwatt-service:1"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "support-text", "namespace": namespace},
        "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template, **spec},
    }


def lease(renew_time: str) -> Object:
    spec = {"holderIdentity": "x", "leaseDurationSeconds": 15, "renewTime": renew_time, "leaseTransitions": 0}
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": "minwatt", "namespace": "default"},
        "spec": spec,
    }
