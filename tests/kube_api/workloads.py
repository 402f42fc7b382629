"""What the cluster's own controllers do: replicas for a workload, rollouts, the end of namespaces, garbage.

A step-wise play of the deployment, replica-set, stateful-set and namespace controllers: `settle` brings the
objects forward to the store's present time. The pods themselves are `pods`, the statuses `counts`. Called
with the store's lock held.
"""

from __future__ import annotations

import copy
import hashlib
import json
from typing import Any

from tests.kube_api.counts import Counts
from tests.kube_api.kinds import Kind, Kinds
from tests.kube_api.pods import Cluster, Pods, owner_reference
from tests.kube_api.reach import Reach, is_ready, revision, rolling_limits, serves
from tests.kube_api.store import Object, Store

_NAMESPACE_ENDS_S = 2.0
_LETTERS = "bcdfghjklmnpqrstvwxz2456789"  # of Kubernetes' generated names


def concerns(kind: Kind) -> bool:
    """Whether a write to it can bring something about here."""
    return kind.group in ("apps", "policy") or (kind.group, kind.plural) in (("", "pods"), ("", "namespaces"))


class Workloads(Reach):
    def __init__(self, store: Store, kinds: Kinds, cluster: Cluster) -> None:
        super().__init__(store, kinds)
        self.restless = False
        """Whether time alone brings something about."""
        self._pods = Pods(store, kinds, cluster)
        self._counts = Counts(store, kinds)
        self._ending: dict[str, float] = {}
        """Namespaces, by uid: since when."""
        self._serial = 0

    def settle(self) -> None:
        """Until nothing more is to be done at this time."""
        for _ in range(50):
            before = self._store.version
            self._bury()
            for deployment in self.all_of("apps", "deployments"):
                self._roll(deployment)
            for replica_set in self.all_of("apps", "replicasets"):
                self._fill(replica_set, self.kind("apps", "replicasets"))
            for stateful_set in self.all_of("apps", "statefulsets"):
                self._line_up(stateful_set)
            self._pods.run()
            self.restless = self._pods.moving
            self._end_namespaces()
            for kind in ("replicasets", "statefulsets", "deployments"):
                for workload in self.all_of("apps", kind):
                    self._counts.count(workload, self.kind("apps", kind))
            self._counts.count_budgets()
            if self._store.version == before:
                return

    # Deployments

    def _roll(self, deployment: Object) -> None:
        """One step of a rolling update: the new replica set up, the old ones down, within its limits."""
        if "deletionTimestamp" in deployment["metadata"] or deployment["spec"].get("paused"):
            return
        new = self._new_replica_set(deployment)
        wanted = deployment["spec"]["replicas"]
        old = [
            each
            for each in self.owned(deployment, "replicasets")
            if each["metadata"]["uid"] != new["metadata"]["uid"]
        ]
        if not any(each["spec"]["replicas"] for each in old):
            self._resize(new, wanted)
            return
        surge, unavailable = rolling_limits(deployment["spec"].get("strategy", {}), wanted)
        if deployment["spec"].get("strategy", {}).get("type") == "Recreate":
            for each in old:
                self._resize(each, 0)
            if not any(self.owned(each, "pods") for each in old):
                self._resize(new, wanted)
            return
        total = new["spec"]["replicas"] + sum(each["spec"]["replicas"] for each in old)
        new = self._resize(new, min(wanted, new["spec"]["replicas"] + max(0, wanted + surge - total)))
        available = sum(1 for each in (*old, new) for pod in self.owned(each, "pods") if serves(pod))
        spare = available - (wanted - unavailable)
        for each in old:
            unready = [pod for pod in self.owned(each, "pods") if not serves(pod)]
            step = min(each["spec"]["replicas"], max(0, spare) + min(len(unready), each["spec"]["replicas"]))
            self._resize(each, each["spec"]["replicas"] - step)
            spare -= max(0, step - len(unready))

    def _new_replica_set(self, deployment: Object) -> Object:
        kind = self.kind("apps", "replicasets")
        meta, template = deployment["metadata"], deployment["spec"]["template"]
        digest = hashlib.sha256(json.dumps(template, sort_keys=True).encode()).digest()
        hash_ = "".join(_LETTERS[byte % len(_LETTERS)] for byte in digest[:9])
        name = f"{meta['name']}-{hash_}"
        found = self._store.peek(kind, meta["namespace"], name)
        newest = max(map(revision, self.owned(deployment, "replicasets")), default=0)
        if found is not None:
            if revision(found) < newest:  # rolled back to
                found["metadata"]["annotations"]["deployment.kubernetes.io/revision"] = str(newest + 1)
                self.write(kind, found)
            return found
        number = str(newest + 1)
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
                    "annotations": {"deployment.kubernetes.io/revision": number},
                    "ownerReferences": [owner_reference(deployment, self.kind("apps", "deployments"))],
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
        annotations = {**meta.get("annotations", {}), "deployment.kubernetes.io/revision": number}
        annotated = {**deployment, "metadata": {**meta, "annotations": annotations}}
        self.write(self.kind("apps", "deployments"), annotated)
        return made

    def _resize(self, replica_set: Object, replicas: int) -> Object:
        if replica_set["spec"]["replicas"] == replicas:
            return replica_set
        resized = {**replica_set, "spec": {**replica_set["spec"], "replicas": replicas}}
        return self.write(self.kind("apps", "replicasets"), resized)

    def _fill(self, replica_set: Object, kind: Kind) -> None:
        pods = [pod for pod in self.owned(replica_set, "pods") if "deletionTimestamp" not in pod["metadata"]]
        wanted = replica_set["spec"]["replicas"]
        for _ in range(wanted - len(pods)):
            self._serial += 1
            tail = hashlib.sha256(str(self._serial).encode()).digest()
            suffix = "".join(_LETTERS[byte % len(_LETTERS)] for byte in tail[:5])
            name = f"{replica_set['metadata']['name']}-{suffix}"
            self._pods.create(replica_set, kind, replica_set["spec"]["template"], name)
        for pod in sorted(pods, key=self._leaves_first)[: max(0, len(pods) - wanted)]:
            self._pods.delete(pod)

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
            -self._pods.mark(pod, "created"),
        )

    # Stateful sets

    def _line_up(self, stateful_set: Object) -> None:
        """In order, one after the other: the next pod only once all before it are ready."""
        if "deletionTimestamp" in stateful_set["metadata"]:
            return
        kind = self.kind("apps", "statefulsets")
        name, wanted = stateful_set["metadata"]["name"], stateful_set["spec"]["replicas"]
        pods = {pod["metadata"]["name"]: pod for pod in self.owned(stateful_set, "pods")}
        parallel = stateful_set["spec"].get("podManagementPolicy") == "Parallel"
        surplus = [pod for key, pod in sorted(pods.items()) if int(key.rsplit("-", 1)[1]) >= wanted]
        for pod in surplus if parallel else surplus[-1:]:
            if "deletionTimestamp" not in pod["metadata"]:
                self._pods.delete(pod)
        for at in range(wanted):
            pod_name = f"{name}-{at}"
            if pod_name not in pods:
                self._pods.create(stateful_set, kind, stateful_set["spec"]["template"], pod_name)
                if not parallel:
                    return
            elif not parallel and not is_ready(pods[pod_name]):
                return

    # The namespace controller

    def _end_namespaces(self) -> None:
        """It empties them after a while: what is deleted one by one meanwhile is still found."""
        kind = self.kind("", "namespaces")
        for namespace in [
            one for one in self.all_of("", "namespaces") if "deletionTimestamp" in one["metadata"]
        ]:
            name = namespace["metadata"]["name"]
            since_s = self._ending.setdefault(namespace["metadata"]["uid"], self._store.now_s())
            if self._store.now_s() < since_s + _NAMESPACE_ENDS_S:
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
            for item in self.all_of("apps", plural)
        }
        for pod in self.all_of("", "pods"):
            owners = pod["metadata"].get("ownerReferences", ())
            orphaned = owners and not living & {owner["uid"] for owner in owners}
            if orphaned and "deletionTimestamp" not in pod["metadata"]:
                self._pods.delete(pod)
        for replica_set in self.all_of("apps", "replicasets"):
            owners = replica_set["metadata"].get("ownerReferences", ())
            if owners and not living & {owner["uid"] for owner in owners}:
                meta = replica_set["metadata"]
                self._store.delete(self.kind("apps", "replicasets"), meta["namespace"], meta["name"])
