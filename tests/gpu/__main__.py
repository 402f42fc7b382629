"""`make gpu-check`: the tests of this folder and a sweep by `minwatt profile`, in one file to send back.

    python -m tests.gpu [--out DIR] [--no-sweep]

Exit code 0 where all passed, 1 where a test or the sweep failed (the report is written all the same), 2
without what it needs.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tests.gpu.card import lack

PACKAGES = ("onnxruntime-gpu", "numpy", "tokenizers", "nvidia-cudnn-cu12", "nvidia-cudnn-cu13", "tensorrt")
SWEEP = "--batches 1,8,32 --delays 0ms,5ms --tokens 16,48 --loads 0.3,0.85 --point 6s"
CLOCK_SHARES = (1.0, 0.8, 0.6)  # of the card's highest


def versions() -> dict[str, str]:
    there = {}
    for package in PACKAGES:
        try:
            there[package] = version(package)
        except PackageNotFoundError:
            continue
    return there


def card() -> str:
    """The card's line of nvidia-smi, which comes with the driver."""
    fields = "name,driver_version,memory.total,power.limit,clocks.max.sm,mig.mode.current"
    done = subprocess.run(
        ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader"], capture_output=True, text=True
    )
    return done.stdout.strip() or done.stderr.strip()


def supported_clocks() -> list[str]:
    """The sweep's flag: the card's clocks nearest to shares of its highest; nothing where it names none."""
    query = ["nvidia-smi", "--query-supported-clocks=gr", "--format=csv,noheader,nounits"]
    told = subprocess.run(query, capture_output=True, text=True).stdout
    there_mhz = sorted({int(line) for line in told.split() if line.isdigit()})
    if len(there_mhz) < len(CLOCK_SHARES):
        return []
    chosen = [
        min(there_mhz, key=lambda one, share=share: abs(one - share * there_mhz[-1]))
        for share in CLOCK_SHARES
    ]
    return ["--clocks", ",".join(str(one) for one in dict.fromkeys(chosen))]


def run(command: list[str], environ: Mapping[str, str], log: Path) -> int:
    """Shows and keeps what the command says."""
    print(f"gpu-check: {' '.join(command)}", flush=True)
    with log.open("w") as kept:
        done = subprocess.run(command, env=dict(environ), stdout=kept, stderr=subprocess.STDOUT)
    print(log.read_text(), flush=True)
    return done.returncode


def figures(file: Path) -> dict[str, Any]:
    gathered: dict[str, Any] = {}
    for line in file.read_text().splitlines() if file.exists() else []:
        gathered |= json.loads(line)
    return gathered


def main() -> int:
    parser = argparse.ArgumentParser(prog="gpu-check")
    parser.add_argument("--out", type=Path, default=Path("out/gpu-check"))
    parser.add_argument(
        "--no-sweep", action="store_true", help="leave `minwatt profile` out: it takes minutes"
    )
    options = parser.parse_args()
    missing = lack()
    if missing is None and "onnxruntime-gpu" not in versions():
        missing = "onnxruntime-gpu is not installed in this environment; `make gpu-check` makes one"
    if missing is not None:
        print(f"gpu-check: {missing}", file=sys.stderr)
        return 2
    options.out.mkdir(parents=True, exist_ok=True)
    kept = options.out / "figures.jsonl"
    kept.unlink(missing_ok=True)
    environ = os.environ | {"MINWATT_GPU_FIGURES": str(kept)}
    tests = options.out / "tests.log"
    codes = {
        "tests": run([sys.executable, "-m", "pytest", "tests/gpu", "-v", "--timeout=600"], environ, tests)
    }
    profile = options.out / "profile.yaml"
    if not options.no_sweep:
        clocks = supported_clocks() if os.geteuid() == 0 else []  # setting them needs root
        flags = ["--provider", "cuda", "--out", str(profile), *SWEEP.split(), *clocks]
        command = [sys.executable, "-m", "minwatt", "profile", *flags]
        codes["sweep"] = run(command, environ, options.out / "sweep.log")
    report = options.out / "report.json"
    report.write_text(
        json.dumps(
            {
                "at": datetime.now(UTC).isoformat(timespec="seconds"),
                "card": card(),
                "machine": f"{platform.platform()}, {os.cpu_count()} cores",
                "versions": versions(),
                "exit_codes": codes,
                "figures": figures(kept),
                "tests": tests.read_text(),
                "profile": profile.read_text() if profile.exists() else None,
            },
            indent=2,
        )
    )
    print(f"gpu-check: the report to send back is {report}")
    return 1 if any(codes.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
