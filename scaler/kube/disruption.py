"""How far a fleet may shrink beside its PodDisruptionBudgets. Pure.

A scale-down evicts nothing, so the API server does not hold it to a budget: the controller does by itself.
The law: after it, at least as many pods are ready as each budget that selects them asks for at the new size,
or none that was ready is gone: pods that find no node, or don't start, protect nobody. Which pods go is the
workload controller's choice. A ReplicaSet deletes those first that are not ready; of any other kind the worst
is assumed: that all that go were ready.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scaler.kube.pods import standing_of
from scaler.kube.selectors import matches

Object = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Budget:
    """What one budget asks for. `others_*`: pods that it selects besides the target's."""

    name: str
    min_available: int | str | None = None
    max_unavailable: int | str | None = None
    others_ready: int = 0
    others_expected: int = 0

    def least_ready(self, replicas: int) -> int:
        """Pods that must be ready when the target is to have `replicas`: percentages round up, as its
        controller rounds them."""
        expected = replicas + self.others_expected
        if self.max_unavailable is not None:
            return max(0, expected - _count(self.max_unavailable, expected))
        if self.min_available is not None:
            return _count(self.min_available, expected)
        return max(0, expected - 1)  # neither is set: maxUnavailable is 1


@dataclass(frozen=True, slots=True)
class Allowed:
    replicas: int
    held_by: str = ""  # the budget that allows no fewer


def allowed_down(
    current: int, desired: int, ready: int, budgets: Sequence[Budget], *, not_ready_first: bool
) -> Allowed:
    """The fewest replicas from `desired` up that every budget allows; `current` where none is."""
    if desired >= current:
        return Allowed(desired)
    held_by = ""
    for replicas in range(desired, current):
        left = min(ready, replicas) if not_ready_first else max(0, ready - (current - replicas))
        taken = [] if left == ready else budgets
        breaking = next((one for one in taken if left + one.others_ready < one.least_ready(replicas)), None)
        if breaking is None:
            return Allowed(replicas, held_by)
        held_by = held_by or breaking.name
    return Allowed(current, held_by)


def budgets_over(pods: Iterable[Object], found: Iterable[Object], current: int) -> tuple[Budget, ...]:
    """Of all budgets of the namespace, those that select a pod of the target's."""
    staying = [pod for pod in pods if standing_of(pod) not in {"", "terminating"}]
    every = ((pod.get("metadata") or {}).get("labels") or {} for pod in staying)
    labels = {frozenset(each.items()): each for each in every}  # thousands of pods are often labelled alike
    ready = sum(standing_of(pod) == "ready" for pod in staying)
    return tuple(
        _budget(one, ready, current)
        for one in found
        if any(matches((one.get("spec") or {}).get("selector"), each) for each in labels.values())
    )


def _budget(found: Object, ready: int, current: int) -> Budget:
    spec, status = found.get("spec") or {}, found.get("status") or {}
    metadata = found.get("metadata") or {}
    # What its controller has not counted yet says nothing of other pods: none are counted on then.
    counted = status.get("observedGeneration", 0) >= metadata.get("generation", 1)
    return Budget(
        name=str(metadata.get("name", "")),
        min_available=spec.get("minAvailable"),
        max_unavailable=spec.get("maxUnavailable"),
        others_ready=max(0, int(status.get("currentHealthy") or 0) - ready) if counted else 0,
        others_expected=max(0, int(status.get("expectedPods") or 0) - current) if counted else 0,
    )


def _count(amount: int | str, expected: int) -> int:
    text = str(amount)
    if text.endswith("%"):
        return math.ceil(int(text[:-1]) * expected / 100)
    return int(text)
