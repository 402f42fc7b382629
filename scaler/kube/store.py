"""What the API server has said of a selection: the last list, and every event since. Pure.

Owns the objects and how old the picture is; `watching` feeds it. Objects are kept without their
managedFields, which nobody here reads and which are most of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from scaler.kube.errors import ApiError

Object = Mapping[str, Any]
Key = tuple[str, str]  # namespace, name


def key_of(item: Object) -> Key:
    metadata = item.get("metadata") or {}
    return str(metadata.get("namespace") or ""), str(metadata.get("name") or "")


def version_of(item: Object) -> str:
    return str((item.get("metadata") or {}).get("resourceVersion") or "")


class Store:
    """`synced` once there was a list. `lost_s`: since when nobody listens; None while a watch stands."""

    def __init__(self) -> None:
        self._items: dict[Key, Object] = {}
        self.version = ""
        self.synced = False
        self.lost_s: float | None = None
        self.failure: ApiError | None = None

    @property
    def items(self) -> Mapping[Key, Object]:
        return self._items

    def listed(self, items: Iterable[Object], version: str) -> bool:
        """A list is the truth: what is not in it is gone. Returns whether anything changed."""
        fresh = {key_of(item): _lean(item) for item in items}
        changed = not self.synced or {key: version_of(one) for key, one in fresh.items()} != {
            key: version_of(one) for key, one in self._items.items()
        }
        self._items = fresh
        self.version = version
        self.synced = True
        return changed

    def happened(self, event: Object) -> bool:
        """One event of a watch. Returns whether an object changed; a bookmark moves the version alone."""
        item = event.get("object") or {}
        version = version_of(item)
        kind = event.get("type")
        if kind in {"ADDED", "MODIFIED"}:
            self._items[key_of(item)] = _lean(item)
        elif kind == "DELETED":
            self._items.pop(key_of(item), None)
        elif kind != "BOOKMARK":
            return False
        if version:
            self.version = version
        return bool(kind != "BOOKMARK")

    def accept(self, item: Object) -> None:
        """The answer to a write of our own, before the watch tells of it; an older one changes nothing."""
        known = self._items.get(key_of(item))
        if known is not None and _newer(item, known):
            self._items[key_of(item)] = _lean(item)

    def heard(self) -> None:
        self.lost_s = None
        self.failure = None

    def lost(self, now_s: float, failure: ApiError) -> None:
        self.lost_s = now_s if self.lost_s is None else self.lost_s
        self.failure = failure

    def deaf_for_s(self, now_s: float) -> float:
        """How old the picture may be; infinite before the first list."""
        if not self.synced:
            return math.inf
        return 0.0 if self.lost_s is None else now_s - self.lost_s


def _newer(item: Object, known: Object) -> bool:
    new, old = version_of(item), version_of(known)
    # Versions compare as whole numbers (KEP-5504); of a server whose don't, the answer to a write is newest.
    return int(new) > int(old) if new.isdecimal() and old.isdecimal() else new != old


def _lean(item: Object) -> Object:
    metadata = item.get("metadata") or {}
    if "managedFields" not in metadata:
        return item
    return {**item, "metadata": {name: value for name, value in metadata.items() if name != "managedFields"}}
