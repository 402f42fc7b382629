"""Lists as kubectl asks for them: a table with the columns that the kind's definition names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from tests.kube_api.kinds import Kind

Object = dict[str, Any]

_AGE = {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}
_BUILT_IN: dict[str, list[dict[str, Any]]] = {
    "deployments": [
        {"name": "Ready", "type": "string", "jsonPath": ".status.readyReplicas"},
        {"name": "Up-to-date", "type": "string", "jsonPath": ".status.updatedReplicas"},
        {"name": "Available", "type": "string", "jsonPath": ".status.availableReplicas"},
    ],
    "pods": [{"name": "Status", "type": "string", "jsonPath": ".status.phase"}],
    "leases": [{"name": "Holder", "type": "string", "jsonPath": ".spec.holderIdentity"}],
}


def wanted(accept: str) -> bool:
    return "as=Table" in accept


def table(kind: Kind, items: Sequence[Object], version: str, now_s: float) -> Object:
    columns = list(_columns(kind))
    definitions: list[Object] = [{"name": "Name", "type": "string", "format": "name", "priority": 0}]
    definitions += [
        {
            "name": column["name"],
            "type": column["type"],
            "format": column.get("format", ""),
            "priority": column.get("priority", 0),
        }
        for column in columns
    ]
    rows = [
        {
            "cells": [item["metadata"].get("name"), *(_cell(item, column, now_s) for column in columns)],
            "object": {
                "kind": "PartialObjectMetadata",
                "apiVersion": "meta.k8s.io/v1",
                "metadata": item["metadata"],
            },
        }
        for item in items
    ]
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": {"resourceVersion": version},
        "columnDefinitions": definitions,
        "rows": rows,
    }


def _columns(kind: Kind) -> Sequence[Mapping[str, Any]]:
    if kind.crd is not None:
        found: Sequence[Mapping[str, Any]] = kind.crd.get("additionalPrinterColumns") or [_AGE]
        return found
    return [*_BUILT_IN.get(kind.plural, ()), _AGE]


def _cell(item: Object, column: Mapping[str, Any], now_s: float) -> Any:
    value = at_path(item, column["jsonPath"])
    if value is None:
        return None
    if column["type"] == "date":
        return _age(now_s - datetime.fromisoformat(value).timestamp())
    return value if column["type"] in ("integer", "number", "boolean") else str(value)


def at_path(item: Any, path: str) -> Any:
    """The JSONPath that printer columns use: `.a.b`, `.list[0]`, `.list[?(@.type=="Ready")].x`."""
    for name, index, key, wanted_value in re.findall(
        r"""\.([\w-]+)|\[(\d+)\]|\[\?\(@\.(\w+)\s*==\s*["'](.*?)["']\)\]""", path
    ):
        if name:
            item = item.get(name) if isinstance(item, Mapping) else None
        elif index:
            item = item[int(index)] if isinstance(item, list) and int(index) < len(item) else None
        else:
            found = (each for each in item or () if str(each.get(key)) == wanted_value)
            item = next(found, None)
    return item


def _age(seconds: float) -> str:
    """As kubectl's own short durations."""
    whole = max(0, int(seconds))
    if whole < 120:
        return f"{whole}s"
    if whole < 600:
        return f"{whole // 60}m{whole % 60}s" if whole % 60 else f"{whole // 60}m"
    if whole < 3 * 3600:
        return f"{whole // 60}m"
    if whole < 48 * 3600:
        return f"{whole // 3600}h"
    return f"{whole // 86400}d"
