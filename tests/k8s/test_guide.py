"""docs/kubernetes.md: its pieces of an overlay render, its roles are well-formed, its files are there."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml

from tests.k8s.rendered import K8S, ROOT, kubectl

PAGE = (ROOT / "docs" / "kubernetes.md").read_text(encoding="utf-8")
YAML = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.M | re.S)


def of_overlay() -> dict[str, Any]:
    """All that the page says of a user's own overlay, in one."""
    merged: dict[str, Any] = {}
    for block in YAML:
        documents = list(yaml.safe_load_all(block))
        if len(documents) == 1 and documents[0].get("kind", "Kustomization") == "Kustomization":
            merged |= documents[0] | {"patches": merged.get("patches", []) + documents[0].get("patches", [])}
    return merged


def test_an_overlay_of_ones_own_renders_as_the_page_says(tmp_path: Path) -> None:
    overlay = of_overlay()
    assert overlay.keys() == {"apiVersion", "kind", "resources", "images", "patches", "configMapGenerator"}
    assert overlay["resources"] == ["../k8s/overlays/cpu"]
    overlay["resources"] = [os.path.relpath(K8S / "overlays" / "cpu", tmp_path.resolve())]
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(overlay), encoding="utf-8")
    (tmp_path / "my-model-a100.yaml").write_text("of a model\n", encoding="utf-8")
    done = subprocess.run(
        [kubectl(), "kustomize", str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    by_name = {
        (one["kind"], one["metadata"]["name"]): one
        for one in yaml.load_all(done.stdout, Loader=yaml.CSafeLoader)
    }
    (profiles,) = (one for (kind, _), one in by_name.items() if kind == "ConfigMap")
    assert profiles["data"].keys() == {"support-text-cpu.yaml", "my-model-a100.yaml"}
    controller = by_name["Deployment", "minwatt-controller"]["spec"]["template"]["spec"]
    assert controller["containers"][0]["image"] == "my-registry/minwatt/controller:0.1.0"
    (egress,) = by_name["NetworkPolicy", "minwatt-controller"]["spec"]["egress"]
    assert egress["to"] == [{"ipBlock": {"cidr": "10.0.0.1/32"}}]
    assert [port["port"] for port in egress["ports"]] == [443, 6443, 8443]


def test_its_objects_are_valid() -> None:
    objects = [one for block in YAML for one in yaml.safe_load_all(block) if "metadata" in one]
    assert {one["kind"] for one in objects} == {"ClusterRole", "ClusterRoleBinding"}
    for one in objects:
        kubernetes_validate.validate(one, kubernetes_validate.latest_version(), strict=True)


def test_what_it_names_is_there() -> None:
    for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", PAGE):
        assert (ROOT / "docs" / link).exists(), link
    for path in re.findall(r"(?<![\w./])(k8s/[\w./-]+)", PAGE):
        assert (ROOT / path.rstrip(".")).exists(), path


def test_kubectl_prints_the_objects_that_an_overlay_has() -> None:
    """As e2e/test_install.py applies them; the hash of the profiles is that of their content."""
    created = re.findall(r"^(\S+)/(\S+) created$", PAGE, re.M)
    done = subprocess.run(
        [kubectl(), "kustomize", str(K8S / "overlays" / "cpu")], capture_output=True, text=True, check=True
    )
    names = [one["metadata"]["name"] for one in yaml.load_all(done.stdout, Loader=yaml.CSafeLoader)]
    shown = [
        re.sub(r"^(minwatt-profiles)-\w+$", r"\1", name)
        for kind, name in created
        if "powerpolicy." not in kind
    ]
    assert sorted(shown) == sorted(re.sub(r"^(minwatt-profiles)-\w+$", r"\1", name) for name in names)
