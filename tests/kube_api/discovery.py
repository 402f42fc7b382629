"""What the server says of itself: its version, groups, resources, and which query parameters it takes.

Discovery is the older, unaggregated one, which every client falls back to. The OpenAPI v3 documents say that
`fieldValidation` is understood, which is what kubectl looks for before it lets the server validate, and have
the schemas of custom kinds.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.kube_api.kinds import Kind, Kinds

_VERSION = {
    "major": "1",
    "minor": "36",
    "gitVersion": "v1.36.0",
    "gitCommit": "stand-in",
    "gitTreeState": "clean",
    "buildDate": "1970-01-01T00:00:00Z",
    "goVersion": "go1.26",
    "compiler": "gc",
    "platform": "linux/amd64",
}


def described(path: str, kinds: Kinds) -> dict[str, Any] | str | None:
    """None: no such path."""
    parts = path.strip("/").split("/")
    match parts:
        case ["healthz" | "livez" | "readyz", *_]:
            return "ok"
        case ["version"]:
            return _VERSION
        case ["api"]:
            return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}
        case ["api", version]:
            return _resources("", version, kinds)
        case ["apis"]:
            groups = [_group(name, versions) for name, versions in kinds.groups().items()]
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
        case ["apis", group]:
            versions = kinds.groups().get(group)
            return (
                None
                if versions is None
                else {"kind": "APIGroup", "apiVersion": "v1", **_group(group, versions)}
            )
        case ["apis", group, version]:
            return _resources(group, version, kinds)
        case ["openapi", "v3"]:
            return {
                "paths": {where: {"serverRelativeURL": f"/openapi/v3/{where}"} for where in _documents(kinds)}
            }
        case ["openapi", "v3", *where]:
            return _document("/".join(where), kinds)
    return None


def _group(name: str, versions: list[str]) -> dict[str, Any]:
    listed = [{"groupVersion": f"{name}/{version}", "version": version} for version in versions]
    return {"name": name, "versions": listed, "preferredVersion": listed[0]}


def _resources(group: str, version: str, kinds: Kinds) -> dict[str, Any] | None:
    entries = kinds.described(group, version)
    if not entries:
        return None
    group_version = f"{group}/{version}" if group else version
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": group_version,
        "resources": entries,
    }


def _where(kind: Kind) -> str:
    return f"apis/{kind.group}/{kind.version}" if kind.group else f"api/{kind.version}"


def _documents(kinds: Kinds) -> list[str]:
    return sorted({_where(kind) for kind in kinds})


def _document(where: str, kinds: Kinds) -> dict[str, Any] | None:
    paths: dict[str, Any] = {}
    for kind in kinds:
        if _where(kind) != where:
            continue
        scope = "/namespaces/{namespace}" if kind.namespaced else ""
        operation = {
            "x-kubernetes-group-version-kind": {
                "group": kind.group,
                "version": kind.version,
                "kind": kind.kind,
            },
            "parameters": [
                {"name": name, "in": "query", "schema": {"type": "string", "uniqueItems": True}}
                for name in ("dryRun", "fieldManager", "fieldValidation")
            ],
            "responses": {"200": {"description": "OK"}},
        }
        paths[f"/{where}{scope}/{kind.plural}/{{name}}"] = dict.fromkeys(
            ("get", "put", "patch", "delete"), operation
        )
        paths[f"/{where}{scope}/{kind.plural}"] = dict.fromkeys(("get", "post"), operation)
    if not paths:
        return None
    return {
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": "v1.36.0"},
        "paths": paths,
        "components": {"schemas": dict(_schemas(where, kinds))},
    }


def _schemas(where: str, kinds: Kinds) -> Iterator[tuple[str, dict[str, Any]]]:
    """Of custom kinds: `kubectl explain` reads them."""
    for kind in kinds:
        if kind.schema is None or _where(kind) != where:
            continue
        named = {"group": kind.group, "version": kind.version, "kind": kind.kind}
        name = ".".join([*reversed(kind.group.split(".")), kind.version, kind.kind])
        yield name, {**kind.schema, "x-kubernetes-group-version-kind": [named]}
