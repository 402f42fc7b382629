"""The committed stubs are the ones that `make proto` writes from proto/."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROTOS = sorted((ROOT / "proto/minwatt").rglob("*.proto"))


@pytest.fixture(scope="module")
def fresh_stubs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("stubs")
    outputs = [f"--{kind}_out={out}" for kind in ("python", "grpc_python")]
    outputs += [f"--{kind}_out=quiet:{out}" for kind in ("mypy", "mypy_grpc")]
    folder = Path(sys.executable).parent
    plugins = [
        f"--plugin=protoc-gen-{name}={folder / f'protoc-gen-{name}'}" for name in ("mypy", "mypy_grpc")
    ]
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{ROOT / 'proto'}", *plugins, *outputs]
    subprocess.run([*command, *map(str, PROTOS)], check=True)
    return out


@pytest.mark.parametrize("name", ["open_inference.binpb", "open_inference_pb2.pyi"])
def test_the_descriptors_of_the_open_inference_protocol_are_fresh(name: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{ROOT / 'proto/inference'}"]
    command += [f"--plugin=protoc-gen-mypy={Path(sys.executable).parent / 'protoc-gen-mypy'}"]
    command += [f"--descriptor_set_out={tmp_path}/open_inference.binpb", f"--mypy_out=quiet:{tmp_path}"]
    subprocess.run([*command, "open_inference.proto"], check=True)
    fresh = (tmp_path / name).read_bytes() == (ROOT / "service/oip" / name).read_bytes()
    assert fresh, "run `make proto`"


def test_the_stubs_of_keda_s_external_scaler_are_fresh(tmp_path: Path) -> None:
    folder = Path(sys.executable).parent
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-Iscaler/kube/keda={ROOT / 'proto/keda'}"]
    command += [
        f"--plugin=protoc-gen-{name}={folder / f'protoc-gen-{name}'}" for name in ("mypy", "mypy_grpc")
    ]
    command += [f"--{kind}_out={tmp_path}" for kind in ("python", "grpc_python")]
    command += [f"--{kind}_out=quiet:{tmp_path}" for kind in ("mypy", "mypy_grpc")]
    subprocess.run([*command, str(ROOT / "proto/keda/externalscaler.proto")], check=True)
    written = {path.relative_to(tmp_path): path.read_text() for path in tmp_path.rglob("*_pb2*.py*")}
    assert len(written) == 4
    stale = [str(name) for name, text in written.items() if (ROOT / name).read_text() != text]
    assert not stale, f"run `make proto`: {stale}"


def test_the_stubs_are_fresh(fresh_stubs: Path) -> None:
    written = {path.relative_to(fresh_stubs): path.read_text() for path in fresh_stubs.rglob("*_pb2*.py*")}
    assert len(written) == 4 * len(PROTOS)
    stale = [str(name) for name, text in written.items() if (ROOT / name).read_text() != text]
    assert not stale, f"run `make proto`: {stale}"


def test_a_changed_proto_makes_them_stale(fresh_stubs: Path, tmp_path: Path) -> None:
    """The comparison above can fail: one more field gives another stub."""
    shutil.copytree(ROOT / "proto", tmp_path / "proto")
    changed = tmp_path / "proto/minwatt/v1/fleet.proto"
    changed.write_text(
        changed.read_text().replace("message OperatingPoint {", "message OperatingPoint {\n  bool more = 99;")
    )
    command = [
        sys.executable,
        "-m",
        "grpc_tools.protoc",
        f"-I{tmp_path / 'proto'}",
        f"--python_out={tmp_path}",
    ]
    subprocess.run([*command, str(changed)], check=True)
    name = "minwatt/v1/fleet_pb2.py"
    assert (tmp_path / name).read_text() != (fresh_stubs / name).read_text()
