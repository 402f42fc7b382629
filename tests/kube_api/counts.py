"""What workloads and budgets say of their pods in their status."""

from __future__ import annotations

import math
from collections.abc import Mapping

from tests.kube_api.kinds import Kind
from tests.kube_api.reach import Reach, is_ready, revision, rolling_limits, serves, share
from tests.kube_api.selectors import selects
from tests.kube_api.store import Object, stamp


class Counts(Reach):
    def count(self, workload: Object, kind: Kind) -> None:
        if kind.plural == "deployments":
            sets = self.owned(workload, "replicasets")
            pods = [pod for each in sets for pod in self.owned(each, "pods")]
            newest = max(sets, key=revision, default=None)
            newest_uid = newest["metadata"]["uid"] if newest else None
            updated = [pod for pod in pods if pod["metadata"]["ownerReferences"][0]["uid"] == newest_uid]
        else:
            pods = updated = self.owned(workload, "pods")
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
            self.write(kind, {**workload, "status": status}, "status")

    def _deployment_status(self, deployment: Object, updated: int, total: int, ready: int) -> Object:
        wanted = deployment["spec"]["replicas"]
        _, unavailable = rolling_limits(deployment["spec"].get("strategy", {}), wanted)
        enough = ready >= wanted - unavailable
        complete = updated == wanted == total == ready
        old = {each["type"]: each for each in deployment.get("status", {}).get("conditions", ())}
        newest = max(self.owned(deployment, "replicasets"), key=revision, default=None)
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

    def count_budgets(self) -> None:
        kind = self.kind("policy", "poddisruptionbudgets")
        pods = self.all_of("", "pods")
        for budget in self.all_of("policy", "poddisruptionbudgets"):
            fits = selects(budget["spec"].get("selector"))
            where = budget["metadata"]["namespace"]
            guarded = [pod for pod in pods if pod["metadata"]["namespace"] == where and fits(pod)]
            if not guarded and "observedGeneration" not in budget.get("status", {}):
                continue
            healthy = sum(serves(pod) for pod in guarded)
            least = budget["spec"].get("minAvailable")
            if least is None:
                least = len(guarded) - share(budget["spec"].get("maxUnavailable", 0), len(guarded), math.ceil)
            desired = share(least, len(guarded), math.ceil)
            status = {
                "observedGeneration": budget["metadata"].get("generation", 1),
                "disruptionsAllowed": max(0, healthy - desired),
                "currentHealthy": healthy,
                "desiredHealthy": desired,
                "expectedPods": len(guarded),
            }
            if budget.get("status") != status:
                self.write(kind, {**budget, "status": status}, "status")
