"""What is known of a target now, and how far a decision may be acted on beside it. Pure.

The law of `allow`: never fewer than the policy's minimum or than there are now, whichever is less; no fewer
at all while the pods are not seen, many that are ready do not report, a rollout is in progress, or a budget
needs them; more at once.
"""

from __future__ import annotations

from dataclasses import dataclass

from scaler.kube.disruption import Budget, allowed_down
from scaler.kube.pods import PodCounts
from scaler.kube.target import Scale

SEEN_WITHIN_S = 15.0  # a picture of the pods that is older is none to shrink a fleet by
# After an outage of the bus replicas join again one by one: what the first of them serve is not all the load.
_LEAST_REPORTING = 0.9


@dataclass(frozen=True, slots=True)
class Facts:
    """`unseen`: why the pods, or the budgets over them, are not known now; empty: they are. `rival`: who else
    scales the target; `rival_unseen`: why that can't be told. `uncounted`: pods may not be seen."""

    scale: Scale
    counts: PodCounts
    unseen: str = ""
    rollout: str = ""
    budgets: tuple[Budget, ...] = ()
    rival: str = ""
    rival_unseen: str = ""
    not_ready_first: bool = False
    uncounted: bool = False


@dataclass(frozen=True, slots=True)
class Permit:
    """`held`: why not all that was desired; `reason` in CamelCase for its Event."""

    replicas: int
    reason: str = ""
    held: str = ""


def allow(desired: int, facts: Facts, min_replicas: int, reporting: int) -> Permit:
    """`reporting`: ready replicas that have joined the bus."""
    current = facts.scale.replicas
    desired = max(desired, min(current, min_replicas))
    if desired >= current:
        return Permit(desired)
    if facts.unseen:
        return Permit(current, "PodsUnseen", facts.unseen)
    if reporting < _LEAST_REPORTING * facts.counts.ready:
        line = f"{reporting} of {facts.counts.ready} ready pods report as replicas of this policy"
        return Permit(current, "PodsNotReporting", line)
    if facts.rollout:
        return Permit(current, "RolloutInProgress", f"rollout in progress: {facts.rollout}")
    allowed = allowed_down(
        current, desired, facts.counts.ready, facts.budgets, not_ready_first=facts.not_ready_first
    )
    if allowed.replicas > desired:
        line = f"PodDisruptionBudget {allowed.held_by} leaves {allowed.replicas} at least"
        return Permit(allowed.replicas, "DisruptionBudget", line)
    return Permit(desired)
