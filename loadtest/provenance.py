"""What made a report: the command as it was typed, and the versions that its figures may depend on.

Called by whoever writes a page; a page itself is made of values alone.
"""

from __future__ import annotations

import platform
import shlex
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_PACKAGES = ("minwatt", "onnxruntime", "tokenizers", "numpy", "plotly")


def made_by() -> str:
    """One line. Arguments are told as they were given: no secret is ever one."""
    versions = ", ".join(f"{name} {_version(name)}" for name in _PACKAGES)
    program = Path(sys.argv[0])
    name = "minwatt" if program.parent.name == "minwatt" or program.name == "minwatt" else program.name
    command = shlex.join([name, *sys.argv[1:]])
    now = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    return f"Made {now} by: {command} · {versions}, Python {platform.python_version()}"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "(not installed)"
