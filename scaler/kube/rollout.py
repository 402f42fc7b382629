"""Whether a target is in the middle of a rollout. Pure.

While old and new pods stand beside one another, `replicas` says nothing of how many of them serve; the
workload's own controller moves pods by its surge and unavailability. A smaller number then takes pods that
the rollout counts on, so the fleet does not shrink until it is over. It may grow: the workload's controller
spreads what is added over old and new.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scaler.kube.pods import PodCounts
from scaler.kube.rivals import TargetKey

Object = Mapping[str, Any]


def rollout_of(key: TargetKey, target: Object | None, pods: PodCounts) -> str:
    """Why it counts as a rollout; empty: there is none. `target` None: its kind can't be read, and only its
    pods' revisions tell.

    The kind is the policy's word: what a server lists of a kind of its own has none on the items.
    """
    if target is None:
        return _by_revisions(pods)
    status, spec = target.get("status") or {}, target.get("spec") or {}
    generation = _whole((target.get("metadata") or {}).get("generation"))
    observed = _whole(status.get("observedGeneration"))
    if generation is not None and observed is not None and observed < generation:
        return "its controller has not seen the last change yet"
    kind = key.kind if key.group == "apps" else ""  # another group's Deployment counts its pods as it likes
    if kind == "Deployment":
        old = int(status.get("replicas") or 0) - int(status.get("updatedReplicas") or 0)
        if old > 0:
            paused = " (paused)" if spec.get("paused") else ""
            return f"{old} of {status.get('replicas')} pods are of an older revision{paused}"
        return ""
    if kind == "StatefulSet":
        return _of_stateful_set(spec, status, pods)
    return _by_revisions(pods)


def _whole(generation: Any) -> int | None:
    """Argo Rollouts spell theirs as text; None: it is no number."""
    text = str(generation)
    return int(text) if text.isdecimal() else None


def _of_stateful_set(spec: Object, status: Object, pods: PodCounts) -> str:
    current, update = status.get("currentRevision"), status.get("updateRevision")
    strategy = spec.get("updateStrategy") or {}
    if not update or strategy.get("type") == "OnDelete":
        return ""
    if current == update:  # all is updated, or is on its way back to where it was
        return _by_revisions(pods)
    # Pods below the partition are meant to stay at the old revision: for as long as someone wants it.
    partition = int((strategy.get("rollingUpdate") or {}).get("partition") or 0)
    due = max(0, int(spec.get("replicas") or 0) - partition)
    updated = int(status.get("updatedReplicas") or 0)
    return f"{due - updated} of {due} pods are of an older revision" if updated < due else ""


def _by_revisions(pods: PodCounts) -> str:
    return f"pods of {len(pods.revisions)} revisions" if len(pods.revisions) > 1 else ""
