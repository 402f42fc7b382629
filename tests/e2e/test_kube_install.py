"""What an SRE does, with kubectl: install, a first policy, read a decision, pause, remove.

The manifests are those of k8s/, the controller is the real process with the rights that they give it.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.kube_processes import ControllerProcess, PodReplicas, until
from tests.k8s.rendered import K8S, OVERLAYS, kubectl
from tests.kube_api.laws import assert_laws
from tests.kube_api.stand_in import KubeApi

POLICY = K8S / "policies" / "support-text.yaml"
SYSTEM, NAMESPACE, NAME = "minwatt-system", "inference", "support-text"
ACCOUNT = "minwatt-controller"
QUIET_RPS, BUSY_RPS = 10.0, 2000.0

Kubectl = Callable[..., str]


@pytest.fixture
def run(kube_api: KubeApi) -> Kubectl:
    """Standard output; standard error must be empty: a warning is a failure."""
    config = kube_api.kubeconfig()

    def run(*words: str) -> str:
        command = [kubectl(), "--kubeconfig", str(config), *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stderr) == (0, ""), f"kubectl {' '.join(words)}: {done.stderr}"
        return done.stdout

    return run


@pytest.mark.parametrize("overlay", [file.parent for file in OVERLAYS], ids=lambda folder: folder.name)
def test_each_overlay_is_applied_without_a_warning(kube_api: KubeApi, run: Kubectl, overlay: Path) -> None:
    lines = run("apply", "-k", str(overlay)).splitlines()
    assert {line.rpartition(" ")[2] for line in lines} == {"created"}
    ready = [pod for pod in kube_api.all_of("pods", SYSTEM) if pod["status"]["phase"] == "Running"]
    assert ready
    again = run("apply", "-k", str(overlay)).splitlines()
    # kubectl sends a budget's selector each time.
    changed = [line for line in again if not line.endswith(" unchanged")]
    assert all(line.startswith("poddisruptionbudget") for line in changed), changed


def test_from_the_installation_to_the_removal(kube_api: KubeApi, run: Kubectl, tmp_path: Path) -> None:
    run("apply", "-k", str(K8S / "overlays" / "cpu"))
    run("wait", "--for=condition=Established", "crd/powerpolicies.minwatt.dev", "--timeout=30s")
    profiles = mounted_profiles(kube_api, tmp_path / "profiles")
    config = kube_api.kubeconfig(SYSTEM, ACCOUNT)
    with (
        ControllerProcess(config, profiles, SYSTEM, "controller") as controller,
        PodReplicas(
            kube_api,
            NAMESPACE,
            lambda: controller.fleets_join,
            {NAME: QUIET_RPS},
            label="app.kubernetes.io/name",
            model=NAME,
        ) as replicas,
    ):
        run("apply", "-f", str(POLICY))
        until(lambda: ready(kube_api) == "True", "the policy is in force")

        heads, row = columns(run("get", "powerpolicies", "-n", NAMESPACE))
        assert heads == ["NAME", "SLO", "P99", "WATTS", "REPLICAS", "POINT", "REASON", "AGE"]
        assert row[:2] == [NAME, "100ms"]
        replicas.load_rps[NAME] = BUSY_RPS
        until(lambda: count(kube_api) > 2, "scaled up")
        until(lambda: "ScaledUp" in run("describe", "pp", NAME, "-n", NAMESPACE), "told in an Event")

        run("annotate", "pp", NAME, "-n", NAMESPACE, "minwatt.dev/paused=true")
        until(lambda: condition(kube_api, "Paused") == "True", "paused")
        paused_at = count(kube_api)
        replicas.load_rps[NAME] = 2 * BUSY_RPS
        run("wait", "--for=condition=Paused", f"pp/{NAME}", "-n", NAMESPACE, "--timeout=30s")
        assert count(kube_api) == paused_at
        run("annotate", "pp", NAME, "-n", NAMESPACE, "minwatt.dev/paused-")
        until(lambda: condition(kube_api, "Paused") == "False", "goes on")
        run("delete", "-f", str(POLICY))
    assert [each for each in kube_api.log if each.code == 403] == []
    assert_laws(kube_api.log, least=2)
    run("delete", "-k", str(K8S / "overlays" / "cpu"))
    assert kube_api.all_of("deployments") == []


def mounted_profiles(api: KubeApi, directory: Path) -> Path:
    """As the ConfigMap's mount has them."""
    directory.mkdir()
    (held,) = [one for one in api.all_of("configmaps", SYSTEM) if "profiles" in one["metadata"]["name"]]
    for name, text in held["data"].items():
        (directory / name).write_text(text)
    return directory


def columns(table: str) -> tuple[list[str], list[str]]:
    """Of a table with one row; cells are two blanks apart at least."""
    heads, row = (re.split(r"\s{2,}", line.strip()) for line in table.splitlines())
    return heads, row


def count(api: KubeApi) -> int:
    replicas: int = api.find("deployments", NAMESPACE, NAME)["spec"]["replicas"]
    return replicas


def condition(api: KubeApi, type_: str) -> str:
    conditions = api.find("powerpolicies", NAMESPACE, NAME).get("status", {}).get("conditions", ())
    return next((str(each["status"]) for each in conditions if each["type"] == type_), "")


def ready(api: KubeApi) -> str:
    return condition(api, "Ready")
