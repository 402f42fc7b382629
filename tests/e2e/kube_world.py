"""A cluster, its replicas and one controller or two, on a loop whose time jumps: minutes in seconds.

The controller is the real one, assembled as `scaler.kube.command` does it, with the rights of its own service
account and no more; it speaks HTTP and TLS to the stand-in. What it does not have is a real bus and real
replicas: each pod that the stand-in calls ready reports as `FleetModel`'s replicas do, to every controller
that listens, and obeys the newest operating point.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from scaler.bus import FleetView
from scaler.control import first_point
from scaler.kube.api import KubeApi as Client
from scaler.kube.controller import Controller, Surroundings
from scaler.kube.desired_replicas import DesiredReplicas
from scaler.kube.election import Election
from scaler.kube.permissions import PERMISSIONS, Scope
from scaler.kube.policy_run import Shared
from scaler.kube.profiles import Library
from scaler.kube.target import Kinds
from scaler.kube.watches import Watches
from scaler.metrics import Metrics
from scaler.operating_point import OperatingPoint
from scaler.profile import Profile
from scaler.report import Report
from scaler.settings import Settings
from tests.kube_api.stand_in import KubeApi
from tests.kube_api.workloads import is_ready
from tests.scaler.fleet_model import FleetModel, ModelReplica
from tests.scaler.made_up import policy as made_up_policy

Object = dict[str, Any]
SYSTEM = "minwatt-system"
_SPEC: Object = {
    "model": "tiny",
    "slo": {"latency": "100ms"},
    "replicas": {"min": 1, "max": 6},
    "batching": {"maxSize": 8, "maxDelay": "10ms"},
    "behavior": {"tick": "1s"},
}
_GROUP = "rbac.authorization.k8s.io"


class Bus:
    """One controller's ear for one fleet."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self.reports: list[Report] = []
        fleet.ears.append(self)

    async def publish(self, point: OperatingPoint) -> None:
        if point.version >= self._fleet.model.point.version:
            self._fleet.model.point = point

    async def collect(self) -> FleetView:
        reports, self.reports = tuple(self.reports), []
        return FleetView(self._fleet.members, reports, told_version=self._fleet.model.point.version)

    async def close(self) -> None:
        if self in self._fleet.ears:
            self._fleet.ears.remove(self)


class Fleet:
    """The ready pods of one target, under a load."""

    def __init__(self, api: KubeApi, namespace: str, name: str, settings: Settings) -> None:
        self._api = api
        self._where = namespace, name
        self.model = FleetModel(settings, np.random.default_rng(1), first_point(settings))
        self.load_rps: Callable[[float], float] = lambda _at_s: 0.0
        self.members: frozenset[str] = frozenset()
        self.ears: list[Bus] = []
        self._replicas: dict[str, ModelReplica] = {}

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(1.0)
            self._second(loop.time())

    def _second(self, now_s: float) -> None:
        namespace, name = self._where
        staying = {
            pod["metadata"]["name"]: pod
            for pod in self._api.all_of("pods", namespace)
            if pod["metadata"]["labels"].get("app") == name
            and "deletionTimestamp" not in pod["metadata"]
            and pod["status"].get("phase") == "Running"
        }
        self._replicas = {
            name: self._replicas.get(name) or ModelReplica(name, float("inf")) for name in staying
        }
        for name, pod in staying.items():
            self._replicas[name].ready_at_s = 0.0 if is_ready(pod) else float("inf")
        self.model.replicas = list(self._replicas.values())
        self.model.now_s = now_s - 1.0
        view = self.model.second(self.load_rps(now_s))
        self.members = view.members
        for ear in self.ears:
            ear.reports += view.reports


class Hub:
    address = "memory"

    def __init__(self, fleets: Mapping[str, Fleet]) -> None:
        self._fleets = fleets
        self._open: list[Bus] = []

    def fleet(self, name: str) -> Bus:
        bus = Bus(self._fleets[name])
        self._open.append(bus)
        return bus

    async def strays(self) -> Mapping[str, int]:
        return {}

    async def close(self) -> None:
        for bus in self._open:
            await bus.close()


@dataclass
class Copy:
    """One controller."""

    name: str
    election: Election
    said: list[str] = field(default_factory=list)
    stopped: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None

    async def stop(self) -> None:
        self.stopped.set()
        if self.task is not None:
            await self.task

    async def kill(self) -> None:
        """Without a word to anybody."""
        if self.task is not None:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)


class World:
    def __init__(self, api: KubeApi, profile: Profile) -> None:
        self.api = api
        self.profile = profile
        self.fleets: dict[str, Fleet] = {}
        self.copies: list[Copy] = []

    async def seconds(self, count: float) -> None:
        await asyncio.sleep(count)

    async def until(self, condition: Callable[[], object], within_s: float = 600.0) -> None:
        """Raises TimeoutError, by the world's time."""
        async with asyncio.timeout(within_s):
            while not condition():  # noqa: ASYNC110 - it is told by nobody
                await asyncio.sleep(0.25)

    # What is in it

    def add(
        self, name: str = "support-text", namespace: str = "inference", replicas: int = 1, **spec: Any
    ) -> Fleet:
        """A Deployment and its policy."""
        given = {**_SPEC, **spec}
        target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": name}
        policy = {
            "apiVersion": "minwatt.dev/v1alpha1",
            "kind": "PowerPolicy",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {**given, "targetRef": target},
        }
        self.api.apply(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}},
            deployment(name, namespace, replicas),
            policy,
        )
        fleet = Fleet(self.api, namespace, name, Settings(made_up_policy(**given), self.profile))
        self.fleets[f"{namespace}/{name}"] = fleet
        return fleet

    async def controller(self, name: str = "a") -> Copy:
        """A copy that runs, with a service account of its own, so that the log tells them apart."""
        account = f"minwatt-{name}"
        self.api.apply(*rights(account))
        copy = Copy(name, None)  # type: ignore[arg-type]
        began = asyncio.Event()
        copy.task = asyncio.create_task(self._run(copy, account, began))
        self.copies.append(copy)
        await began.wait()
        return copy

    async def _run(self, copy: Copy, account: str, began: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        rng = random.Random(copy.name)
        api = await Client.connect(self.api.kubeconfig(SYSTEM, account))
        watches = Watches(api, loop.time, rng)
        metrics, desired, kinds = Metrics(loop.time), DesiredReplicas(), Kinds(api, loop.time)
        copy.election = election = Election(
            api,
            SYSTEM,
            "minwatt-scaler",
            copy.name,
            clock=loop.time,
            unix_s=self.api.now_s,
            rng=rng,
        )

        def shared(writes: Client, hub: Any) -> Shared:
            return Shared(
                api=writes,
                watches=watches,
                kinds=kinds,
                fleets=hub,
                metrics=metrics,
                desired=desired,
                may_act=lambda: election.may_act,
                clock=loop.time,
                unix_s=self.api.now_s,
                rng=rng,
                say=copy.said.append,
            )

        async def open_hub() -> Any:
            return Hub(self.fleets)

        around = Surroundings(
            api=api,
            election=election,
            watches=watches,
            library=Library({"made-up.yaml": self.profile}),
            metrics=metrics,
            open_hub=open_hub,
            shared=shared,
            say=copy.said.append,
        )
        try:
            controller = Controller(around, ())
            began.set()
            await controller.run(copy.stopped)
        finally:
            await watches.close()
            await api.close()
            metrics.close()

    # What is seen

    def replicas(self, name: str = "support-text", namespace: str = "inference") -> int:
        count: int = self.api.find("deployments", namespace, name)["spec"]["replicas"]
        return count

    def ready(self, name: str = "support-text", namespace: str = "inference") -> int:
        pods = self.api.all_of("pods", namespace)
        mine = [pod for pod in pods if pod["metadata"]["labels"].get("app") == name]
        return sum(is_ready(pod) and "deletionTimestamp" not in pod["metadata"] for pod in mine)

    def status(self, name: str = "support-text", namespace: str = "inference") -> Object:
        found: Object = self.api.find("powerpolicies", namespace, name).get("status", {})
        return found

    def condition(self, type_: str, name: str = "support-text", namespace: str = "inference") -> Object:
        conditions = self.status(name, namespace).get("conditions", [])
        return next((each for each in conditions if each["type"] == type_), {})

    def scaled(self) -> list[int]:
        """The replicas that each write to a `scale` asked for, in order."""
        return [
            each.body["spec"].get("replicas", 0)
            for each in self.api.writes(by=None)
            if each.resource.endswith("/scale")
        ]


@asynccontextmanager
async def world(directory: Path, profile: Profile, crd: Object) -> AsyncIterator[World]:
    async with KubeApi(directory) as api:
        api.cluster.start_s, api.cluster.ready_s, api.cluster.stop_s = 2.0, 3.0, 5.0
        api.apply(crd, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM}})
        made = World(api, profile)
        tasks: list[asyncio.Task[None]] = []
        running = asyncio.create_task(_fleets(made, tasks))
        try:
            yield made
        finally:
            for task in (running, *tasks):
                task.cancel()
            await asyncio.gather(running, *tasks, return_exceptions=True)
            for copy in made.copies:
                await copy.kill()


async def _fleets(made: World, tasks: list[asyncio.Task[None]]) -> None:
    started: set[str] = set()
    while True:
        for name in set(made.fleets) - started:
            started.add(name)
            tasks.append(asyncio.create_task(made.fleets[name].run()))
        await asyncio.sleep(0.5)


def rights(account: str) -> list[Object]:
    """What `scaler.kube.permissions` says the controller needs, and no more."""

    def rules(scope: Scope) -> list[Object]:
        return [
            {
                "apiGroups": [one.resource.group],
                "resources": [one.resource.name],
                "verbs": sorted(one.verbs),
            }
            for one in PERMISSIONS
            if one.scope is scope
        ]

    subject = {"kind": "ServiceAccount", "name": account, "namespace": SYSTEM}
    meta: Object = {"name": account}
    local: Object = {"name": account, "namespace": SYSTEM}
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": local},
        {
            "apiVersion": f"{_GROUP}/v1",
            "kind": "ClusterRole",
            "metadata": meta,
            "rules": rules(Scope.POLICIES),
        },
        {"apiVersion": f"{_GROUP}/v1", "kind": "Role", "metadata": local, "rules": rules(Scope.LEASE)},
        {
            "apiVersion": f"{_GROUP}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": meta,
            "roleRef": {"apiGroup": _GROUP, "kind": "ClusterRole", "name": account},
            "subjects": [subject],
        },
        {
            "apiVersion": f"{_GROUP}/v1",
            "kind": "RoleBinding",
            "metadata": local,
            "roleRef": {"apiGroup": _GROUP, "kind": "Role", "name": account},
            "subjects": [subject],
        },
    ]


def deployment(name: str, namespace: str, replicas: int) -> Object:
    labels = {"app": name}
    container = {"name": "service", "image": "minwatt-service:1"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template},
    }
