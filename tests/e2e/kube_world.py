"""A cluster, its replicas and one controller or two, on a loop whose time jumps: minutes in seconds.

The controller is `minwatt scale --kubernetes` whole, with the rights of a service account of its own and no
more; it speaks HTTP and TLS to the stand-in. Instead of a bus and replicas each pod that the stand-in runs
reports as `FleetModel`'s replicas do, to every controller that listens, and obeys the newest operating point.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from scaler.bus import FleetView, Hub
from scaler.bus_opening import BusOptions
from scaler.control import first_point
from scaler.kube import command
from scaler.kube.command import Clocks, KubeOptions, run_kube
from scaler.kube.crd import custom_resource_definition
from scaler.kube.permissions import PERMISSIONS, Scope
from scaler.operating_point import OperatingPoint
from scaler.report import Report
from scaler.settings import Settings
from tests.kube_api.reach import is_ready
from tests.kube_api.stand_in import KubeApi
from tests.scaler.fleet_model import FleetModel, ModelReplica
from tests.scaler.made_up import policy as made_up_policy
from tests.scaler.made_up import profile

Object = dict[str, Any]
SYSTEM = "minwatt-system"
NAMESPACE = "inference"
NAME = "support-text"
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
        return FleetView.of(self._fleet.members, reports, told_version=self._fleet.model.point.version)

    async def close(self) -> None:
        if self in self._fleet.ears:
            self._fleet.ears.remove(self)


class Fleet:
    """The pods of the target, under a load that they share evenly but for chance."""

    def __init__(self, api: KubeApi, settings: Settings) -> None:
        self._api = api
        self.model = FleetModel(settings, np.random.default_rng(1), first_point(settings))
        self.load_rps: Callable[[float], float] = lambda _at_s: 50.0
        self.members: frozenset[str] = frozenset()
        self.ears: list[Bus] = []
        self._replicas: dict[str, ModelReplica] = {}

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(1.0)
            self._second(loop.time())

    @property
    def refused(self) -> int:
        return sum(second.refused for second in self.model.history)

    def least_ready(self, since_s: float = 0.0) -> int:
        return min(second.replicas for second in self.model.history if second.at_s >= since_s)

    def _second(self, now_s: float) -> None:
        pods = {pod["metadata"]["name"]: pod for pod in self._api.all_of("pods", NAMESPACE)}
        running = {
            name: pod
            for name, pod in pods.items()
            if "deletionTimestamp" not in pod["metadata"] and pod["status"].get("phase") == "Running"
        }
        self._replicas = {
            name: self._replicas.get(name) or ModelReplica(name, math.inf, warming=False) for name in running
        }
        for name, pod in running.items():
            self._replicas[name].ready_at_s = 0.0 if is_ready(pod) else math.inf
        self.model.replicas = list(self._replicas.values())
        self.model.now_s = now_s - 1.0
        view = self.model.second(self.load_rps(now_s))
        self.members = view.members
        for ear in self.ears:
            ear.reports += view.reports


class MemoryHub:
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
    task: asyncio.Task[None]
    said: list[str]
    stopped: asyncio.Event

    async def stop(self) -> None:
        self.stopped.set()
        await self.task

    async def kill(self) -> None:
        """Without a word to anybody: nothing that it would do at its end is done."""
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


class World:
    def __init__(self, api: KubeApi, profiles: Path) -> None:
        self.api = api
        self.fleets: dict[str, Fleet] = {}
        self._profiles = profiles
        self._tasks: list[asyncio.Task[None]] = []
        self._copies: list[Copy] = []

    async def seconds(self, count: float) -> None:
        await asyncio.sleep(count)

    async def until(self, condition: Callable[[], object], within_s: float = 300.0) -> None:
        """Raises TimeoutError, by the world's time."""
        async with asyncio.timeout(within_s):
            while not condition():  # noqa: ASYNC110 - it is told by nobody
                await asyncio.sleep(0.5)

    async def close(self) -> None:
        for copy in self._copies:
            await copy.kill()
        for task in self._tasks:
            task.cancel()
        for ended in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(ended, Exception):
                raise ended

    # What is in it

    def add(self, replicas: int = 1, **spec: Any) -> Fleet:
        """A Deployment and its policy."""
        self.api.apply(deployment(replicas), policy(**spec))
        fleet = Fleet(self.api, Settings(made_up_policy(**{**_SPEC, **spec}), profile()))
        self.fleets[f"{NAMESPACE}/{NAME}"] = fleet
        self._tasks.append(asyncio.create_task(fleet.run()))
        return fleet

    def controller(self, name: str = "a") -> Copy:
        """A copy that runs, with a service account of its own, so that the log tells them apart."""
        account = f"minwatt-{name}"
        self.api.apply(*rights(account))
        options = KubeOptions(
            bus=BusOptions("127.0.0.1:0"),
            profiles=self._profiles,
            kubeconfig=self.api.kubeconfig(SYSTEM, account),
            lease_namespace=SYSTEM,
            identity=name,
            metrics_port=0,
            health_port=0,
        )
        said: list[str] = []
        stopped = asyncio.Event()
        clocks = Clocks(asyncio.get_running_loop().time, self.api.now_s)
        run = run_kube(options, said.append, clocks=clocks, stopped=stopped)
        copy = Copy(name, asyncio.create_task(run), said, stopped)
        self._copies.append(copy)
        return copy

    # What is seen

    def replicas(self) -> int:
        count: int = self.api.find("deployments", NAMESPACE, NAME)["spec"]["replicas"]
        return count

    def pods(self) -> list[Object]:
        return self.api.all_of("pods", NAMESPACE)

    def ready(self) -> int:
        return sum(is_ready(pod) and "deletionTimestamp" not in pod["metadata"] for pod in self.pods())

    def status(self) -> Object:
        found: Object = self.api.find("powerpolicies", NAMESPACE, NAME).get("status", {})
        return found

    def condition(self, type_: str) -> tuple[str, str]:
        """Status and reason."""
        found = [each for each in self.status().get("conditions", ()) if each["type"] == type_]
        return (found[0]["status"], found[0]["reason"]) if found else ("", "")

    def told(self) -> list[str]:
        """The reasons of all Events."""
        return [each["reason"] for each in self.api.all_of("events", NAMESPACE)]

    def scaled(self) -> list[int]:
        """The replicas that each write to the `scale` asked for, in order."""
        scales = [each for each in self.api.writes() if each.resource.endswith("/scale")]
        return [each.body["spec"].get("replicas", 0) for each in scales]


@contextlib.asynccontextmanager
async def world(directory: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    profiles = directory / "profiles"
    profiles.mkdir()
    (profiles / "tiny.yaml").write_text(yaml.safe_dump(profile().model_dump(mode="json", by_alias=True)))
    async with KubeApi(directory) as api:
        api.cluster.start_s, api.cluster.ready_s, api.cluster.stop_s = 1.0, 1.0, 5.0
        api.apply(custom_resource_definition(), namespace(SYSTEM), namespace(NAMESPACE))
        made = World(api, profiles)

        async def open_hub(_: BusOptions) -> Hub:
            return MemoryHub(made.fleets)

        monkeypatch.setattr(command, "open_hub", open_hub)
        try:
            yield made
        finally:
            await made.close()


def namespace(name: str) -> Object:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


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


def policy(name: str = NAME, **spec: Any) -> Object:
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": name}
    return {
        "apiVersion": "minwatt.dev/v1alpha1",
        "kind": "PowerPolicy",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {**_SPEC, **spec, "targetRef": target},
    }


def deployment(replicas: int, name: str = NAME, image: str = "minwatt-service:1") -> Object:
    labels = {"app": name}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "service", "image": image}]}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template},
    }
