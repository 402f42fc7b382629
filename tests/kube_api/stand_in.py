"""A Kubernetes API server for tests: real HTTP and TLS, the objects in memory, faults on demand.

    def test_something(kube_api: KubeApi) -> None:              # the fixture of tests/conftest.py
        kube_api.apply(crd, policy, deployment)                 # as the cluster's administrator
        kube_api.cluster.room = 3                               # pods that fit on the nodes
        path = kube_api.kubeconfig("minwatt-system", "minwatt") # of that service account: RBAC holds
        ...                                                     # the controller, `kubectl --kubeconfig PATH`
        kube_api.faults.answer(409, verbs="update", resource="deployments", subresource="scale")
        kube_api.cut_watches("gone"); kube_api.stop(); kube_api.start()
        assert kube_api.find("deployments", "inference", "support-text")["spec"]["replicas"] == 3
        assert [each.resource for each in kube_api.writes()] == [...]

`kube_api.kmock[...]` is kmock's own view of the requests, `kube_api.objects[...]` that of the objects and
their history. Time is the machine's, or stands still until `advance` with `KubeApi(stepped=True)`, or is that
of the loop it is entered on (`async with`).

What it answers is held against recordings of a real server by tests/scaler/kube/test_stand_in_recordings.py;
that file also lists where it differs.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import kmock
import trustme
import yaml
from aiohttp import web

from tests.kube_api import patches
from tests.kube_api.access import ADMIN, Access, User, service_account
from tests.kube_api.calls import Call
from tests.kube_api.faults import Faults
from tests.kube_api.kinds import Kind, Kinds
from tests.kube_api.pods import Cluster
from tests.kube_api.request_log import Served
from tests.kube_api.server import Handler
from tests.kube_api.store import Object, Store
from tests.kube_api.watches import Ending
from tests.kube_api.workloads import Workloads

_SETTLE_EVERY_S = 0.05
_ADMIN = User(ADMIN, ("system:masters", "system:authenticated"))


class KubeApi:
    """`with` runs it on a thread of its own; `async with` on the running loop, whose time it then has."""

    def __init__(self, directory: Path, *, stepped: bool = False) -> None:
        self._directory = directory
        self._now_s: Callable[[], float] = time.time
        self._stands_s = float(int(time.time())) if stepped else None
        self._store = Store(self.now_s)
        self._kinds = Kinds()
        self._access = Access(self._store, self._kinds)
        self.cluster = Cluster()
        self._workloads = Workloads(self._store, self._kinds, self.cluster)
        self._authority = trustme.CA()
        self._tokens: dict[tuple[str, str] | None, str] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._settling: asyncio.TimerHandle | None = None
        self._settle_every_s = _SETTLE_EVERY_S
        self._port = 0
        self._runner: web.ServerRunner | None = None
        self._handler = Handler(self._store, self._kinds, self._access, self._workloads.settle)
        self._registry = self._handler.registry
        self._store.on_change(self._changed)
        for namespace in ("default", "kube-system", "kube-public", "kube-node-lease"):
            self.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})

    # Life

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="kube-api", daemon=True)
        self._thread.start()
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.faults.clear()
        self.stop()
        loop, thread = self._loop, self._thread
        if loop is not None and thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()
        self._confess()

    async def __aenter__(self) -> Self:
        loop = self._loop = asyncio.get_running_loop()
        began_s = time.time() - loop.time()
        self._now_s = lambda: began_s + loop.time()
        self._settle_every_s = 0.5  # such a loop's time may be faster than the machine's
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.faults.clear()
        await self.close()
        if self._settling is not None:
            self._settling.cancel()
        self._confess()

    def _confess(self) -> None:
        if self._handler.broken:
            raise ExceptionGroup("the stand-in failed", self._handler.broken)

    def start(self) -> None:
        """Listens, again at the same port after `stop`."""
        self._run(self.open())

    def stop(self) -> None:
        """Connections are refused from now on, those that are open end. The objects stay."""
        self._run(self.close())

    async def open(self) -> None:
        """`start` on the server's own loop."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
        self._runner = web.ServerRunner(web.Server(self._handler), shutdown_timeout=0.0)
        await self._runner.setup()
        site = web.TCPSite(
            self._runner, "127.0.0.1", self._port, ssl_context=context, reuse_address=True, backlog=512
        )
        await site.start()
        self._port = self._runner.addresses[0][1]

    async def close(self) -> None:
        """`stop` on the server's own loop."""
        if self._runner is not None:
            runner, self._runner = self._runner, None
            for watch in self._handler.watches.open:
                watch.ending = "closed"
                watch.wake.set()
            await asyncio.sleep(0)
            await runner.cleanup()
            for connection in list(self._handler.connections):
                connection.abort()  # a client that keeps its end open would keep TLS from closing
            for _ in range(3):
                await asyncio.sleep(0)

    def _run(self, coroutine: Any) -> None:
        if self._loop is None:
            raise RuntimeError("the server runs within `with` only")
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout=30)

    def _changed(self) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._follow_change)

    def _follow_change(self) -> None:
        for watch in self._handler.watches.open:
            watch.wake.set()
        waits = self._settling is not None or self._stands_s is not None
        if self._loop is not None and self._workloads.restless and not waits:
            self._settling = self._loop.call_later(self._settle_every_s, self._settle_later)

    def _settle_later(self) -> None:
        self._settling = None
        self.settle()
        self._follow_change()

    # Time

    def now_s(self) -> float:
        return self._now_s() if self._stands_s is None else self._stands_s

    def advance(self, seconds: float, step_s: float = 0.5) -> None:
        """Of a stepped server: pods go their way meanwhile."""
        if self._stands_s is None:
            raise RuntimeError("the time of this server is the machine's")
        end_s = self._stands_s + seconds
        while self._stands_s < end_s:
            self._stands_s = min(end_s, self._stands_s + step_s)
            self.settle()

    def settle(self) -> None:
        with self._store.lock:
            self._workloads.settle()

    # Access for the program under test

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self._port}"

    @property
    def authority_pem(self) -> bytes:
        pem: bytes = self._authority.cert_pem.bytes()
        return pem

    def token(self, namespace: str | None = None, account: str | None = None) -> str:
        """Of a service account, which must exist when it is used; of the administrator without one."""
        key = None if namespace is None or account is None else (namespace, account)
        if key not in self._tokens:
            user = _ADMIN if key is None else service_account(*key)
            self._tokens[key] = self._access.token(user)
        return self._tokens[key]

    def kubeconfig(self, namespace: str | None = None, account: str | None = None) -> Path:
        authority = self._directory / "ca.crt"
        authority.write_bytes(self.authority_pem)
        path = self._directory / f"kubeconfig-{account or 'admin'}.yaml"
        cluster = {"server": self.url, "certificate-authority": str(authority)}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "stand-in", "cluster": cluster}],
            "users": [{"name": "user", "user": {"token": self.token(namespace, account)}}],
            "contexts": [
                {
                    "name": "stand-in",
                    "context": {"cluster": "stand-in", "user": "user", "namespace": namespace or "default"},
                }
            ],
            "current-context": "stand-in",
        }
        path.write_text(yaml.safe_dump(config))
        return path

    def in_cluster_files(self, namespace: str, account: str) -> Path:
        """What a pod has at /var/run/secrets/kubernetes.io/serviceaccount."""
        directory = self._directory / f"serviceaccount-{account}"
        directory.mkdir(exist_ok=True)
        (directory / "token").write_text(self.token(namespace, account))
        (directory / "ca.crt").write_bytes(self.authority_pem)
        (directory / "namespace").write_text(namespace)
        return directory

    # Faults

    @property
    def faults(self) -> Faults:
        return self._handler.faults

    def cut_watches(self, ending: Ending, resource: str | None = None, by: str | None = None) -> int:
        """Ends open watches: with a 410 ("gone"), without a word ("closed"), within a line ("torn")."""
        cut = 0
        for watch in list(self._handler.watches.open):
            if resource in (None, watch.kind.plural) and (by is None or watch.user.endswith(by)):
                watch.ending = ending
                cut += 1
        self._changed()
        return cut

    def forget_changes(self) -> None:
        """As etcd's compaction: watches that begin at an older resourceVersion get 410."""
        self._store.compact()

    @property
    def open_watches(self) -> list[str]:
        return sorted(watch.kind.plural for watch in self._handler.watches.open)

    def every_bookmark_s(self, seconds: float) -> None:
        self._handler.watches.bookmark_every_s = seconds

    # The state, as the administrator

    @property
    def objects(self) -> kmock.ObjectsArray:
        return self._store.objects

    @property
    def kmock(self) -> Handler:
        return self._handler

    @property
    def log(self) -> list[Served]:
        return self._handler.log

    def writes(self, by: str | None = None) -> list[Served]:
        """What took effect, in order. `by`: of users whose name ends so."""
        return [each for each in self.log if each.wrote and (by is None or each.user.endswith(by))]

    def find(self, plural: str, namespace: str | None, name: str) -> Object:
        with self._store.lock:
            return self._store.get(self._kind(plural), namespace, name)

    def all_of(self, plural: str, namespace: str | None = None) -> list[Object]:
        with self._store.lock:
            return self._store.all_of(self._kind(plural), namespace)

    def create(self, item: Object) -> Object:
        return self._do("create", item)

    def apply(self, *items: Object) -> None:
        """Creates each, or brings it up to date by a merge patch; definitions and namespaces first."""
        first = ("CustomResourceDefinition", "Namespace")
        for item in sorted(items, key=lambda item: item["kind"] not in first):
            meta = item["metadata"]
            kind = self._kind_of(item)
            with self._store.lock:
                namespace = meta.get("namespace", "default") if kind.namespaced else None
                present = self._store.peek(kind, namespace, meta["name"])
            self._do("create" if present is None else "patch", item)

    def patch(
        self, plural: str, namespace: str | None, name: str, change: Object, of: str | None = None
    ) -> Object:
        kind = self._kind(plural)
        return self._answer(kind, "patch", namespace, name, change, of)

    def delete(self, plural: str, namespace: str | None, name: str) -> None:
        self._answer(self._kind(plural), "delete", namespace, name, None, None)

    @contextmanager
    def changing(self, plural: str, namespace: str | None, name: str) -> Iterator[Object]:
        """The object to change in place, spec and status both, as if by its controllers."""
        kind = self._kind(plural)
        with self._store.lock:
            item = self._store.get(kind, namespace, name)
            yield item
            item["metadata"].pop("resourceVersion", None)
            status = item.get("status")
            written = self._store.update(kind, item, None, patched=True)
            if kind.has_status and status is not None:
                written["metadata"].pop("resourceVersion", None)
                self._store.update(kind, {**written, "status": status}, "status", patched=True)
            self._workloads.settle()

    def _do(self, verb: str, item: Object) -> Object:
        kind = self._kind_of(item)
        meta = item["metadata"]
        namespace = meta.get("namespace", "default") if kind.namespaced else None
        return self._answer(kind, verb, namespace, meta["name"], item, None)

    def _answer(
        self, kind: Kind, verb: str, namespace: str | None, name: str, body: Any, of: str | None
    ) -> Object:
        body = json.loads(json.dumps(body))
        call = Call(verb, kind, of, namespace, name, {}, body, patches.MERGE, _ADMIN, "test")
        with self._store.lock:
            answer = self._registry.answer(call)
            self._workloads.settle()
        return answer.body

    def _kind(self, plural: str) -> Kind:
        """By `pods`, or `powerpolicies.minwatt.dev`."""
        name, _, group = plural.partition(".")
        found = [kind for kind in self._kinds if kind.plural == name and (not group or kind.group == group)]
        if name == "events" and not group:
            found = [kind for kind in found if kind.group]
        if not found:
            raise LookupError(f"no kind {plural}")
        return found[0]

    def _kind_of(self, item: Object) -> Kind:
        found = self._kinds.of(item["apiVersion"], item["kind"])
        if found is None:
            raise LookupError(f"no kind {item['apiVersion']} {item['kind']}")
        return found
