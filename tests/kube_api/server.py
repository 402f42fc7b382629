"""HTTP: from bytes to a verb on a resource and back, watches, and the faults on the way.

Stands on kmock: its handler keeps the log of requests with their query language (`kmock['patch', resource]`)
and serves whatever else a test scripts. What kmock's own emulator answers on resources is replaced whole,
since it knows no resourceVersions, PUT, subresources or selectors.
"""

from __future__ import annotations

import asyncio
import json
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import unquote

import kmock
from aiohttp import web

from tests.kube_api import tables
from tests.kube_api.access import ADMIN, Access, Attempt, User
from tests.kube_api.answers import Refusal, no_such_path
from tests.kube_api.calls import Answer, Call, fitting, parsed_body
from tests.kube_api.discovery import described
from tests.kube_api.faults import Asked, Fault, Faults, refusal
from tests.kube_api.kinds import Kind, Kinds
from tests.kube_api.registry import Registry
from tests.kube_api.selectors import exact_name
from tests.kube_api.store import Change, Object, Store
from tests.kube_api.workloads import concerns

Ending = Literal["gone", "closed", "torn"]

_TRUE = {"1", "t", "true"}
_ACTIONS = {
    "get": kmock.action.FETCH,
    "list": kmock.action.LIST,
    "watch": kmock.action.WATCH,
    "create": kmock.action.CREATE,
    "update": kmock.action.UPDATE,
    "patch": kmock.action.UPDATE,
    "delete": kmock.action.DELETE,
}
WRITES = ("create", "update", "patch", "delete", "deletecollection")


@dataclass(frozen=True)
class Served:
    """One line of the request log, in the order in which writes took effect."""

    at_s: float
    user: str
    verb: str
    resource: str
    """`deployments.apps/scale`"""
    namespace: str | None
    name: str | None
    params: dict[str, str]
    body: Any
    code: int
    """0: the answer was lost on purpose."""
    answer: Any = field(repr=False, default=None)

    @property
    def wrote(self) -> bool:
        return self.verb in WRITES and 200 <= self.code < 300 and self.params.get("dryRun") != "All"

    @property
    def version_given(self) -> str | None:
        """The resourceVersion that the write demanded."""
        body = self.body if isinstance(self.body, dict) else {}
        found = body.get("metadata", {}).get("resourceVersion")
        return found or (body.get("preconditions") or {}).get("resourceVersion")


@dataclass(eq=False)
class OpenWatch:
    kind: Kind
    user: str
    wake: asyncio.Event
    ending: Ending | None = None


class Handler(kmock.KubernetesScaffold):
    """Answers one request at a time to each connection, many connections at once."""

    def __init__(self, store: Store, kinds: Kinds, access: Access, settle: Callable[[], None]) -> None:
        super().__init__()
        self._store = store
        self._kinds = kinds
        self._access = access
        self._settle = settle
        self.registry = Registry(store, kinds, access)
        self.faults = Faults()
        self.log: list[Served] = []
        self.watches: set[OpenWatch] = set()
        self.connections: weakref.WeakSet[asyncio.Transport] = weakref.WeakSet()
        self.broken: list[Exception] = []
        """Mistakes of the stand-in."""
        self.bookmark_every_s = 60.0

    async def __call__(self, raw: web.BaseRequest) -> web.StreamResponse:
        if raw.transport is not None:
            self.connections.add(raw.transport)
        await raw.read()
        try:
            return await self._serve(raw)
        except Refusal as refused:
            return _refused(refused)
        except ConnectionError:
            raise  # on purpose, or the client has left
        except Exception as broken:
            self.broken.append(broken)
            raise

    async def _serve(self, raw: web.BaseRequest) -> web.StreamResponse:
        target = _target(raw, self._kinds)
        user = self._access.user(raw.headers.get("Authorization"))
        if isinstance(target, Attempt):
            self._access.check(user, target)
            raise no_such_path()
        content_type = raw.headers.get("Content-Type", "").partition(";")[0]
        body = parsed_body(await raw.read(), content_type)
        self._requests.append(_noted(raw, target, body, len(self._requests)))
        if target is None:
            self._access.check_path(user, raw.method.lower(), raw.path)
            return await self._serve_other(raw)
        asked = Asked(
            target.verb,
            target.kind.plural,
            target.kind.group,
            target.subresource,
            target.namespace,
            target.name,
            user.name,
        )
        faults = {fault.happening: fault for fault in self.faults.take(asked)}
        await self._suffer(raw, faults, asked, body)
        manager = raw.query.get("fieldManager") or raw.headers.get("User-Agent", "").partition("/")[0]
        call = Call(
            target.verb,
            target.kind,
            target.subresource,
            target.namespace,
            target.name,
            dict(raw.query),
            body,
            content_type,
            user,
            manager,
        )
        if call.verb == "watch":
            self._permit(call, body)
            return await self._watch(raw, call)
        answer = self._carried_out(call)
        if "drop" in faults:
            _abort(raw)
        return self._answered(raw, call, answer)

    async def _suffer(self, raw: web.BaseRequest, faults: dict[str, Fault], asked: Asked, body: Any) -> None:
        if "hold" in faults:
            held = faults["hold"].held
            held.arrived.set()
            while not held.go.is_set():  # noqa: ASYNC110 - set on another thread
                await asyncio.sleep(0.01)
        if "delay" in faults:
            await asyncio.sleep(faults["delay"].delay_s)
        if "drop" in faults and not faults["drop"].after:
            self._note(asked, raw, body, 0)
            _abort(raw)
        if "answer" in faults:
            refused = refusal(faults["answer"], asked)
            self._note(asked, raw, body, refused.code)
            raise refused

    def _carried_out(self, call: Call) -> Answer:
        """Under the lock, so that the log has the writes in the order in which they took effect."""
        with self._store.lock:
            try:
                self._access.check(call.user, _attempt(call))
                answer = self.registry.answer(call)
            except Refusal as refused:
                self._log(call, refused.code, refused.status())
                raise
            self._log(call, answer.code, answer.body)
            if call.verb in WRITES and concerns(call.kind):
                self._settle()
            return answer

    def _permit(self, call: Call, body: Any) -> None:
        with self._store.lock:
            try:
                self._access.check(call.user, _attempt(call))
            except Refusal as refused:
                self._log(call, refused.code, refused.status())
                raise
            self._log(call, 200, None)

    def _log(self, call: Call, code: int, answer: Any) -> None:
        resource = _resource(call.kind.plural, call.kind.group, call.subresource)
        self.log.append(
            Served(
                self._store.now_s(),
                call.user.name,
                call.verb,
                resource,
                call.namespace,
                call.name,
                dict(call.params),
                call.body,
                code,
                answer,
            )
        )

    def _note(self, asked: Asked, raw: web.BaseRequest, body: Any, code: int) -> None:
        resource = _resource(asked.plural, asked.group, asked.subresource)
        self.log.append(
            Served(
                self._store.now_s(),
                asked.user,
                asked.verb,
                resource,
                asked.namespace,
                asked.name,
                dict(raw.query),
                body,
                code,
            )
        )

    async def _serve_other(self, raw: web.BaseRequest) -> web.StreamResponse:
        found = described(raw.path, self._kinds) if raw.method == "GET" else None
        if isinstance(found, str):
            return web.Response(text=found)
        if found is not None:
            return web.json_response(found)
        if any(True for _ in self._payloads if _scripted(_)):
            return await self._handle(list(self._requests)[-1])
        raise no_such_path()

    def _answered(self, raw: web.BaseRequest, call: Call, answer: Answer) -> web.Response:
        body = answer.body
        if (
            tables.wanted(raw.headers.get("Accept", ""))
            and call.verb in ("get", "list")
            and not call.subresource
        ):
            items = body["items"] if call.verb == "list" else [body]
            meta = body["metadata"]
            body = tables.table(call.kind, items, meta.get("resourceVersion", ""), self._store.now_s())
        response = web.json_response(body, status=answer.code, headers={"Cache-Control": "no-cache, private"})
        for warning in answer.warnings:
            said = warning.replace('"', '\\"')
            response.headers.add("Warning", f'299 - "{said}"')
        return response

    # Watches

    async def _watch(self, raw: web.BaseRequest, call: Call) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        response.enable_chunked_encoding()
        watch = OpenWatch(call.kind, call.user.name, asyncio.Event())
        self.watches.add(watch)
        try:
            await response.prepare(raw)
            await self._stream(raw, response, call, watch)
            if watch.ending != "torn":
                await response.write_eof()
        except ConnectionError:
            pass  # the client has left
        finally:
            self.watches.discard(watch)
        return response

    async def _stream(
        self, raw: web.BaseRequest, response: web.StreamResponse, call: Call, watch: OpenWatch
    ) -> None:
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + float(call.params.get("timeoutSeconds") or 3600)
        bookmarks = call.params.get("allowWatchBookmarks", "").lower() in _TRUE
        bookmark_at = loop.time() + self.bookmark_every_s
        seen = _Seen(self.registry, call)
        listing = call.params.get("sendInitialEvents", "").lower() in _TRUE
        version = "0" if listing else call.params.get("resourceVersion") or "0"
        try:
            with self._store.lock:
                first: Sequence[Object] = seen.present() if version == "0" else ()
                cursor = self._store.version if version == "0" else int(version)
                self._store.changes_since(cursor)
            await self._write(response, call, raw, [("ADDED", item) for item in first])
            if listing:
                await self._write(response, call, raw, [("BOOKMARK", _bookmark(call.kind, cursor, end=True))])
            while True:
                watch.wake.clear()
                with self._store.lock:
                    changes = self._store.changes_since(cursor)
                    cursor = changes[-1].version if changes else cursor
                await self._write(
                    response, call, raw, [each for change in changes for each in seen.of(change)]
                )
                if watch.ending is not None:
                    break
                if bookmarks and loop.time() >= bookmark_at:
                    bookmark_at = loop.time() + self.bookmark_every_s
                    await self._write(response, call, raw, [("BOOKMARK", _bookmark(call.kind, cursor))])
                left_s = min(ends_at, bookmark_at if bookmarks else ends_at) - loop.time()
                if loop.time() >= ends_at:
                    return
                try:
                    await asyncio.wait_for(watch.wake.wait(), max(0.0, left_s))
                except TimeoutError:
                    continue
        except Refusal as refused:
            await self._write(response, call, raw, [("ERROR", refused.status())])
            return
        if watch.ending == "gone":
            gone = Refusal(410, "Expired", f"too old resource version: {cursor} ({cursor + 1})")
            await self._write(response, call, raw, [("ERROR", gone.status())])
        elif watch.ending == "torn":
            await response.write(b'{"type":"MODIFIED","object":{"kind":"')
            _abort_quietly(raw)

    async def _write(
        self,
        response: web.StreamResponse,
        call: Call,
        raw: web.BaseRequest,
        events: Sequence[tuple[str, Object]],
    ) -> None:
        for type_, item in events:
            shown = item
            if tables.wanted(raw.headers.get("Accept", "")) and type_ != "ERROR":
                shown = tables.table(
                    call.kind, [item], item["metadata"].get("resourceVersion", ""), self._store.now_s()
                )
            await response.write(json.dumps({"type": type_, "object": shown}).encode() + b"\n")


class _Seen:
    """What one watch makes of the changes: only those that it selects, as additions and deletions to it."""

    def __init__(self, registry: Registry, call: Call) -> None:
        self._registry = registry
        self._call = call
        self._kind = registry.stored_as(call.kind)
        self._fits = fitting(call.params)

    def present(self) -> list[Object]:
        items = self._registry.matching(self._call.kind, self._call.namespace, self._call.params)
        return [item for item in items if self._call.name in (None, item["metadata"]["name"])]

    def of(self, change: Change) -> list[tuple[str, Object]]:
        meta = change.object["metadata"]
        if change.kind.resource != self._kind.resource or (
            self._call.namespace not in (None, meta.get("namespace"))
            or self._call.name not in (None, meta["name"])
        ):
            return []
        item = self._registry.seen(self._call.kind, change.object)
        now = change.type != "DELETED" and self._fits(item)
        before = change.before is not None and self._fits(self._registry.seen(self._call.kind, change.before))
        if now:
            return [("MODIFIED" if before else "ADDED", item)]
        return [("DELETED", item)] if before else []


def _bookmark(kind: Kind, version: int, *, end: bool = False) -> Object:
    """`end`: of the objects that were there when the watch began, which stand for a list."""
    meta: Object = {"resourceVersion": str(version), "creationTimestamp": None}
    if end:
        meta["annotations"] = {"k8s.io/initial-events-end": "true"}
    return {"kind": kind.kind, "apiVersion": kind.api_version, "metadata": meta}


# From a request's line to what it is about


@dataclass(frozen=True)
class Target:
    verb: str
    kind: Kind
    subresource: str | None
    namespace: str | None
    name: str | None


def _target(raw: web.BaseRequest, kinds: Kinds) -> Target | Attempt | None:
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
    watches = raw.query.get("watch", "").lower() in _TRUE
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


def _attempt(call: Call) -> Attempt:
    name = call.name or exact_name(call.params.get("fieldSelector", ""))
    namespace = call.name if call.kind.plural == "namespaces" else call.namespace
    return Attempt(call.verb, call.kind.group, call.kind.plural, call.subresource, namespace, name)


def _resource(plural: str, group: str, subresource: str | None) -> str:
    return (f"{plural}.{group}" if group else plural) + (f"/{subresource}" if subresource else "")


def _noted(raw: web.BaseRequest, target: Target | None, body: Any, id_: int) -> kmock.Request:
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


def _scripted(payload: Any) -> bool:
    """Whether a test put it there, and not kmock itself."""
    return float("-inf") not in payload.priorities


# Answers


def _refused(refused: Refusal) -> web.Response:
    if not refused.reason:
        return web.Response(status=refused.code, text=refused.message + "\n", headers=dict(refused.headers))
    return web.json_response(refused.status(), status=refused.code, headers=dict(refused.headers))


def _abort_quietly(raw: web.BaseRequest) -> None:
    if raw.transport is not None:
        raw.transport.abort()  # type: ignore[attr-defined]


def _abort(raw: web.BaseRequest) -> None:
    _abort_quietly(raw)
    raise ConnectionResetError("dropped on purpose")


__all__ = ["ADMIN", "WRITES", "Ending", "Handler", "OpenWatch", "Served", "User"]
