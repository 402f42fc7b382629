"""Events in their two groups: stored as events.k8s.io, shown to `kubectl describe` as core ones."""

from __future__ import annotations

from typing import Any

Object = dict[str, Any]

_NAMES = {
    "regarding": "involvedObject",
    "note": "message",
    "reportingController": "reportingComponent",
    "deprecatedSource": "source",
    "deprecatedFirstTimestamp": "firstTimestamp",
    "deprecatedLastTimestamp": "lastTimestamp",
    "deprecatedCount": "count",
}
_BACK = {core: stored for stored, core in _NAMES.items()}


def core_event(stored: Object) -> Object:
    renamed = {_NAMES.get(key, key): value for key, value in stored.items()}
    return {**renamed, "apiVersion": "v1"}


def stored_event(core: Object) -> Object:
    renamed = {_BACK.get(key, key): value for key, value in core.items()}
    return {**renamed, "apiVersion": "events.k8s.io/v1"}
