"""The peers: what each needs in its environment, how it is started, how it is called.

How large each is made stands in `sizing`. Called by `run`.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.peers.environments import INSTALL_S, Environment
from bench.peers.sizing import MAX_BATCH, MODEL, MODEL_VARIABLE, WAIT_MS, WORKERS
from bench.serving.body_files import grouped, write_bodies
from bench.serving.processes import BenchError
from bench.serving.shots import Protocol

OIP_PATH = "/inference.GRPCInferenceService/ModelInfer"
TIMEOUT_MS = 60_000  # no call is lost to one
COMPUTE = ("onnxruntime", "tokenizers", "numpy", "pyyaml")

_TRITON_CONFIG = f"""\
name: "{MODEL}"
backend: "python"
max_batch_size: {MAX_BATCH}
input {{ name: "text" data_type: TYPE_STRING dims: [1] }}
output {{ name: "label" data_type: TYPE_STRING dims: [1] }}
output {{ name: "score" data_type: TYPE_FP32 dims: [1] }}
instance_group {{ count: {WORKERS} kind: KIND_CPU }}
dynamic_batching {{ max_queue_delay_microseconds: 0 }}
"""


@dataclass(frozen=True, slots=True)
class Start:
    """How to start an installed peer: the command, its variables, and where it will listen."""

    command: Sequence[str]
    environ: Mapping[str, str]
    address: str


@dataclass(frozen=True, slots=True)
class Peer:
    """A server to compare with; `package` is the one whose version is reported."""

    name: str
    package: str
    requirements: Sequence[str]
    protocol: Protocol
    path: str
    start: Callable[[Environment, Path, Path], Start]  # environment, model, a folder of its own
    bodies: Callable[[Environment, Path, int, Path], str]  # environment, texts, texts a call, file


def _mosec(environment: Environment, model: Path, _scratch: Path) -> Start:
    port = _free_port()
    command = [str(environment.python), "-m", "bench.peers.mosec_app"]
    command += ["--port", str(port), "--address", "127.0.0.1", "--log-level", "error"]
    command += ["--timeout", str(TIMEOUT_MS)]
    return Start(command, _variables(model), f"127.0.0.1:{port}")


def _triton(environment: Environment, model: Path, scratch: Path) -> Start:
    """Triton's own binary with its Python backend and the stub for this interpreter."""
    home = environment.packages / "pytriton" / "tritonserver"
    served = scratch / "repository" / MODEL
    (served / "1").mkdir(parents=True)
    (served / "config.pbtxt").write_text(_TRITON_CONFIG)
    (served / "1" / "model.py").write_text("from bench.peers.triton_model import TritonPythonModel\n")
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    backend = scratch / "backends" / "python"
    backend.mkdir(parents=True)
    stub = home / "python_backend_stubs" / version / "triton_python_backend_stub"
    for file in (*(home / "backends" / "python").iterdir(), stub):
        (backend / file.name).symlink_to(file)
    port = _free_port()
    command = [str(home / "bin" / "tritonserver"), f"--model-repository={served.parent}"]
    command += [f"--backend-directory={backend.parent}", "--disable-auto-complete-config"]
    command += ["--allow-http=false", "--allow-metrics=false", "--grpc-address=127.0.0.1"]
    command += [f"--grpc-port={port}", "--log-info=false", "--log-warning=false"]
    variables = _variables(model)
    libraries = environment.packages / "nvidia_pytriton.libs"
    variables["LD_LIBRARY_PATH"] = os.pathsep.join([str(libraries), f"{sys.base_prefix}/lib"])
    # The interpreter inside the stub reads no PYTHONPATH: it finds its packages by the first python on PATH.
    variables["PATH"] = os.pathsep.join([str(environment.python.parent), variables["PATH"]])
    return Start(command, variables, f"127.0.0.1:{port}")


def _mlserver(environment: Environment, model: Path, scratch: Path) -> Start:
    port = _free_port()
    folder = scratch / "mlserver"
    folder.mkdir()
    settings = {
        "host": "127.0.0.1",
        "grpc_port": port,
        "http_port": _free_port(),
        "metrics_port": _free_port(),
        "parallel_workers": WORKERS,
        "debug": False,
    }
    model_settings = {
        "name": MODEL,
        "implementation": "bench.peers.mlserver_runtime.SupportTextRuntime",
        "max_batch_size": MAX_BATCH,
        "max_batch_time": WAIT_MS / 1000,
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    (folder / "model-settings.json").write_text(json.dumps(model_settings))
    command = [str(environment.folder / "bin" / "mlserver"), "start", str(folder)]
    return Start(command, _variables(model), f"127.0.0.1:{port}")


def _json_bodies(_environment: Environment, texts: Path, size: int, file: Path) -> str:
    lines = texts.read_text(encoding="utf-8").splitlines()
    return write_bodies(file, [json.dumps({"texts": group}).encode() for group in grouped(lines, size)])


def _oip_bodies(environment: Environment, texts: Path, size: int, file: Path) -> str:
    command = [str(environment.python), "-m", "bench.peers.oip_bodies"]
    command += ["--texts", str(texts), "--size", str(size), "--out", str(file)]
    environ = {**os.environ, "PYTHONPATH": os.getcwd()}
    done = subprocess.run(  # noqa: S603 - our own command
        command, env=environ, capture_output=True, text=True, timeout=INSTALL_S, check=False
    )
    if done.returncode:
        raise BenchError((done.stderr.strip().splitlines() or ["no reason given"])[-1])
    return str(file)


def _variables(model: Path) -> dict[str, str]:
    return {
        **os.environ,
        MODEL_VARIABLE: str(model.resolve()),
        "PYTHONPATH": os.getcwd(),
        "TOKENIZERS_PARALLELISM": "false",
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


PEERS = (
    Peer(
        "Triton, Python backend",
        "nvidia-pytriton",
        ("nvidia-pytriton", "tritonclient[grpc]", *COMPUTE),
        "lean",
        OIP_PATH,
        _triton,
        _oip_bodies,
    ),
    Peer("mosec", "mosec", ("mosec", *COMPUTE), "http1", "/inference", _mosec, _json_bodies),
    Peer(
        "MLServer",
        "mlserver",
        ("mlserver", "uvloop<0.22", "tritonclient[grpc]", *COMPUTE),  # uvloop 0.22 makes no loop unasked
        "lean",
        OIP_PATH,
        _mlserver,
        _oip_bodies,
    ),
)
