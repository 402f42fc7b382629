"""From a request's line to what it is about, in the terms of the verbs, of RBAC, and of kmock's log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import kmock
from aiohttp import web

from tests.kube_api.access import Attempt
from tests.kube_api.calls import Call
from tests.kube_api.kinds import Kind, Kinds
from tests.kube_api.selectors import exact_name

TRUE = {"1", "t", "true"}
_ACTIONS = {
    "get": kmock.action.FETCH,
    "list": kmock.action.LIST,
    "watch": kmock.action.WATCH,
    "create": kmock.action.CREATE,
    "update": kmock.action.UPDATE,
    "patch": kmock.action.UPDATE,
    "delete": kmock.action.DELETE,
}


@dataclass(frozen=True)
class Target:
    verb: str
    kind: Kind
    subresource: str | None
    namespace: str | None
    name: str | None


def target_of(raw: web.BaseRequest, kinds: Kinds) -> Target | Attempt | None:
    """None: not the path of a resource. An Attempt: of one that is not served; who would not be let in is not
    told."""
    parts = [unquote(part) for part in raw.rel_url.raw_path.strip("/").split("/")]
    if parts[0] == "api" and len(parts) > 2:
        (group, version), rest = ("", parts[1]), parts[2:]
    elif parts[0] == "apis" and len(parts) > 3:
        (group, version), rest = (parts[1], parts[2]), parts[3:]
    else:
        return None
    namespace = None
    if rest[0] == "namespaces" and len(rest) > 2 and rest[2] not in ("status", "finalize"):
        namespace, rest = rest[1], rest[2:]
    kind = kinds.find(group, version, rest[0])
    name = rest[1] if len(rest) > 1 else None
    subresource = "/".join(rest[2:]) or None
    watches = raw.query.get("watch", "").lower() in TRUE
    verbs = {
        "GET": "watch" if watches else "get" if name else "list",
        "POST": "create",
        "PUT": "update",
        "PATCH": "patch",
        "DELETE": "delete" if name else "deletecollection",
    }
    verb = verbs.get(raw.method, raw.method.lower())
    if kind is None or (namespace is not None and not kind.namespaced):
        return Attempt(verb, group, rest[0], subresource, namespace, name)
    return Target(verb, kind, subresource, namespace, name)


def attempt_of(call: Call) -> Attempt:
    name = call.name or exact_name(call.params.get("fieldSelector", ""))
    namespace = call.name if call.kind.plural == "namespaces" else call.namespace
    return Attempt(call.verb, call.kind.group, call.kind.plural, call.subresource, namespace, name)


def resource_name(plural: str, group: str, subresource: str | None) -> str:
    return (f"{plural}.{group}" if group else plural) + (f"/{subresource}" if subresource else "")


def noted(raw: web.BaseRequest, target: Target | None, body: Any, id_: int) -> kmock.Request:
    return kmock.Request(
        id=id_,
        method=raw.method,
        url=raw.url,
        params=dict(raw.query),
        headers=dict(raw.headers),
        data=body,
        action=_ACTIONS.get(target.verb) if target else None,
        resource=target.kind.resource if target else None,
        namespace=target.namespace if target else None,
        name=target.name if target else None,
        subresource=target.subresource if target else None,
    )
