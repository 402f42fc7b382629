"""HTTP: from bytes to a verb on a resource and back, watches, and the faults on the way.

Stands on kmock: its handler keeps the log of requests with their query language (`kmock['patch', resource]`)
and serves whatever else a test scripts. What kmock's own emulator answers on resources is replaced whole,
since it knows no resourceVersions, PUT, subresources or selectors.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from typing import Any

import kmock
from aiohttp import web

from tests.kube_api import tables
from tests.kube_api.access import Access, Attempt
from tests.kube_api.answers import Refusal, no_such_path
from tests.kube_api.calls import Answer, Call, parsed_body
from tests.kube_api.discovery import described
from tests.kube_api.faults import Asked, Fault, Faults, refusal
from tests.kube_api.kinds import Kinds
from tests.kube_api.registry import Registry
from tests.kube_api.request_log import WRITES, Served
from tests.kube_api.store import Store
from tests.kube_api.targets import attempt_of, noted, resource_name, target_of
from tests.kube_api.watches import Watches, abort
from tests.kube_api.workloads import concerns


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
        self.watches = Watches(store, self.registry)
        self.connections: weakref.WeakSet[asyncio.Transport] = weakref.WeakSet()
        self.broken: list[Exception] = []
        """Mistakes of the stand-in."""

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
        target = target_of(raw, self._kinds)
        user = self._access.user(raw.headers.get("Authorization"))
        if isinstance(target, Attempt):
            self._access.check(user, target)
            raise no_such_path()
        content_type = raw.headers.get("Content-Type", "").partition(";")[0]
        body = parsed_body(await raw.read(), content_type)
        self._requests.append(noted(raw, target, body, len(self._requests)))
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
            return await self.watches.serve(raw, call)
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
                self._access.check(call.user, attempt_of(call))
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
                self._access.check(call.user, attempt_of(call))
            except Refusal as refused:
                self._log(call, refused.code, refused.status())
                raise
            self._log(call, 200, None)

    def _log(self, call: Call, code: int, answer: Any) -> None:
        resource = resource_name(call.kind.plural, call.kind.group, call.subresource)
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
        resource = resource_name(asked.plural, asked.group, asked.subresource)
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


def _scripted(payload: Any) -> bool:
    """Whether a test put it there, and not kmock itself."""
    return float("-inf") not in payload.priorities


# Answers


def _refused(refused: Refusal) -> web.Response:
    if not refused.reason:
        return web.Response(status=refused.code, text=refused.message + "\n", headers=dict(refused.headers))
    return web.json_response(refused.status(), status=refused.code, headers=dict(refused.headers))


def _abort(raw: web.BaseRequest) -> None:
    abort(raw)
    raise ConnectionResetError("dropped on purpose")
