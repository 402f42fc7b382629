"""Watches: what changed, as far as the watch selects it, until its time is over or it is cut."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from aiohttp import web

from tests.kube_api import tables
from tests.kube_api.answers import Refusal
from tests.kube_api.calls import Call, fitting
from tests.kube_api.kinds import Kind
from tests.kube_api.registry import Registry
from tests.kube_api.store import Change, Object, Store
from tests.kube_api.targets import TRUE

Ending = Literal["gone", "closed", "torn"]


@dataclass(eq=False)
class OpenWatch:
    kind: Kind
    user: str
    wake: asyncio.Event
    ending: Ending | None = None


class Watches:
    """Those that are open."""

    def __init__(self, store: Store, registry: Registry) -> None:
        self._store = store
        self._registry = registry
        self.open: set[OpenWatch] = set()
        self.bookmark_every_s = 60.0

    async def serve(self, raw: web.BaseRequest, call: Call) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        response.enable_chunked_encoding()
        watch = OpenWatch(call.kind, call.user.name, asyncio.Event())
        self.open.add(watch)
        try:
            await response.prepare(raw)
            await self._stream(raw, response, call, watch)
            if watch.ending != "torn":
                await response.write_eof()
        except ConnectionError:
            pass  # the client has left
        finally:
            self.open.discard(watch)
        return response

    async def _stream(
        self, raw: web.BaseRequest, response: web.StreamResponse, call: Call, watch: OpenWatch
    ) -> None:
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + float(call.params.get("timeoutSeconds") or 3600)
        bookmarks = call.params.get("allowWatchBookmarks", "").lower() in TRUE
        bookmark_at = loop.time() + self.bookmark_every_s
        seen = _Seen(self._registry, call)
        listing = call.params.get("sendInitialEvents", "").lower() in TRUE
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
            abort(raw)

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


def abort(raw: web.BaseRequest) -> None:
    if raw.transport is not None:
        raw.transport.abort()  # type: ignore[attr-defined]
