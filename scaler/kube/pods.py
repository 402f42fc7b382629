"""How the pods of a target stand. Pure: dicts of the API in, counts out.

A pod counts once: leaving, ready, starting (on a node, not ready), or pending (on no node yet); what has
ended counts as none. Those that no node has room for are among the pending.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from scaler.kube.kube_time import unix_time_s

Object = Mapping[str, Any]

_ENDED = frozenset({"Succeeded", "Failed"})
# The last: of Argo Rollouts, whose ReplicaSets carry no other.
_REVISION_LABELS = ("pod-template-hash", "controller-revision-hash", "rollouts-pod-template-hash")


@dataclass(frozen=True, slots=True)
class PodCounts:
    ready: int = 0
    starting: int = 0
    pending: int = 0
    terminating: int = 0
    unschedulable: int = 0  # of the pending
    unschedulable_since_s: float | None = None  # unix: of the one that waits longest
    unschedulable_why: str = ""  # the scheduler's own words for that one
    revisions: frozenset[str] = frozenset()  # of those that stay

    @property
    def staying(self) -> int:
        return self.ready + self.starting + self.pending


def count_pods(pods: Iterable[Object]) -> PodCounts:
    counts = {"ready": 0, "starting": 0, "pending": 0, "terminating": 0}
    waiting: list[tuple[float, str]] = []
    revisions: set[str] = set()
    for pod in pods:
        standing = standing_of(pod)
        if not standing:
            continue
        counts[standing] += 1
        if standing == "terminating":
            continue
        revisions.update(revision_of(pod))
        refused = _unschedulable(pod) if standing == "pending" else None
        if refused is not None:
            waiting.append(refused)
    since_s, why = min(waiting, default=(None, ""))
    return PodCounts(
        **counts,
        unschedulable=len(waiting),
        unschedulable_since_s=since_s,
        unschedulable_why=why,
        revisions=frozenset(revisions),
    )


def standing_of(pod: Object) -> str:
    """`ready`, `starting`, `pending` or `terminating`; empty: it has ended."""
    status = pod.get("status") or {}
    if (pod.get("metadata") or {}).get("deletionTimestamp"):
        return "terminating"
    if status.get("phase") in _ENDED:
        return ""
    if (_condition(pod, "Ready") or {}).get("status") == "True":
        return "ready"
    scheduled = (_condition(pod, "PodScheduled") or {}).get("status") == "True"
    return "starting" if scheduled or (pod.get("spec") or {}).get("nodeName") else "pending"


def revision_of(pod: Object) -> tuple[str, ...]:
    labels = (pod.get("metadata") or {}).get("labels") or {}
    return tuple(str(labels[name]) for name in _REVISION_LABELS if labels.get(name))


def _unschedulable(pod: Object) -> tuple[float, str] | None:
    found = _condition(pod, "PodScheduled") or {}
    if found.get("status") != "False" or found.get("reason") != "Unschedulable":
        return None
    created = (pod.get("metadata") or {}).get("creationTimestamp")
    since_s = unix_time_s(found.get("lastTransitionTime")) or unix_time_s(created) or 0.0
    return since_s, str(found.get("message") or "")


def _condition(pod: Object, kind: str) -> Object | None:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return next((one for one in conditions if one.get("type") == kind), None)
