"""The one way to the API server: the `kubernetes` client's asyncio ApiClient, plain dicts in and out.

Owns the connection, a time limit on every call, the errors' types, and the fence: a copy made by `fenced`
asks immediately before each write whether this process may still act. Nothing is retried here: who calls
knows whether the same again is right. (aiohttp sends a GET or a PUT once more where a connection that was
kept turns out to be closed, within the same limit; a PUT that was done is a conflict then.) The client's own
asyncio half is used and not its threads: a watch is a connection that waits for minutes, and a task can be
cancelled where a thread can't.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from minwatt.v1.errors import UsageError
from scaler.kube.connection import NEEDS, configuration, unusable
from scaler.kube.errors import ApiError, DeposedError, UnavailableError, from_answer, from_event
from scaler.kube.permissions import Resource, check

try:
    import aiohttp
    from kubernetes.aio.client import ApiClient
except ImportError as error:
    raise UsageError(NEEDS) from error

Object = Mapping[str, Any]

_CALL_LIMIT_S = 10.0
# Less than the time between a leader's own deadline and the earliest that another may lead (`lease`): a write
# that was let through is answered or given up before.
_WRITE_LIMIT_S = 4.0
_GET_LIMIT_S = 5.0
_PAGE = 500
_USER_AGENT = "minwatt-scaler"
_METHODS = {
    "get": "GET",
    "list": "GET",
    "watch": "GET",
    "create": "POST",
    "update": "PUT",
    "patch": "PATCH",
}


@dataclass(frozen=True, slots=True)
class Selection:
    """What a list or a watch is of; `namespace` empty: all. `target`: a kind that a policy names."""

    resource: Resource
    namespace: str = ""
    labels: str = ""
    fields: str = ""
    target: bool = False

    @property
    def query(self) -> dict[str, str]:
        asked = {"labelSelector": self.labels, "fieldSelector": self.fields}
        return {name: value for name, value in asked.items() if value}


@dataclass(frozen=True, slots=True)
class Listed:
    items: tuple[Object, ...]
    version: str  # of the whole list: where a watch goes on


@dataclass(frozen=True, slots=True)
class _Call:
    """`content`: the body's type."""

    verb: str
    where: str
    query: Mapping[str, str] | None = None
    body: Object | None = None
    content: str = ""


class KubeApi:
    """Made by `connect`; everything runs on the event loop it was made on."""

    def __init__(
        self,
        client: Any,
        failed: Callable[[str, ApiError], None],
        may_write: Callable[[], None] | None = None,
    ) -> None:
        self._client = client
        self._failed = failed
        self._may_write = may_write

    @classmethod
    async def connect(
        cls,
        kubeconfig: Path | None = None,
        context: str = "",
        failed: Callable[[str, ApiError], None] = lambda _verb, _error: None,
    ) -> KubeApi:
        """By the pod's service account where there is one and no file is named. `failed` is told of each
        request that was refused or not answered. Raises UsageError."""
        settings = await configuration(kubeconfig, context)
        try:
            client = ApiClient(configuration=settings)
        except (OSError, ValueError) as error:  # ssl.SSLError: of what should be certificates or a key
            raise unusable(kubeconfig, error) from error
        client.user_agent = _USER_AGENT
        return cls(client, failed)

    def fenced(self, may_write: Callable[[], None]) -> KubeApi:
        """The same connection; `may_write` is called immediately before each write, and raises to stop it."""
        return KubeApi(self._client, self._failed, may_write)

    async def close(self) -> None:
        await self._client.rest_client.close()

    async def get(self, resource: Resource, namespace: str, name: str, *, target: bool = False) -> Object:
        check("get", resource, target=target)
        return await self._answer(_Call("get", path(resource, namespace, name)), _GET_LIMIT_S)

    async def list_all(self, selection: Selection) -> Listed:
        """Page by page. Raises GoneError when the pages took too long: list anew."""
        check("list", selection.resource, target=selection.target)
        where = path(selection.resource, selection.namespace)
        query = {**selection.query, "limit": str(_PAGE)}
        items: list[Object] = []
        while True:
            page = await self._answer(_Call("list", where, query))
            items += page.get("items") or ()
            metadata = page.get("metadata") or {}
            if not metadata.get("continue"):
                return Listed(tuple(items), str(metadata.get("resourceVersion", "")))
            query["continue"] = metadata["continue"]

    async def watch(self, selection: Selection, version: str, limit_s: int) -> AsyncGenerator[Object, None]:
        """Events since `version`, bookmarks too; the server ends it after `limit_s`. The first item is
        `{}`: the watch stands. Raises what an ERROR event says."""
        check("watch", selection.resource, target=selection.target)
        query = {
            **selection.query,
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(limit_s),
        }
        where = path(selection.resource, selection.namespace)
        limit = aiohttp.ClientTimeout(total=limit_s + _CALL_LIMIT_S, sock_connect=_CALL_LIMIT_S)
        with self._failures("watch"):
            response = await self._send(_Call("watch", where, query), limit)
            try:
                yield {}
                async for event in _events(response):
                    if event.get("type") == "ERROR":
                        raise from_event(event.get("object") or {})
                    yield event
            finally:
                response.close()

    async def create(self, resource: Resource, namespace: str, body: Object) -> Object:
        check("create", resource)
        return await self._write("create", path(resource, namespace), body)

    async def replace(
        self, resource: Resource, namespace: str, name: str, body: Object, *, target: bool = False
    ) -> Object:
        """With the body's metadata.resourceVersion as precondition: none, none is asked for."""
        check("update", resource, target=target)
        if not (body.get("metadata") or {}).get("resourceVersion"):
            raise ValueError(f"{resource} {namespace}/{name}: replaced without a resourceVersion")
        return await self._write("update", path(resource, namespace, name), body)

    async def merge(self, resource: Resource, namespace: str, name: str, patch: Object) -> Object:
        check("patch", resource)
        return await self._write(
            "patch", path(resource, namespace, name), patch, content="application/merge-patch+json"
        )

    async def discover(self, group: str, version: str) -> Object:
        """The kinds of an API group: readable by every account that is authenticated."""
        where = f"/apis/{group}/{version}" if group else f"/api/{version}"
        return await self._answer(_Call("get", where))

    async def _write(self, verb: str, where: str, body: Object, content: str = "application/json") -> Object:
        return await self._answer(_Call(verb, where, body=body, content=content), _WRITE_LIMIT_S)

    async def _answer(self, call: _Call, limit_s: float = _CALL_LIMIT_S) -> Object:
        with self._failures(call.verb):
            response = await self._send(call, aiohttp.ClientTimeout(total=limit_s))
            return await _document(response, f"{call.verb} {call.where}")

    @contextlib.contextmanager
    def _failures(self, verb: str) -> Iterator[None]:
        """Tells of them."""
        try:
            yield
        except DeposedError:
            raise  # nothing was sent
        except ApiError as error:
            self._failed(verb, error)
            raise

    async def _send(self, call: _Call, limit: aiohttp.ClientTimeout) -> aiohttp.ClientResponse:
        content = {"Content-Type": call.content} if call.content else {}
        client, method = self._client, _METHODS[call.verb]
        try:
            request = await client.param_serialize(
                method,
                call.where,
                query_params=list((call.query or {}).items()),
                header_params={"Accept": "application/json", **content},
                body=call.body,
                auth_settings=["BearerToken"],
            )
            if method != "GET" and self._may_write is not None:
                self._may_write()  # from here the write has its own limit, connecting included
            response = (await client.call_api(*request, _request_timeout=limit)).response
            if not 200 <= response.status < 300:
                words = await response.read()
                raise from_answer(response.status, words, response.headers.get("Retry-After"))
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise UnavailableError(f"{method} {call.where}: {_words(error)}") from error
        return response  # type: ignore[no-any-return]


def path(resource: Resource, namespace: str = "", name: str = "") -> str:
    """Of a resource's collection, or of one object of it, or of its subresource."""
    root = f"/apis/{resource.group}" if resource.group else "/api"
    parts = [root, resource.version]
    if namespace:
        parts += ["namespaces", quote(namespace, safe="")]
    parts.append(resource.plural)
    if name:
        parts.append(quote(name, safe=""))
    if resource.subresource:
        parts.append(resource.subresource)
    return "/".join(parts)


async def _document(response: aiohttp.ClientResponse, what: str) -> Object:
    """The one object of an answer."""
    try:
        answer = json.loads(await response.read())
    except (TimeoutError, aiohttp.ClientError, OSError) as error:
        raise UnavailableError(f"{what}: {_words(error)}") from error
    except ValueError as error:
        raise UnavailableError(f"{what}: not JSON") from error
    if not isinstance(answer, dict):
        raise UnavailableError(f"{what}: not an object")
    return answer


async def _events(response: aiohttp.ClientResponse) -> AsyncIterator[Object]:
    """One JSON document a line, of any length."""
    rest = b""
    try:
        async for chunk in response.content.iter_any():
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                if line.strip():
                    yield json.loads(line)
    except (TimeoutError, aiohttp.ClientError, OSError) as error:
        raise UnavailableError(f"watch: {_words(error)}") from error
    except ValueError as error:
        raise UnavailableError("watch: not JSON") from error


def _words(error: BaseException) -> str:
    return "no answer in time" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
