"""A virtual environment for each peer, made once under .venv-peers/.

Called by `run`.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.serving.processes import BenchError

HOME = Path(".venv-peers")
INSTALL_S = 900.0


@dataclass(frozen=True, slots=True)
class Environment:
    folder: Path  # absolute

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    @property
    def packages(self) -> Path:
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        return self.folder / "lib" / version / "site-packages"

    def version(self, package: str) -> str:
        code = f"from importlib.metadata import version; print(version({package!r}))"
        done = subprocess.run(  # noqa: S603 - our own command
            [self.python, "-c", code], capture_output=True, text=True, check=False
        )
        return done.stdout.strip() or "unknown"


def installed(name: str, requirements: Sequence[str]) -> Environment:
    """The environment with these packages; made anew where it is not complete. Raises BenchError."""
    folder = (HOME / re.sub(r"\W+", "-", name.lower())).resolve()
    environment = Environment(folder)
    complete = folder / "complete"
    wanted = "\n".join(requirements)
    if complete.exists() and complete.read_text() == wanted:
        return environment
    run_or_explain([sys.executable, "-m", "venv", "--clear", str(folder)])
    run_or_explain([str(environment.python), "-m", "pip", "install", "--quiet", *requirements])
    complete.write_text(wanted)
    return environment


def run_or_explain(command: Sequence[str]) -> None:
    """Raises BenchError with the last error that the command printed."""
    try:
        done = subprocess.run(  # noqa: S603 - our own command
            command, capture_output=True, text=True, timeout=INSTALL_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise BenchError(f"can't be installed: not done in {INSTALL_S:g} s") from None
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise BenchError(f"can't be installed: {lines[-1] if lines else done.stderr[-200:].strip()}")
