"""What a graph takes of memory once it is loaded, measured in a process that holds nothing else.

    python -m modelkit.card.resident cpu FILE OUTPUT OUTPUT      # prints bytes

Owns that process. Called by `run`. Linux: resident pages are read from /proc.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from minwatt.v1.errors import UsageError
from modelkit.inference import Graph, Provider

WARM_SHAPE = (8, 32)  # texts, tokens: what a run allocates counts too
LIMIT_S = 300.0
NO_OUTPUT = ""  # of a head that the model has not


def resident_bytes(file: Path, outputs: tuple[str | None, str | None], provider: Provider) -> int:
    """The process's growth by session and one batch. Raises UsageError when it fails."""
    command = [sys.executable, "-m", "modelkit.card.resident", provider, str(file)]
    command += [output or NO_OUTPUT for output in outputs]
    path = os.pathsep.join(filter(None, sys.path))  # what this process imports, that one must
    done = subprocess.run(  # noqa: S603 - this interpreter, this module
        command,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        env={**os.environ, "PYTHONPATH": path},
        check=False,
    )
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise UsageError(f"{file}: could not be loaded in a process of its own: {reason}")
    return int(done.stdout)


def _output(name: str) -> str | None:
    return None if name == NO_OUTPUT else name


def _now_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _measure(provider: Provider, file: str, outputs: tuple[str | None, str | None]) -> int:
    before = _now_bytes()
    graph = Graph(Path(file), outputs, provider)
    ids = np.zeros(WARM_SHAPE, np.int64)
    graph.run(ids, np.ones_like(ids))
    return max(0, _now_bytes() - before)


if __name__ == "__main__":
    asked, name, first, second = sys.argv[1:]
    print(_measure("cuda" if asked == "cuda" else "cpu", name, (_output(first), _output(second))))  # noqa: T201
