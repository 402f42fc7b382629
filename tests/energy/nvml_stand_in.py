"""Builds fake_nvml.c and works the real pynvml on it, in a subprocess."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

_HERE = Path(__file__).parent


@cache
def _library() -> tempfile.TemporaryDirectory[str]:
    folder = tempfile.TemporaryDirectory(prefix="fake-nvml-")
    target = Path(folder.name) / "libnvidia-ml.so.1"
    flags = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    try:
        subprocess.run(["cc", *flags, "-o", target, _HERE / "fake_nvml.c"], check=True)
    except FileNotFoundError as error:
        raise RuntimeError("these tests build a C library: install a C compiler (cc)") from error
    return folder


def environ(script: str) -> dict[str, str]:
    """For a process that is to find the library, following the script."""
    folder = _library().name
    script_file = Path(folder) / "script"
    script_file.write_text(script)
    environ = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    return environ | {"LD_LIBRARY_PATH": folder, "FAKE_NVML_SCRIPT": str(script_file)}


def probe(script: str, log: Path | None = None, **plan: Any) -> Any:
    """What nvml_probe answers to a plan; `log` takes the clocks that were set."""
    logged = {} if log is None else {"FAKE_NVML_LOG": str(log)}
    command = [sys.executable, str(_HERE / "nvml_probe.py"), json.dumps(plan)]
    done = subprocess.run(command, env=environ(script) | logged, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
