"""What the cluster's own controllers do: pods for a workload, their way to readiness, rollouts, the garbage.

A step-wise play of the deployment, replica-set and stateful-set controllers, the scheduler and the kubelets:
`settle` brings the objects forward to the store's present time. Nodes have room for `Cluster.room` pods; what
has no room stays Pending and Unschedulable. Called with the store's lock held.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tests.kube_api.kinds import Kind, Kinds
from tests.kube_api.selectors import selects
from tests.kube_api.store import Store, stamp

Object = dict[str, Any]
_NAMESPACE_ENDS_S = 2.0
_LETTERS = "bcdfghjklmnpqrstvwxz2456789"  # of Kubernetes' generated names


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


def concerns(kind: Kind) -> bool:
    """Whether a write to it can bring something about here."""
    return kind.group in ("apps", "policy") or (kind.group, kind.plural) in (("", "pods"), ("", "namespaces"))


class Workloads:
    def __init__(self, store: Store, kinds: Kinds, cluster: Cluster) -> None:
        self._store = store
        self._kinds = kinds
        self.cluster = cluster
        self._marks: dict[str, dict[str, float]] = {}
        """Of each pod, by uid: when what happened to it, finer than the second of its timestamps."""
        self._serial = 0
        self.restless = False
        """Whether time alone brings something about: pods on their way up or down."""

    def settle(self) -> None:
        """Until nothing more is to be done at this time."""
        for _ in range(50):
            before = self._store.version
            self._bury()
            for deployment in self._all("apps", "deployments"):
                self._roll(deployment)
            for replica_set in self._all("apps", "replicasets"):
                self._fill(replica_set, self._kind("apps", "replicasets"))
            for stateful_set in self._all("apps", "statefulsets"):
                self._line_up(stateful_set)
            self._run_pods()
            self._end_namespaces()
            for kind in ("replicasets", "statefulsets", "deployments"):
                for workload in self._all("apps", kind):
                    self._count(workload, self._kind("apps", kind))
            self._count_budgets()
            if self._store.version == before:
                return

    # Pods

    def _run_pods(self) -> None:
        pods = self._all("", "pods")
        self.restless = any("deletionTimestamp" in pod["metadata"] or not is_ready(pod) for pod in pods)
        room = math.inf if self.cluster.room is None else self.cluster.room
        held = sum(1 for pod in pods if pod["spec"].get("nodeName") and not _over(pod))
        for pod in sorted(pods, key=lambda pod: self._mark(pod, "created")):
            if "deletionTimestamp" in pod["metadata"]:
                self._stop(pod)
            elif not pod["spec"].get("nodeName"):
                held += self._schedule(copy.deepcopy(pod), held < room)
            else:
                self._bring_up(pod)

    def _schedule(self, pod: Object, fits: bool) -> int:
        if self._store.now_s() < self._mark(pod, "created") + self.cluster.schedule_s:
            return 0
        if fits:
            pod["spec"]["nodeName"] = "node-1"
            self._condition(pod, "PodScheduled", True)
            self._marks[pod["metadata"]["uid"]]["scheduled"] = self._store.now_s()
        else:
            why = "0/1 nodes are available: 1 Insufficient cpu."
            self._condition(pod, "PodScheduled", False, "Unschedulable", why)
        self._write(self._kind("", "pods"), pod)
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
            self._write(self._kind("", "pods"), pod)
        if now_s >= ready_s and not self.cluster.never_ready(pod):
            for type_ in ("Ready", "ContainersReady"):
                self._condition(pod, type_, True)
            self._write(self._kind("", "pods"), pod)

    def _stop(self, pod: Object) -> None:
        uid = pod["metadata"]["uid"]
        marks = self._marks.setdefault(uid, {})
        began_s = marks.setdefault("deleted", self._store.now_s())
        grace_s = pod["metadata"].get("deletionGracePeriodSeconds", 30)
        after_s = min(self.cluster.stop_s, grace_s) if pod["spec"].get("nodeName") else 0.0
        if self._store.now_s() >= began_s + after_s:
            self._store.delete(self._kind("", "pods"), pod["metadata"]["namespace"], pod["metadata"]["name"])
            self._marks.pop(uid, None)

    def _create_pod(self, owner: Object, owner_kind: Kind, template: Mapping[str, Any], name: str) -> None:
        meta = owner["metadata"]
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                **copy.deepcopy(dict(template.get("metadata", {}))),
                "name": name,
                "namespace": meta["namespace"],
                "ownerReferences": [_owner(owner, owner_kind)],
            },
            "spec": {"serviceAccountName": "default", **copy.deepcopy(template["spec"])},
            "status": {"phase": "Pending", "qosClass": "BestEffort"},
        }
        if owner_kind.plural == "replicasets":
            pod["metadata"]["generateName"] = f"{meta['name']}-"
        made = self._store.create(self._kind("", "pods"), pod)
        self._marks[made["metadata"]["uid"]] = {"created": self._store.now_s()}

    def _delete_pod(self, pod: Object) -> None:
        grace_s = pod["spec"].get("terminationGracePeriodSeconds", 30)
        self._store.delete(
            self._kind("", "pods"), pod["metadata"]["namespace"], pod["metadata"]["name"], grace_s
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
        self._serial += 1
        return f"10.244.{self._serial // 250}.{self._serial % 250 + 1}"

    # Deployments

    def _roll(self, deployment: Object) -> None:
        """One step of a rolling update: the new replica set up, the old ones down, within its limits."""
        if "deletionTimestamp" in deployment["metadata"] or deployment["spec"].get("paused"):
            return
        new = self._new_replica_set(deployment)
        wanted = deployment["spec"]["replicas"]
        old = [
            each
            for each in self._owned(deployment, "replicasets")
            if each["metadata"]["uid"] != new["metadata"]["uid"]
        ]
        if not any(each["spec"]["replicas"] for each in old):
            self._resize(new, wanted)
            return
        surge, unavailable = _rolling_limits(deployment["spec"].get("strategy", {}), wanted)
        if deployment["spec"].get("strategy", {}).get("type") == "Recreate":
            for each in old:
                self._resize(each, 0)
            if not any(self._owned(each, "pods") for each in old):
                self._resize(new, wanted)
            return
        total = new["spec"]["replicas"] + sum(each["spec"]["replicas"] for each in old)
        new = self._resize(new, min(wanted, new["spec"]["replicas"] + max(0, wanted + surge - total)))
        available = sum(1 for each in (*old, new) for pod in self._owned(each, "pods") if _serves(pod))
        spare = available - (wanted - unavailable)
        for each in old:
            unready = [pod for pod in self._owned(each, "pods") if not _serves(pod)]
            step = min(each["spec"]["replicas"], max(0, spare) + min(len(unready), each["spec"]["replicas"]))
            self._resize(each, each["spec"]["replicas"] - step)
            spare -= max(0, step - len(unready))

    def _new_replica_set(self, deployment: Object) -> Object:
        kind = self._kind("apps", "replicasets")
        meta, template = deployment["metadata"], deployment["spec"]["template"]
        digest = hashlib.sha256(json.dumps(template, sort_keys=True).encode()).digest()
        hash_ = "".join(_LETTERS[byte % len(_LETTERS)] for byte in digest[:9])
        name = f"{meta['name']}-{hash_}"
        found = self._store.peek(kind, meta["namespace"], name)
        newest = max(map(_revision, self._owned(deployment, "replicasets")), default=0)
        if found is not None:
            if _revision(found) < newest:  # rolled back to
                found["metadata"]["annotations"]["deployment.kubernetes.io/revision"] = str(newest + 1)
                self._write(kind, found)
            return found
        revision = str(newest + 1)
        labels = {**template.get("metadata", {}).get("labels", {}), "pod-template-hash": hash_}
        selector = copy.deepcopy(deployment["spec"]["selector"])
        selector["matchLabels"] = {**selector.get("matchLabels", {}), "pod-template-hash": hash_}
        made = self._store.create(
            kind,
            {
                "apiVersion": "apps/v1",
                "kind": "ReplicaSet",
                "metadata": {
                    "name": name,
                    "namespace": meta["namespace"],
                    "labels": labels,
                    "annotations": {"deployment.kubernetes.io/revision": revision},
                    "ownerReferences": [_owner(deployment, self._kind("apps", "deployments"))],
                },
                "spec": {
                    "replicas": 0,
                    "selector": selector,
                    "template": {
                        **template,
                        "metadata": {**template.get("metadata", {}), "labels": labels},
                    },
                },
                "status": {"replicas": 0},
            },
        )
        annotations = {**meta.get("annotations", {}), "deployment.kubernetes.io/revision": revision}
        annotated = {**deployment, "metadata": {**meta, "annotations": annotations}}
        self._write(self._kind("apps", "deployments"), annotated)
        return made

    def _resize(self, replica_set: Object, replicas: int) -> Object:
        if replica_set["spec"]["replicas"] == replicas:
            return replica_set
        resized = {**replica_set, "spec": {**replica_set["spec"], "replicas": replicas}}
        return self._write(self._kind("apps", "replicasets"), resized)

    def _fill(self, replica_set: Object, kind: Kind) -> None:
        pods = [pod for pod in self._owned(replica_set, "pods") if "deletionTimestamp" not in pod["metadata"]]
        wanted = replica_set["spec"]["replicas"]
        for _ in range(wanted - len(pods)):
            self._serial += 1
            tail = hashlib.sha256(str(self._serial).encode()).digest()
            suffix = "".join(_LETTERS[byte % len(_LETTERS)] for byte in tail[:5])
            name = f"{replica_set['metadata']['name']}-{suffix}"
            self._create_pod(replica_set, kind, replica_set["spec"]["template"], name)
        for pod in sorted(pods, key=self._leaves_first)[: max(0, len(pods) - wanted)]:
            self._delete_pod(pod)

    def _leaves_first(self, pod: Object) -> tuple[Any, ...]:
        """The order in which a replica set removes pods."""
        cost = int(
            pod["metadata"].get("annotations", {}).get("controller.kubernetes.io/pod-deletion-cost", "0")
        )
        return (
            bool(pod["spec"].get("nodeName")),
            pod["status"].get("phase") != "Pending",
            is_ready(pod),
            cost,
            -self._mark(pod, "created"),
        )

    # Stateful sets

    def _line_up(self, stateful_set: Object) -> None:
        """In order, one after the other: the next pod only once all before it are ready."""
        if "deletionTimestamp" in stateful_set["metadata"]:
            return
        kind = self._kind("apps", "statefulsets")
        name, wanted = stateful_set["metadata"]["name"], stateful_set["spec"]["replicas"]
        pods = {pod["metadata"]["name"]: pod for pod in self._owned(stateful_set, "pods")}
        parallel = stateful_set["spec"].get("podManagementPolicy") == "Parallel"
        surplus = [pod for key, pod in sorted(pods.items()) if int(key.rsplit("-", 1)[1]) >= wanted]
        for pod in surplus if parallel else surplus[-1:]:
            if "deletionTimestamp" not in pod["metadata"]:
                self._delete_pod(pod)
        for at in range(wanted):
            pod_name = f"{name}-{at}"
            if pod_name not in pods:
                self._create_pod(stateful_set, kind, stateful_set["spec"]["template"], pod_name)
                if not parallel:
                    return
            elif not parallel and not is_ready(pods[pod_name]):
                return

    # What their status says

    def _count(self, workload: Object, kind: Kind) -> None:
        if kind.plural == "deployments":
            sets = self._owned(workload, "replicasets")
            pods = [pod for each in sets for pod in self._owned(each, "pods")]
            newest = max(sets, key=_revision, default=None)
            newest_uid = newest["metadata"]["uid"] if newest else None
            updated = [pod for pod in pods if pod["metadata"]["ownerReferences"][0]["uid"] == newest_uid]
        else:
            pods = updated = self._owned(workload, "pods")
        staying = [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]
        updated = [pod for pod in updated if "deletionTimestamp" not in pod["metadata"]]
        ready = sum(is_ready(pod) for pod in staying)
        counts = {
            "observedGeneration": workload["metadata"].get("generation", 1),
            "replicas": len(staying),
            "readyReplicas": ready,
            "availableReplicas": ready,
            "terminatingReplicas": len(pods) - len(staying),
        }
        status = {
            key: value for key, value in counts.items() if value or key in ("replicas", "terminatingReplicas")
        }
        if kind.plural == "deployments":
            status |= self._deployment_status(workload, len(updated), len(staying), ready)
        elif kind.plural == "statefulsets":
            status |= {"currentReplicas": len(staying), "updatedReplicas": len(updated)}
            status["availableReplicas"] = ready
        elif counts["replicas"]:
            status["fullyLabeledReplicas"] = counts["replicas"]
        if workload.get("status") != status:
            self._write(kind, {**workload, "status": status}, "status")

    def _deployment_status(self, deployment: Object, updated: int, total: int, ready: int) -> Object:
        wanted = deployment["spec"]["replicas"]
        _, unavailable = _rolling_limits(deployment["spec"].get("strategy", {}), wanted)
        enough = ready >= wanted - unavailable
        complete = updated == wanted == total == ready
        old = {each["type"]: each for each in deployment.get("status", {}).get("conditions", ())}
        newest = max(self._owned(deployment, "replicasets"), key=_revision, default=None)
        set_name = newest["metadata"]["name"] if newest else ""
        conditions = [
            self._dated(old, "Available", enough, *(
                ("MinimumReplicasAvailable", "Deployment has minimum availability.")
                if enough else
                ("MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
            )),
            self._dated(old, "Progressing", True, *(
                ("NewReplicaSetAvailable", f'ReplicaSet "{set_name}" has successfully progressed.')
                if complete or (old.get("Progressing", {}).get("reason") == "NewReplicaSetAvailable"
                and updated == total) else
                ("ReplicaSetUpdated", f'ReplicaSet "{set_name}" is progressing.')
            )),
        ]  # fmt: skip
        counts = {"updatedReplicas": updated, "unavailableReplicas": max(0, max(wanted, total) - ready)}
        return {**{key: value for key, value in counts.items() if value}, "conditions": conditions}

    def _dated(self, old: Mapping[str, Object], type_: str, holds: bool, reason: str, message: str) -> Object:
        status, before = "True" if holds else "False", old.get(type_, {})
        if (before.get("status"), before.get("reason"), before.get("message")) == (status, reason, message):
            return before
        now = stamp(self._store.now_s())
        since = before["lastTransitionTime"] if before.get("status") == status else now
        return {
            "type": type_,
            "status": status,
            "lastUpdateTime": now,
            "lastTransitionTime": since,
            "reason": reason,
            "message": message,
        }

    def _count_budgets(self) -> None:
        kind = self._kind("policy", "poddisruptionbudgets")
        pods = self._all("", "pods")
        for budget in self._all("policy", "poddisruptionbudgets"):
            fits = selects(budget["spec"].get("selector"))
            where = budget["metadata"]["namespace"]
            guarded = [pod for pod in pods if pod["metadata"]["namespace"] == where and fits(pod)]
            if not guarded and "observedGeneration" not in budget.get("status", {}):
                continue
            healthy = sum(_serves(pod) for pod in guarded)
            least = budget["spec"].get("minAvailable")
            if least is None:
                least = len(guarded) - _share(
                    budget["spec"].get("maxUnavailable", 0), len(guarded), math.ceil
                )
            desired = _share(least, len(guarded), math.ceil)
            status = {
                "observedGeneration": budget["metadata"].get("generation", 1),
                "disruptionsAllowed": max(0, healthy - desired),
                "currentHealthy": healthy,
                "desiredHealthy": desired,
                "expectedPods": len(guarded),
            }
            if budget.get("status") != status:
                self._write(kind, {**budget, "status": status}, "status")

    # The namespace controller

    def _end_namespaces(self) -> None:
        """It empties them after a while: what is deleted one by one meanwhile is still found."""
        kind = self._kind("", "namespaces")
        for namespace in [
            one for one in self._all("", "namespaces") if "deletionTimestamp" in one["metadata"]
        ]:
            name = namespace["metadata"]["name"]
            marks = self._marks.setdefault(namespace["metadata"]["uid"], {})
            if self._store.now_s() < marks.setdefault("deleted", self._store.now_s()) + _NAMESPACE_ENDS_S:
                self.restless = True
                continue
            for other in [each for each in self._kinds if each.namespaced]:
                for item in self._store.look(other, name):
                    self._store.delete(other, name, item["metadata"]["name"])
            self._store.delete(kind, None, name)

    # The garbage collector

    def _bury(self) -> None:
        """What a missing owner leaves behind."""
        living = {
            item["metadata"]["uid"]
            for plural in ("deployments", "replicasets", "statefulsets", "daemonsets")
            for item in self._all("apps", plural)
        }
        for pod in self._all("", "pods"):
            owners = pod["metadata"].get("ownerReferences", ())
            orphaned = owners and not living & {owner["uid"] for owner in owners}
            if orphaned and "deletionTimestamp" not in pod["metadata"]:
                self._delete_pod(pod)
        for replica_set in self._all("apps", "replicasets"):
            owners = replica_set["metadata"].get("ownerReferences", ())
            if owners and not living & {owner["uid"] for owner in owners}:
                meta = replica_set["metadata"]
                self._store.delete(self._kind("apps", "replicasets"), meta["namespace"], meta["name"])

    # Access to the store

    def _kind(self, group: str, plural: str) -> Kind:
        found = self._kinds.find(group, "v1", plural)
        if found is None:
            raise LookupError(f"no kind {plural}.{group}")
        return found

    def _all(self, group: str, plural: str) -> list[Object]:
        return self._store.look(self._kind(group, plural))

    def _owned(self, owner: Object, plural: str) -> list[Object]:
        kind = self._kind("" if plural == "pods" else "apps", plural)
        uid = owner["metadata"]["uid"]
        return [
            item
            for item in self._store.look(kind, owner["metadata"]["namespace"])
            if any(each["uid"] == uid for each in item["metadata"].get("ownerReferences", ()))
        ]

    def _write(self, kind: Kind, item: Object, of: str | None = None) -> Object:
        """Of pods both the spec and the status."""
        if of is None and kind.plural == "pods":
            spec = self._store.update(kind, _unversioned(item), None, patched=True)
            return self._write(kind, {**spec, "status": item["status"]}, "status")
        return self._store.update(kind, _unversioned(item), of, patched=True)

    def _mark(self, pod: Object, what: str) -> float:
        created_s = datetime.fromisoformat(pod["metadata"]["creationTimestamp"]).timestamp()
        return self._marks.setdefault(pod["metadata"]["uid"], {}).setdefault(what, created_s)


def is_ready(pod: Mapping[str, Any]) -> bool:
    conditions = pod.get("status", {}).get("conditions", ())
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def _unversioned(item: Object) -> Object:
    meta = {key: value for key, value in item["metadata"].items() if key != "resourceVersion"}
    return {**item, "metadata": meta}


def _serves(pod: Mapping[str, Any]) -> bool:
    return is_ready(pod) and "deletionTimestamp" not in pod["metadata"]


def _over(pod: Mapping[str, Any]) -> bool:
    return pod["status"].get("phase") in ("Succeeded", "Failed")


def _owner(owner: Object, kind: Kind) -> Object:
    return {
        "apiVersion": kind.api_version,
        "kind": kind.kind,
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def _revision(replica_set: Object) -> int:
    return int(replica_set["metadata"].get("annotations", {}).get("deployment.kubernetes.io/revision", "0"))


def _share(value: int | str, of: int, rounded: Callable[[float], int]) -> int:
    """A count, or a percentage of one."""
    return rounded(of * int(value.rstrip("%")) / 100) if isinstance(value, str) else value


def _rolling_limits(strategy: Mapping[str, Any], wanted: int) -> tuple[int, int]:
    rolling = strategy.get("rollingUpdate") or {}
    surge = _share(rolling.get("maxSurge", "25%"), wanted, math.ceil)
    unavailable = _share(rolling.get("maxUnavailable", "25%"), wanted, math.floor)
    return surge, max(unavailable, 0 if surge else 1)
