"""docs/kubernetes.md from install to removal, with the real kubectl and the rights of the account alone."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import grpc
import pytest

from minwatt.v1.fleet_pb2 import REPLICA_STATE_READY, ReplicaReport
from minwatt.v1.fleet_pb2_grpc import FleetStub
from scaler.bus_opening import BusOptions
from scaler.kube.command import KubeOptions, run_kube
from tests.eventually import WAIT_S, eventually
from tests.k8s.rendered import APPLIED, ROOT, kubectl
from tests.kube_api.stand_in import KubeApi

FLEET = "inference/support-text"
NEVER = {"secrets", "roles", "clusterroles", "namespaces", "nodes"}


def run(kubeconfig: Path, *arguments: str) -> str:
    """What it prints. A warning is a failure."""
    done = subprocess.run(
        [kubectl(), "--kubeconfig", str(kubeconfig), *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "KUBECACHEDIR": str(kubeconfig.parent)},
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    return done.stdout


@pytest.mark.parametrize("overlay", [one for one in APPLIED if one.startswith("overlays/")])
def test_an_overlay_is_applied_at_once_and_without_a_warning(overlay: str, kube_api: KubeApi) -> None:
    admin = kube_api.kubeconfig()
    created = run(admin, "apply", "-k", f"k8s/{overlay}").splitlines()
    assert created
    assert all(line.endswith(" created") for line in created)


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        number: int = taken.getsockname()[1]
        return number


async def reports() -> AsyncIterator[ReplicaReport]:
    """Of a replica that is ready and has nothing to do."""
    for sequence in range(1, 10_000):
        yield ReplicaReport(
            replica_id="r1",
            fleet=FLEET,
            model="support-text",
            model_version="1",
            variant="int8",
            state=REPLICA_STATE_READY,
            interval_seconds=0.2,
            sequence=sequence,
            start_up_seconds=1.0,
            host="node-1",
        )
        await asyncio.sleep(0.2)


async def replica(address: str) -> None:
    """Joins, and joins again, until it is cancelled."""
    async with grpc.aio.insecure_channel(address) as channel:
        while True:
            try:
                async for _ in FleetStub(channel).Join(reports()):
                    pass
            except grpc.aio.AioRpcError:
                await asyncio.sleep(0.1)


async def sees(what: Callable[[], bool]) -> None:
    """Waits for it; the stand-in's own thread answers meanwhile."""

    async def seen() -> bool:
        return await asyncio.to_thread(what)

    await eventually(seen)


async def test_from_install_to_removal(kube_api: KubeApi) -> None:
    admin = kube_api.kubeconfig()
    run(admin, "apply", "-k", "k8s/overlays/cpu")
    run(admin, "apply", "-f", "k8s/policies/support-text.yaml")

    port = free_port()
    options = KubeOptions(
        BusOptions(f"127.0.0.1:{port}"),
        profiles=ROOT / "profiles",
        kubeconfig=kube_api.kubeconfig("minwatt-system", "minwatt-controller"),
        lease_namespace="minwatt-system",
        metrics_port=0,
        health_port=0,
    )
    said: list[str] = []
    stopped = asyncio.Event()
    controller = asyncio.create_task(run_kube(options, said.append, stopped=stopped))
    joined = asyncio.create_task(replica(f"127.0.0.1:{port}"))
    try:
        find = kube_api.find
        await sees(lambda: find("deployments", "inference", "support-text")["spec"]["replicas"] == 2)
        events = ("-n", "inference", "events", "--for", "powerpolicy/support-text")
        await sees(lambda: "ScaledUp" in run(admin, *events))
        assert "support-text" in run(admin, "-n", "inference", "get", "powerpolicies")
        assert "1 → 2 replicas" in run(admin, "-n", "inference", "describe", "powerpolicy", "support-text")

        run(admin, "-n", "inference", "annotate", "powerpolicy", "support-text", "minwatt.dev/paused=true")
        await sees(lambda: "Paused" in run(admin, "-n", "inference", "get", "powerpolicies"))
    finally:
        stopped.set()
        joined.cancel()
        await asyncio.wait({joined})
        await asyncio.wait_for(controller, WAIT_S)

    assert not [line for line in said if "Forbidden" in line]
    own = [one for one in kube_api.log if one.user.endswith(":minwatt-controller")]
    assert own
    assert not [one for one in own if one.code == 403]
    assert not [one for one in own if one.resource.partition(".")[0] in NEVER]

    run(admin, "delete", "-f", "k8s/policies/support-text.yaml")
    run(admin, "delete", "-k", "k8s/overlays/cpu", "--ignore-not-found")
    assert not kube_api.all_of("deployments")
