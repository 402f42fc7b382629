"""The `scale` subresource: a Scale of autoscaling/v1 of any kind that has one."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from tests.kube_api.answers import cannot_be_handled, invalid, wrong
from tests.kube_api.kinds import Kind
from tests.kube_api.selectors import selector_text

Object = dict[str, Any]


def scale_of(kind: Kind, item: Mapping[str, Any]) -> Object:
    if kind.crd is None:
        replicas = item["spec"].get("replicas", 1)
        present = item.get("status", {}).get("replicas", 0)
        selector = selector_text(item["spec"].get("selector"))
    else:
        paths = kind.crd["subresources"]["scale"]
        replicas = _at(item, paths["specReplicasPath"]) or 0
        present = _at(item, paths["statusReplicasPath"]) or 0
        selector = _at(item, paths.get("labelSelectorPath", "")) or ""
    meta = item["metadata"]
    kept = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {key: meta[key] for key in kept if key in meta},
        "spec": {"replicas": replicas} if replicas else {},  # Go leaves a zero out
        "status": {"replicas": present, **({"selector": selector} if selector else {})},
    }


def scaled(kind: Kind, item: Object, scale: Any) -> Object:
    """The object with the Scale's replicas, its resourceVersion and uid as preconditions."""
    name = item["metadata"]["name"]
    if not isinstance(scale, Mapping) or scale.get("kind", "Scale") != "Scale":
        raise cannot_be_handled("Scale", "v1", "not a Scale")
    replicas = (scale.get("spec") or {}).get("replicas", 0)
    if isinstance(replicas, bool) or not isinstance(replicas, int):
        given = "string" if isinstance(replicas, str) else "number"
        why = f"json: cannot unmarshal {given} into Go struct field ScaleSpec.spec.replicas of type int32"
        raise cannot_be_handled("Scale", "v1", why)
    if replicas < 0:
        cause = wrong("spec.replicas", replicas, "must be greater than or equal to 0")
        raise invalid("Scale", "autoscaling", name, [cause])
    new = copy.deepcopy(item)
    for key in ("resourceVersion", "uid"):
        new["metadata"].pop(key, None)
        if scale.get("metadata", {}).get(key):
            new["metadata"][key] = scale["metadata"][key]
    if kind.crd is None:
        new["spec"]["replicas"] = replicas
    else:
        _put(new, kind.crd["subresources"]["scale"]["specReplicasPath"], replicas)
    return new


def _at(item: Any, path: str) -> Any:
    for key in filter(None, path.split(".")):
        item = item.get(key) if isinstance(item, Mapping) else None
    return item if path else None


def _put(item: Object, path: str, value: int) -> None:
    *steps, last = filter(None, path.split("."))
    for key in steps:
        item = item.setdefault(key, {})
    item[last] = value
