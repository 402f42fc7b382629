"""`minwatt scale --kubernetes` as a process: its flags, its ports, its signals."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

from scaler.kube.crd import custom_resource_definition
from tests.kube_api.stand_in import KubeApi
from tests.scaler.kube.controlled import NAMESPACE, policy, workload

_PATIENCE_S = 60.0


def until(condition: Callable[[], bool]) -> None:
    end_s = time.monotonic() + _PATIENCE_S
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.05)


def test_it_leads_writes_a_status_answers_probes_and_lets_go(kube_api: KubeApi, tmp_path: Path) -> None:
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    kube_api.apply(custom_resource_definition(), namespace)
    kube_api.apply(workload(), policy(model="support-text"))
    flags = {
        "--kubeconfig": kube_api.kubeconfig(),
        "--namespace": NAMESPACE,
        "--lease-namespace": NAMESPACE,
        "--listen": "127.0.0.1:0",
        "--metrics-port": 0,
        "--health-port": 0,
    }
    pairs = [str(word) for pair in flags.items() for word in pair]
    command = [sys.executable, "-m", "minwatt", "scale", "--kubernetes", *pairs]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        said = ""
        while "leading as" not in said:
            line = process.stdout.readline()
            assert line, process.communicate()[1]
            said += line
        ports = re.findall(r"metrics http://[^:]+:(\d+).* health port (\d+)", said)[0]
        for port, path in zip(ports, ("metrics", "readyz"), strict=True):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}") as answer:
                assert answer.status == 200

        def conditions() -> dict[str, str]:
            status = kube_api.find("powerpolicies", NAMESPACE, "support-text").get("status") or {}
            return {one["type"]: one["reason"] for one in status.get("conditions", ())}

        # No replica joins: the fleet is held, and that is said.
        until(lambda: conditions().get("Stale") == "ReportsMissing")
        page = re.findall(r"dashboard (http://\S+)", said)[0]
        with urllib.request.urlopen(f"{page}api/state?policy={NAMESPACE}/support-text") as answer:
            shown = json.loads(answer.read())
        assert shown["policy"]["name"] == "support-text"
        assert "stale" in {name for name, _ in shown["moment"]["conditions"]}
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=_PATIENCE_S)
        assert process.returncode == 0, err
        assert "leading no more: stopped" in out
        assert "holderIdentity" not in kube_api.find("leases", NAMESPACE, "minwatt-scaler")["spec"]
        assert kube_api.find("deployments", NAMESPACE, "support-text")["spec"]["replicas"] == 2
    finally:
        process.kill()
        process.communicate()
