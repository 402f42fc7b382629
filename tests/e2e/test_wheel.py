"""The built wheel, in an environment of its own and outside the repository, is the whole product."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CLIENT = """
import sys, minwatt
with minwatt.Client(sys.argv[1], timeout_s=60) as client:
    [result] = client.classify(["My card has not arrived yet."])
    [entities] = client.extract_entities(["Angela Merkel flew to Paris."])
    print(result.label, *(f"{entity.text}/{entity.label}" for entity in entities.entities))
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an environment with the wheel and what it depends on, nothing else."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--outdir", str(folder), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    [wheel] = folder.glob("minwatt-*.whl")
    subprocess.run([sys.executable, "-m", "venv", str(folder / "env")], check=True)
    pip = [str(folder / "env/bin/pip"), "install", "--quiet", "-c", str(ROOT / "constraints.txt")]
    subprocess.run([*pip, str(wheel)], check=True, capture_output=True)
    return folder / "env"


@pytest.mark.timeout(400)
def test_the_wheel_serves_and_scales_with_its_own_model_profile_and_policy(
    installed: Path, tmp_path: Path
) -> None:
    environment = {
        name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "VIRTUAL_ENV"}
    }
    up = subprocess.Popen(
        [str(installed / "bin/minwatt"), "up", "--port", "0", "--metrics-port", "0"],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert up.stdout is not None
        ready = next(found for line in up.stdout if (found := re.search(r"ready: grpc (\S+)", line)))
        answer = subprocess.run(
            [str(installed / "bin/python"), "-c", CLIENT, ready[1]],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        assert answer.stdout.split(maxsplit=1) == ["card_arrival", "Angela Merkel/PER Paris/LOC\n"]
    finally:
        up.send_signal(signal.SIGTERM)
        up.communicate(timeout=60)
    assert up.returncode == 0


def test_the_wheel_brings_no_training_library(installed: Path) -> None:
    found = subprocess.run(
        [str(installed / "bin/pip"), "list", "--format=freeze"], capture_output=True, text=True, check=True
    ).stdout.lower()
    assert "onnxruntime==" in found
    assert not re.search(r"^(torch|transformers|onnx)==", found, re.MULTILINE)
