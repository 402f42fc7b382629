"""What a policy scales: any kind with a `scale` subresource, found through discovery.

Owns the way from `apiVersion` and `kind` to a resource, and what a Scale says. Values and pure functions, and
one class that asks the server. Called by `sight` and `fleet`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from scaler.kube.errors import NotFoundError
from scaler.kube.permissions import Resource
from scaler.kube.rivals import TargetKey

Object = Mapping[str, Any]

_KNOWN_FOR_S = 600.0  # a kind may be taken away, or get a scale, while the controller runs


@dataclass(frozen=True, slots=True)
class TargetKind:
    resource: Resource
    scale: Resource
    kind: str

    @property
    def deletes_not_ready_first(self) -> bool:
        """A ReplicaSet's way. Of others nothing is known, or, of a StatefulSet, that it goes by number."""
        return self.resource.group == "apps" and self.kind in {"Deployment", "ReplicaSet"}


@dataclass(frozen=True, slots=True)
class Scale:
    """Of autoscaling/v1. `replicas` are those asked for; `version` is the whole target's."""

    replicas: int
    version: str
    uid: str
    selector: str  # of its pods, as a list's query has it; empty: the kind says none


class UnscalableError(Exception):
    """There is no such thing to scale. `reason` in CamelCase, `str(error)` a line."""

    def __init__(self, reason: str, line: str) -> None:
        super().__init__(line)
        self.reason = reason


def target_kind(found: Object, group: str, version: str, kind: str) -> TargetKind:
    """From a group's APIResourceList. Raises UnscalableError."""
    named = f"spec.targetRef: {kind} of {group + '/' if group else ''}{version}"
    resources = found.get("resources") or ()
    main = next(
        (one for one in resources if one.get("kind") == kind and "/" not in str(one.get("name"))), None
    )
    if main is None:
        kinds = sorted({str(one.get("kind")) for one in resources if "/" not in str(one.get("name"))})
        raise UnscalableError(
            "TargetKindUnknown", f"{named}: no such kind; there are {', '.join(kinds) or 'none'}"
        )
    plural = str(main["name"])
    if not main.get("namespaced"):
        raise UnscalableError("TargetNotScalable", f"{named}: is not in a namespace")
    if not any(one.get("name") == f"{plural}/scale" for one in resources):
        raise UnscalableError("TargetNotScalable", f"{named}: has no scale subresource")
    return TargetKind(Resource(group, version, plural), Resource(group, version, f"{plural}/scale"), kind)


def scale_of(found: Object) -> Scale:
    """A count that is 0 is left out by the server."""
    metadata, spec, status = (found.get(part) or {} for part in ("metadata", "spec", "status"))
    return Scale(
        replicas=int(spec.get("replicas") or 0),
        version=str(metadata.get("resourceVersion", "")),
        uid=str(metadata.get("uid", "")),
        selector=str(status.get("selector") or ""),
    )


def scale_to_write(target: TargetKey, scale: Scale, replicas: int) -> Object:
    """With version and uid as preconditions: another's change, or another target of that name, conflicts."""
    return {
        "apiVersion": "autoscaling/v1",
        "kind": "Scale",
        "metadata": {
            "name": target.name,
            "namespace": target.namespace,
            "uid": scale.uid,
            "resourceVersion": scale.version,
        },
        "spec": {"replicas": replicas},
    }


class Discovery(Protocol):
    """`KubeApi`."""

    async def discover(self, group: str, version: str) -> Object: ...


class Kinds:
    """Asked once for all policies that name the same kind, and again after a while."""

    def __init__(self, discovery: Discovery, clock: Callable[[], float]) -> None:
        self._discovery = discovery
        self._clock = clock
        self._known: dict[tuple[str, str], tuple[TargetKind, float]] = {}

    async def find(self, api_version: str, kind: str) -> TargetKind:
        """Raises UnscalableError, or ApiError where the server can't be asked."""
        known = self._known.get((api_version, kind))
        if known is not None and self._clock() < known[1]:
            return known[0]
        group, _, version = api_version.rpartition("/")
        try:
            found = await self._discovery.discover(group, version)
        except NotFoundError:
            line = f"spec.targetRef.apiVersion = {api_version!r}: the API server has no such API"
            raise UnscalableError("TargetKindUnknown", line) from None
        result = target_kind(found, group, version, kind)
        self._known[api_version, kind] = result, self._clock() + _KNOWN_FOR_S
        return result
