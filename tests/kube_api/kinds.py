"""Which kinds the server knows, and what discovery says of them.

Built-in kinds are those that kmock ships: the discovery documents of a real cluster. Custom kinds come and
go with their CustomResourceDefinition.
"""

from __future__ import annotations

import gzip
import importlib.resources
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import kmock

# Not of the API server itself: served on that cluster by others.
_OTHERS = {"gateway.networking.k8s.io", "metrics.k8s.io"}

# What discovery says of a subresource's own kind, which kmock's documents leave out.
_OWN_KINDS = {
    "Scale": {"group": "autoscaling", "version": "v1"},
    "TokenRequest": {"group": "authentication.k8s.io", "version": "v1"},
    "Eviction": {"group": "policy", "version": "v1"},
}

# Their `metadata.generation` counts changes of the spec; other kinds have none.
_COUNTED = {
    ("apps", "deployments"),
    ("apps", "statefulsets"),
    ("apps", "replicasets"),
    ("apps", "daemonsets"),
    ("batch", "jobs"),
    ("policy", "poddisruptionbudgets"),
    ("networking.k8s.io", "networkpolicies"),
    ("networking.k8s.io", "ingresses"),
    ("apiextensions.k8s.io", "customresourcedefinitions"),
    ("", "pods"),
}


@dataclass(frozen=True)
class Kind:
    """One resource of one version. `subresources` by name, as discovery describes them."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool
    described: Mapping[str, Any]
    subresources: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    crd: Mapping[str, Any] | None = None
    """Of a custom kind: the entry of `spec.versions`."""

    @cached_property
    def resource(self) -> kmock.resource:
        return kmock.resource(self.group, self.version, self.plural)

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def list_kind(self) -> str:
        return self.kind + "List"

    @property
    def counts_generations(self) -> bool:
        return self.crd is not None or (self.group, self.plural) in _COUNTED

    @property
    def has_status(self) -> bool:
        return "status" in self.subresources

    @property
    def schema(self) -> Mapping[str, Any] | None:
        if self.crd is None:
            return None
        found: Mapping[str, Any] = self.crd.get("schema", {}).get("openAPIV3Schema", {})
        return found


def _kinds_of(document: Mapping[str, Any]) -> Iterator[Kind]:
    group, _, version = document["groupVersion"].rpartition("/")
    entries = document["resources"]
    for entry in entries:
        if "/" in entry["name"]:
            continue
        subresources = {
            other["name"].partition("/")[2]: other | _OWN_KINDS.get(other["kind"], {})
            for other in entries
            if other["name"].startswith(entry["name"] + "/")
        }
        yield Kind(group, version, entry["name"], entry["kind"], entry["namespaced"], entry, subresources)


class Kinds:
    """All kinds served now."""

    def __init__(self) -> None:
        packed = (importlib.resources.files("kmock") / "_internal" / "resources.json.gz").read_bytes()
        documents = json.loads(gzip.decompress(packed))
        self._built_in = [
            kind
            for document in documents
            if document["groupVersion"].partition("/")[0] not in _OTHERS
            for kind in _kinds_of(document)
        ]
        self._custom: dict[str, list[Kind]] = {}
        self._found: dict[tuple[str, str, str], Kind | None] = {}

    def __iter__(self) -> Iterator[Kind]:
        yield from self._built_in
        for kinds in self._custom.values():
            yield from kinds

    def find(self, group: str, version: str, plural: str) -> Kind | None:
        wanted = (group, version, plural)
        if wanted not in self._found:
            kinds = {(kind.group, kind.version, kind.plural): kind for kind in reversed(list(self))}
            self._found = kinds | {wanted: kinds.get(wanted)}
        return self._found[wanted]

    def of(self, api_version: str, kind: str) -> Kind | None:
        return next((each for each in self if (each.api_version, each.kind) == (api_version, kind)), None)

    def define(self, crd: Mapping[str, Any]) -> None:
        """Serves what a CustomResourceDefinition describes, from now on."""
        self._custom[crd["metadata"]["name"]] = list(custom_kinds(crd))
        self._found.clear()

    def undefine(self, crd_name: str) -> None:
        self._custom.pop(crd_name, None)
        self._found.clear()

    def groups(self) -> dict[str, list[str]]:
        """Versions of each group but the core one, in order of preference."""
        found: dict[str, list[str]] = {}
        for kind in self:
            if kind.group and kind.version not in found.setdefault(kind.group, []):
                found[kind.group].append(kind.version)
        return found

    def described(self, group: str, version: str) -> list[Mapping[str, Any]]:
        """The entries of an APIResourceList."""
        kinds = [kind for kind in self if (kind.group, kind.version) == (group, version)]
        return [entry for kind in kinds for entry in (kind.described, *kind.subresources.values())]


def custom_kinds(crd: Mapping[str, Any]) -> Iterable[Kind]:
    spec = crd["spec"]
    names = spec["names"]
    namespaced = spec["scope"] == "Namespaced"
    for version in spec["versions"]:
        if not version.get("served", True):
            continue
        described: dict[str, Any] = {
            "name": names["plural"],
            "singularName": names.get("singular", names["kind"].lower()),
            "namespaced": namespaced,
            "kind": names["kind"],
            "verbs": ["delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"],
        }
        for key in ("shortNames", "categories"):
            if names.get(key):
                described[key] = names[key]
        subresources: dict[str, dict[str, Any]] = {}
        for name in version.get("subresources", {}):
            subresources[name] = {
                "name": f"{names['plural']}/{name}",
                "singularName": "",
                "namespaced": namespaced,
                "kind": names["kind"],
                "verbs": ["get", "patch", "update"],
            }
        if "scale" in subresources:
            subresources["scale"] |= {"kind": "Scale", **_OWN_KINDS["Scale"]}
        yield Kind(
            spec["group"],
            version["name"],
            names["plural"],
            names["kind"],
            namespaced,
            described,
            subresources,
            version,
        )
