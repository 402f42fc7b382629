"""Pods, from their making to their end: what the scheduler and the kubelets do.

Nodes have room for `Cluster.room` pods; what has no room stays Pending and Unschedulable.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tests.kube_api.kinds import Kind, Kinds
from tests.kube_api.reach import Reach, is_ready
from tests.kube_api.store import Object, Store, stamp


@dataclass
class Cluster:
    """How the nodes and what runs on them behave. May be changed at any time."""

    room: int | None = None
    """Pods that fit on all nodes together."""
    schedule_s: float = 0.0
    start_s: float = 0.0
    """From scheduled to the container running."""
    ready_s: float = 0.0
    """From running to ready."""
    stop_s: float = 0.0
    """From SIGTERM to gone, at most the pod's grace."""
    never_ready: Callable[[Object], bool] = lambda _pod: False


class Pods(Reach):
    def __init__(self, store: Store, kinds: Kinds, cluster: Cluster) -> None:
        super().__init__(store, kinds)
        self.cluster = cluster
        self.moving = False
        """Whether any is on its way up or down: time alone brings something about."""
        self._marks: dict[str, dict[str, float]] = {}
        """By uid: when what happened to it, finer than the second of its timestamps."""
        self._addresses = 0

    def run(self) -> None:
        pods = self.all_of("", "pods")
        self.moving = any("deletionTimestamp" in pod["metadata"] or not is_ready(pod) for pod in pods)
        room = math.inf if self.cluster.room is None else self.cluster.room
        held = sum(1 for pod in pods if pod["spec"].get("nodeName") and not _over(pod))
        for pod in sorted(pods, key=lambda pod: self.mark(pod, "created")):
            if "deletionTimestamp" in pod["metadata"]:
                self._stop(pod)
            elif not pod["spec"].get("nodeName"):
                held += self._schedule(copy.deepcopy(pod), held < room)
            else:
                self._bring_up(pod)

    def _schedule(self, pod: Object, fits: bool) -> int:
        if self._store.now_s() < self.mark(pod, "created") + self.cluster.schedule_s:
            return 0
        if fits:
            pod["spec"]["nodeName"] = "node-1"
            self._condition(pod, "PodScheduled", True)
            self._marks[pod["metadata"]["uid"]]["scheduled"] = self._store.now_s()
        else:
            why = "0/1 nodes are available: 1 Insufficient cpu."
            self._condition(pod, "PodScheduled", False, "Unschedulable", why)
        self.write(self.kind("", "pods"), pod)
        return int(fits)

    def _bring_up(self, pod: Object) -> None:
        marks = self._marks.setdefault(pod["metadata"]["uid"], {})
        now_s = self._store.now_s()
        scheduled_s = marks.setdefault("scheduled", now_s)
        running_s = scheduled_s + self.cluster.start_s
        ready_s = running_s + self.cluster.ready_s
        if is_ready(pod) or now_s < running_s:
            return
        pod = copy.deepcopy(pod)
        if pod["status"].get("phase") == "Pending":
            pod["status"].update(phase="Running", startTime=stamp(running_s), podIP=self._address())
            for type_ in ("PodReadyToStartContainers", "Initialized"):
                self._condition(pod, type_, True)
            for type_ in ("Ready", "ContainersReady"):
                why = "containers with unready status: [service]"
                self._condition(pod, type_, False, "ContainersNotReady", why)
            self.write(self.kind("", "pods"), pod)
        if now_s >= ready_s and not self.cluster.never_ready(pod):
            for type_ in ("Ready", "ContainersReady"):
                self._condition(pod, type_, True)
            self.write(self.kind("", "pods"), pod)

    def _stop(self, pod: Object) -> None:
        uid = pod["metadata"]["uid"]
        marks = self._marks.setdefault(uid, {})
        began_s = marks.setdefault("deleted", self._store.now_s())
        grace_s = pod["metadata"].get("deletionGracePeriodSeconds", 30)
        after_s = min(self.cluster.stop_s, grace_s) if pod["spec"].get("nodeName") else 0.0
        if self._store.now_s() >= began_s + after_s:
            self._store.delete(self.kind("", "pods"), pod["metadata"]["namespace"], pod["metadata"]["name"])
            self._marks.pop(uid, None)

    def create(self, owner: Object, owner_kind: Kind, template: Mapping[str, Any], name: str) -> None:
        meta = owner["metadata"]
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                **copy.deepcopy(dict(template.get("metadata", {}))),
                "name": name,
                "namespace": meta["namespace"],
                "ownerReferences": [owner_reference(owner, owner_kind)],
            },
            "spec": {"serviceAccountName": "default", **copy.deepcopy(template["spec"])},
            "status": {"phase": "Pending", "qosClass": "BestEffort"},
        }
        if owner_kind.plural == "replicasets":
            pod["metadata"]["generateName"] = f"{meta['name']}-"
        made = self._store.create(self.kind("", "pods"), pod)
        self._marks[made["metadata"]["uid"]] = {"created": self._store.now_s()}

    def delete(self, pod: Object) -> None:
        grace_s = pod["spec"].get("terminationGracePeriodSeconds", 30)
        self._store.delete(
            self.kind("", "pods"), pod["metadata"]["namespace"], pod["metadata"]["name"], grace_s
        )

    def _condition(self, pod: Object, type_: str, holds: bool, reason: str = "", message: str = "") -> None:
        conditions = pod["status"].setdefault("conditions", [])
        found = next((each for each in conditions if each["type"] == type_), None)
        status = "True" if holds else "False"
        if found is not None and found["status"] == status and found.get("reason", "") == reason:
            return
        new = {
            "type": type_,
            "status": status,
            "lastProbeTime": None,
            "lastTransitionTime": stamp(self._store.now_s()),
        }
        new |= {key: value for key, value in (("reason", reason), ("message", message)) if value}
        pod["status"]["conditions"] = [each for each in conditions if each is not found] + [new]

    def _address(self) -> str:
        self._addresses += 1
        return f"10.244.{self._addresses // 250}.{self._addresses % 250 + 1}"

    def mark(self, pod: Object, what: str) -> float:
        created_s = datetime.fromisoformat(pod["metadata"]["creationTimestamp"]).timestamp()
        return self._marks.setdefault(pod["metadata"]["uid"], {}).setdefault(what, created_s)


def _over(pod: Mapping[str, Any]) -> bool:
    return pod["status"].get("phase") in ("Succeeded", "Failed")


def owner_reference(owner: Object, kind: Kind) -> Object:
    return {
        "apiVersion": kind.api_version,
        "kind": kind.kind,
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }
