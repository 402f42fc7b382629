"""The objects, their resourceVersions, and the order in which they changed.

What etcd and the registry are to the real server: optimistic locking, generations, no write where nothing
changed, deletion with finalizers and grace. Objects lie in kmock's ObjectsArray with their history, so that
a test can ask `objects["apps/v1/deployments", "inference", "support-text"] >= {"spec": {"replicas": 3}}`.
Called with the lock held; knows no HTTP.
"""

from __future__ import annotations

import copy
import threading
import uuid
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import kmock

from tests.kube_api.answers import (
    STALE,
    Cause,
    already_exists,
    conflict,
    expired,
    invalid,
    not_found,
)
from tests.kube_api.kinds import Kind

Object = dict[str, Any]
ChangeType = Literal["ADDED", "MODIFIED", "DELETED"]

_KEPT = 10_000  # changes that a watch may begin at
# PUT without a resourceVersion overwrites these, and is refused for all others.
_UNCONDITIONAL = {
    "",
    "apps",
    "rbac.authorization.k8s.io",
    "policy",
    "autoscaling",
    "networking.k8s.io",
    "batch",
}


@dataclass(frozen=True)
class Change:
    version: int
    type: ChangeType
    kind: Kind
    object: Object
    before: Object | None


def stamp(at_s: float) -> str:
    """RFC 3339 to the second, as metav1.Time."""
    return datetime.fromtimestamp(int(at_s), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Store:
    def __init__(self, now_s: Callable[[], float]) -> None:
        self.lock = threading.RLock()
        self.objects = kmock.ObjectsArray()
        self.now_s = now_s
        self.dry = False
        """Nothing is kept of what is written meanwhile."""
        self._version = 300
        self._changes: list[Change] = []
        self._oldest = self._version
        """Watches from versions before this one are too old."""
        self._names: dict[tuple[str, str], set[tuple[str, str]]] = defaultdict(set)
        """Of what is there now, by kind: namespace, empty without one, and name."""
        self._listeners: list[Callable[[], None]] = []

    @property
    def version(self) -> int:
        return self._version

    @property
    def oldest(self) -> int:
        return self._oldest

    def on_change(self, listener: Callable[[], None]) -> None:
        self._listeners.append(listener)

    # Reading

    def peek(self, kind: Kind, namespace: str | None, name: str) -> Object | None:
        key = (kind.resource, namespace, name)
        if key not in self.objects or self.objects[key].deleted:
            return None
        return copy.deepcopy(self.objects[key].raw)

    def get(self, kind: Kind, namespace: str | None, name: str) -> Object:
        found = self.peek(kind, namespace, name)
        if found is None:
            raise not_found(kind.plural, kind.group, name)
        return found

    def all_of(self, kind: Kind, namespace: str | None = None) -> list[Object]:
        """By namespace and name, as etcd's keys lie."""
        return [copy.deepcopy(item) for item in self.look(kind, namespace)]

    def look(self, kind: Kind, namespace: str | None = None) -> list[Object]:
        """As `all_of`, the stored objects themselves: not to be changed."""
        names = self._names.get((kind.group, kind.plural), ())
        return [
            self.objects[kind.resource, where or None, name].raw
            for where, name in sorted(names)
            if namespace in (None, where)
        ]

    def changes_since(self, version: int) -> Sequence[Change]:
        if version < self._oldest - 1:
            raise expired(f"too old resource version: {version} ({self._oldest})")
        start = bisect_right(self._changes, version, key=lambda change: change.version)
        return self._changes[start:]

    def compact(self) -> None:
        """Forgets all changes so far, as etcd does: watches that begin before now get 410."""
        with self.lock:
            self._version += 1
            self._changes.clear()
            self._oldest = self._version

    # Writing

    def create(self, kind: Kind, given: Object) -> Object:
        meta = given["metadata"]
        namespace, name = meta.get("namespace"), meta["name"]
        if self.peek(kind, namespace, name) is not None:
            raise already_exists(kind.plural, kind.group, name)
        new = copy.deepcopy(given)
        new["metadata"] = {
            **{key: value for key, value in new["metadata"].items() if key != "generateName" or value},
            "uid": str(uuid.uuid4()),
            "creationTimestamp": stamp(self.now_s()),
        }
        for unset in ("resourceVersion", "generation", "deletionTimestamp", "managedFields", "selfLink"):
            new["metadata"].pop(unset, None)
        if kind.counts_generations:
            new["metadata"]["generation"] = 1
        return self._put(kind, "ADDED", new, None)

    def update(self, kind: Kind, given: Object, of: str | None = None, *, patched: bool = False) -> Object:
        """`of`: the subresource that is written. A patch without a resourceVersion is never stale."""
        meta = given["metadata"]
        namespace, name = meta.get("namespace"), meta["name"]
        old = self.get(kind, namespace, name)
        self._check_version(kind, old, meta, patched)
        new = copy.deepcopy(given)
        kept = {
            key: old["metadata"][key]
            for key in ("uid", "creationTimestamp", "generation", "deletionTimestamp", "generateName",
                        "deletionGracePeriodSeconds", "resourceVersion")
            if key in old["metadata"]
        }  # fmt: skip
        new["metadata"] = {**new["metadata"], **kept}
        for key in ("deletionTimestamp", "deletionGracePeriodSeconds", "managedFields", "selfLink"):
            if key not in kept:
                new["metadata"].pop(key, None)
        if of == "status":
            written = {"status": new["status"]} if "status" in new else {}
            new = {**{key: value for key, value in old.items() if key != "status"}, **written}
        elif kind.has_status and of is None:
            new.pop("status", None)
            if "status" in old:
                new["status"] = old["status"]
        if new == old:
            return old
        if kind.counts_generations and _counted(new, kind) != _counted(old, kind):
            new["metadata"]["generation"] = old["metadata"].get("generation", 0) + 1
        released = old["metadata"].get("finalizers") and not new["metadata"].get("finalizers")
        if released and "deletionTimestamp" in new["metadata"]:
            return self._remove(kind, new)
        return self._put(kind, "MODIFIED", new, old)

    def delete(
        self, kind: Kind, namespace: str | None, name: str, grace_s: int = 0, demands: Mapping[str, Any] = {}
    ) -> tuple[Object, bool]:
        """The object and whether it is gone. With finalizers or grace it stays, marked as terminating."""
        old = self.get(kind, namespace, name)
        for key, demanded in demands.items():
            if demanded is not None and demanded != old["metadata"].get(key):
                label = "UID" if key == "uid" else "ResourceVersion"
                why = (
                    f"Precondition failed: {label} in precondition: {demanded}, "
                    f"{label} in object meta: {old['metadata'].get(key)}"
                )
                raise conflict(kind.plural, kind.group, name, why)
        if not grace_s and not old["metadata"].get("finalizers"):
            return self._remove(kind, old), True
        if "deletionTimestamp" in old["metadata"]:
            return old, False
        new = copy.deepcopy(old)
        new["metadata"]["deletionTimestamp"] = stamp(self.now_s() + grace_s)
        new["metadata"]["deletionGracePeriodSeconds"] = grace_s
        if kind.counts_generations:
            new["metadata"]["generation"] = old["metadata"].get("generation", 0) + 1
        return self._put(kind, "MODIFIED", new, old), False

    def mark_terminating(self, kind: Kind, namespace: str) -> Object:
        """Of a namespace: it goes once what is in it is gone (`Workloads`)."""
        old = self.get(kind, None, namespace)
        if "deletionTimestamp" in old["metadata"]:
            return old
        new = copy.deepcopy(old)
        new["metadata"]["deletionTimestamp"] = stamp(self.now_s())
        new["status"] = {"phase": "Terminating"}
        return self._put(kind, "MODIFIED", new, old)

    def _check_version(self, kind: Kind, old: Object, meta: Mapping[str, Any], patched: bool) -> None:
        name = old["metadata"]["name"]
        version = meta.get("resourceVersion") or ""
        if not version and not patched and kind.group not in _UNCONDITIONAL:
            message = "Invalid value: 0x0: must be specified for an update"
            cause = Cause("metadata.resourceVersion", "FieldValueInvalid", message)
            raise invalid(kind.kind, kind.group, name, [cause])
        if meta.get("uid") and meta["uid"] != old["metadata"]["uid"]:
            why = (
                f"Precondition failed: UID in precondition: {meta['uid']}, "
                f"UID in object meta: {old['metadata']['uid']}"
            )
            raise conflict(kind.plural, kind.group, name, why)
        if version and version != old["metadata"]["resourceVersion"]:
            raise conflict(kind.plural, kind.group, name, STALE)

    def _put(self, kind: Kind, type_: ChangeType, new: Object, old: Object | None) -> Object:
        if self.dry:
            return {**new, "metadata": {"resourceVersion": "0", **new["metadata"]}}
        self._version += 1
        new["metadata"]["resourceVersion"] = str(self._version)
        key = (kind.resource, new["metadata"].get("namespace"), new["metadata"]["name"])
        if key in self.objects:
            self.objects[key].history.append(new)
        else:
            self.objects[key] = new
        self._names[kind.group, kind.plural].add(
            (new["metadata"].get("namespace") or "", new["metadata"]["name"])
        )
        self._note(Change(self._version, type_, kind, copy.deepcopy(new), old))
        return copy.deepcopy(new)

    def _remove(self, kind: Kind, old: Object) -> Object:
        if self.dry:
            return old
        self._version += 1
        gone = copy.deepcopy(old)
        gone["metadata"]["resourceVersion"] = str(self._version)
        self.objects[kind.resource, old["metadata"].get("namespace"), old["metadata"]["name"]].delete()
        self._names[kind.group, kind.plural].discard(
            (old["metadata"].get("namespace") or "", old["metadata"]["name"])
        )
        self._note(Change(self._version, "DELETED", kind, gone, old))
        return gone

    def _note(self, change: Change) -> None:
        self._changes.append(change)
        if len(self._changes) > _KEPT:
            self._oldest = self._changes[len(self._changes) - _KEPT].version
            del self._changes[: len(self._changes) - _KEPT]
        for listener in self._listeners:
            listener()


def _counted(item: Object, kind: Kind) -> Object:
    """What a generation counts: all but metadata, and but the status where that is written apart."""
    left_out = {"metadata", "status"} if kind.has_status or kind.crd is None else {"metadata"}
    return {key: value for key, value in item.items() if key not in left_out}
