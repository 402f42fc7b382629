"""Writes constraints.txt: the exact versions that a fresh resolution of all extras but `gpu` gives.

Called by `make lock`. `gpu` is left out because onnxruntime-gpu and onnxruntime carry the same module and
can't be resolved together.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HEADER = "# Exact versions that CI runs. Written by `make lock`; ranges are in pyproject.toml.\n"


def resolve() -> list[str]:
    """`name==version` of everything that the extras pull in, sorted; nothing is installed."""
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        report = Path(folder) / "report.json"
        pip = [str(Path(folder) / "bin" / "pip"), "install", "--quiet", "--dry-run", "--ignore-installed"]
        subprocess.run([*pip, "--report", str(report), f"{ROOT}[test,proto,train,k8s,redis]"], check=True)  # noqa: S603
        packages = json.loads(report.read_text())["install"]
    pins = {}
    for package in packages:
        name, version = package["metadata"]["name"], package["metadata"]["version"]
        if name.lower() != "minwatt":
            pins[name.lower().replace("_", "-")] = version.partition("+")[0]
    return [f"{name}=={version}" for name, version in sorted(pins.items())]


if __name__ == "__main__":
    pins = resolve()
    (ROOT / "constraints.txt").write_text(HEADER + "\n".join(pins) + "\n")
    sys.stdout.write(f"constraints.txt: {len(pins)} packages\n")
