"""What the figures were measured on: versions and the machine, without a name or a path of it.

Called by `run` and by `peers`.
"""

from __future__ import annotations

import platform

import psutil

from report.provenance import installed, processor

PACKAGES = ("grpcio", "onnxruntime", "tokenizers", "protobuf", "numpy", "pyvoy")
GIB = 1024**3


def versions() -> dict[str, str]:
    return {"python": platform.python_version()} | installed(PACKAGES)


def machine() -> dict[str, str]:
    return {
        "processor": processor(),
        "cores": str(psutil.cpu_count()),
        "memory": f"{psutil.virtual_memory().total / GIB:.0f} GiB",
        "system": f"{platform.system()} {platform.release().split('-')[0]} {platform.machine()}",
    }
