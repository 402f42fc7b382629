"""Who else scales a target: an HPA, KEDA, or another policy. Pure.

Two that write the same number undo one another's work for ever, so the controller steps back: it says who,
and writes no replicas until the other is gone. Between two policies the older one stays.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from scaler.kube.store import Key, key_of

Object = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class TargetKey:
    """One workload, whatever version of its API it is named by."""

    namespace: str
    group: str
    kind: str
    name: str

    @classmethod
    def of(cls, namespace: str, api_version: str, kind: str, name: str) -> TargetKey:
        return cls(namespace, api_version.rpartition("/")[0], kind, name)

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


def autoscaler_on(target: TargetKey, scaled_objects: Iterable[Object], autoscalers: Iterable[Object]) -> str:
    """`HorizontalPodAutoscaler NAME` or `ScaledObject NAME`; empty: nobody. KEDA works through an HPA of its
    own making: who made it is named."""
    for kind, found in (("ScaledObject", scaled_objects), ("HorizontalPodAutoscaler", autoscalers)):
        for one in found:
            namespace, name = key_of(one)
            aims = (one.get("spec") or {}).get("scaleTargetRef") or {}
            aimed = TargetKey.of(
                namespace,
                str(aims.get("apiVersion") or "apps/v1"),
                str(aims.get("kind") or "Deployment"),
                str(aims.get("name") or ""),
            )
            if aimed == target:
                return f"{kind} {name}"
    return ""


@dataclass(frozen=True, slots=True)
class Claim:
    policy: Key
    created: str  # RFC 3339 in UTC: sorts as text
    target: TargetKey


def refused_claims(claims: Iterable[Claim]) -> Mapping[Key, Key]:
    """Of each policy that may not have its target, the one that has it: the oldest, by name among equals."""
    holders: dict[TargetKey, Key] = {}
    refused: dict[Key, Key] = {}
    for claim in sorted(claims, key=lambda one: (one.created, one.policy)):
        holder = holders.setdefault(claim.target, claim.policy)
        if holder != claim.policy:
            refused[claim.policy] = holder
    return refused
