"""A stand-in cluster with the controller beside it, on one loop whose time jumps: for scenarios of minutes.

`Scenario.control()` runs a whole copy as `minwatt scale --kubernetes` does, its hub aside.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from scaler.bus import Hub
from scaler.bus_opening import BusOptions
from scaler.kube import command
from scaler.kube.command import Clocks, KubeOptions, run_kube
from scaler.kube.crd import custom_resource_definition
from scaler.kube.pods import standing_of
from tests.kube_api.jumping_loop import run_jumping
from tests.kube_api.stand_in import KubeApi
from tests.scaler.kube.made_fleet import MadeHub, Traffic
from tests.scaler.kube.made_objects import policy_object
from tests.scaler.made_up import profile

NAMESPACE = "inference"
PATIENCE_S = 600.0  # of the loop's own time


def workload(
    name: str = "support-text",
    replicas: int = 2,
    kind: str = "Deployment",
    namespace: str = NAMESPACE,
    app: str = "",
) -> dict[str, Any]:
    """Its pods are replicas of the policy called `app`; empty: of its own name."""
    labels = {"app": app or name}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "s", "image": "minwatt:1"}]}}
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template},
    }


def policy(name: str = "support-text", **changes: Any) -> dict[str, Any]:
    """As a person writes it."""
    made = policy_object(name, **changes)
    for server_made in ("uid", "generation", "creationTimestamp", "resourceVersion"):
        del made["metadata"][server_made]
    return made


@dataclass
class Scenario:
    api: KubeApi
    directory: Path
    hub: MadeHub
    said: list[str] = field(default_factory=list)
    _ready: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    _looked: int = -1

    @contextlib.asynccontextmanager
    async def control(self, identity: str = "one", **options: Any) -> AsyncIterator[asyncio.Task[None]]:
        """Until the block ends; then a graceful stop."""
        stopped = asyncio.Event()
        task = asyncio.create_task(self._run(identity, stopped, options))
        try:
            yield task
        finally:
            stopped.set()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _run(self, identity: str, stopped: asyncio.Event, options: dict[str, Any]) -> None:
        wanted: dict[str, Any] = {
            "bus": BusOptions("127.0.0.1:0"),
            "profiles": self.directory / "profiles",
            "kubeconfig": self.api.kubeconfig(),
            "lease_namespace": NAMESPACE,
            "identity": identity,
            "metrics_port": 0,
            "health_port": 0,
            **options,
        }
        loop = asyncio.get_running_loop()
        await run_kube(
            KubeOptions(**wanted),
            lambda line: self.said.append(f"{loop.time():.0f} {identity}: {line}"),
            clocks=Clocks(loop.time, self.api.now_s),
            stopped=stopped,
        )

    def replicas(
        self, name: str = "support-text", plural: str = "deployments", namespace: str = NAMESPACE
    ) -> int:
        return int(self.api.find(plural, namespace, name)["spec"]["replicas"])

    def status(self, name: str = "support-text", namespace: str = NAMESPACE) -> dict[str, Any]:
        return dict(self.api.find("powerpolicies", namespace, name).get("status") or {})

    def condition(self, kind: str, name: str = "support-text", namespace: str = NAMESPACE) -> tuple[str, str]:
        found = [one for one in self.status(name, namespace).get("conditions", ()) if one["type"] == kind]
        return (found[0]["status"], found[0]["reason"]) if found else ("", "")

    def message(self, kind: str) -> str:
        """Of a condition."""
        found = [one["message"] for one in self.status().get("conditions", ()) if one["type"] == kind]
        return str(found[0]) if found else ""

    def events(self, namespace: str = NAMESPACE) -> list[str]:
        return [one["reason"] for one in self.api.all_of("events", namespace)]

    async def until(self, condition: Callable[[], bool], what: str = "") -> None:
        loop = asyncio.get_running_loop()
        end_s = loop.time() + PATIENCE_S
        while not condition():
            if loop.time() > end_s:
                pytest.fail(f"never: {what}; said {self.said[-20:]}; status {self.status()}")
            await asyncio.sleep(0.5)

    def ready_pods(self, policy: str, namespace: str = NAMESPACE) -> list[str]:
        """Replicas of that policy, as of this second."""
        second = int(asyncio.get_running_loop().time())
        if self._looked != second:
            self._looked, self._ready = second, {}
            for pod in self.api.all_of("pods"):
                if standing_of(pod) == "ready":
                    meta = pod["metadata"]
                    self._ready.setdefault((meta["namespace"], meta["labels"]["app"]), []).append(
                        meta["name"]
                    )
        return sorted(self._ready.get((namespace, policy), ()))


def play(
    directory: Path,
    monkeypatch: pytest.MonkeyPatch,
    story: Callable[[Scenario], Coroutine[Any, Any, None]],
) -> None:
    """On a loop of its own. The policy's model is `tiny`."""
    (directory / "profiles").mkdir()
    document = profile().model_dump(mode="json", by_alias=True)
    (directory / "profiles" / "tiny.yaml").write_text(yaml.safe_dump(document))

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with KubeApi(directory) as api:
            api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
            api.apply(custom_resource_definition())

            def traffic(fleet: str) -> Traffic:
                namespace, _, name = fleet.partition("/")
                return Traffic(loop.time, lambda: scenario.ready_pods(name, namespace))

            scenario = Scenario(api, directory, MadeHub(traffic))

            async def open_hub(_: BusOptions) -> Hub:
                return scenario.hub

            monkeypatch.setattr(command, "open_hub", open_hub)
            await story(scenario)

    run_jumping(main)
