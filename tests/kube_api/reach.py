"""What the cluster's controllers share: their way to the objects, and what they read of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from tests.kube_api.kinds import Kind, Kinds
from tests.kube_api.store import Object, Store


class Reach:
    """Read objects are the stored ones: not to be changed."""

    def __init__(self, store: Store, kinds: Kinds) -> None:
        self._store = store
        self._kinds = kinds

    def kind(self, group: str, plural: str) -> Kind:
        found = self._kinds.find(group, "v1", plural)
        if found is None:
            raise LookupError(f"no kind {plural}.{group}")
        return found

    def all_of(self, group: str, plural: str) -> list[Object]:
        return self._store.look(self.kind(group, plural))

    def owned(self, owner: Object, plural: str) -> list[Object]:
        kind = self.kind("" if plural == "pods" else "apps", plural)
        uid = owner["metadata"]["uid"]
        return [
            item
            for item in self._store.look(kind, owner["metadata"]["namespace"])
            if any(each["uid"] == uid for each in item["metadata"].get("ownerReferences", ()))
        ]

    def write(self, kind: Kind, item: Object, of: str | None = None) -> Object:
        """Of pods both the spec and the status."""
        if of is None and kind.plural == "pods":
            spec = self._store.update(kind, _unversioned(item), None, patched=True)
            return self.write(kind, {**spec, "status": item["status"]}, "status")
        return self._store.update(kind, _unversioned(item), of, patched=True)


def is_ready(pod: Mapping[str, Any]) -> bool:
    conditions = pod.get("status", {}).get("conditions", ())
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def serves(pod: Mapping[str, Any]) -> bool:
    return is_ready(pod) and "deletionTimestamp" not in pod["metadata"]


def revision(replica_set: Object) -> int:
    return int(replica_set["metadata"].get("annotations", {}).get("deployment.kubernetes.io/revision", "0"))


def share(value: int | str, of: int, rounded: Callable[[float], int]) -> int:
    """A count, or a percentage of one."""
    return rounded(of * int(value.rstrip("%")) / 100) if isinstance(value, str) else value


def rolling_limits(strategy: Mapping[str, Any], wanted: int) -> tuple[int, int]:
    rolling = strategy.get("rollingUpdate") or {}
    surge = share(rolling.get("maxSurge", "25%"), wanted, math.ceil)
    unavailable = share(rolling.get("maxUnavailable", "25%"), wanted, math.floor)
    return surge, max(unavailable, 0 if surge else 1)


def _unversioned(item: Object) -> Object:
    meta = {key: value for key, value in item["metadata"].items() if key != "resourceVersion"}
    return {**item, "metadata": meta}
