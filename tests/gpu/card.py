"""Whether this machine has what `make gpu-check` needs.

Standard library alone: it runs before there is an environment.

python -m tests.gpu.card      # silent, or one line and exit code 2
"""

from __future__ import annotations

import ctypes
import sys

NO_ERROR = 0


def lack() -> str | None:
    """What is missing, as one line; None where a card answers."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return "no NVIDIA driver is installed here (libcuda.so.1 is missing)"
    status = driver.cuInit(0)
    if status != NO_ERROR:
        return f"the NVIDIA driver finds no card it can use (cuInit gives {status})"
    count = ctypes.c_int()
    if driver.cuDeviceGetCount(ctypes.byref(count)) != NO_ERROR or count.value == 0:
        return "no NVIDIA card is visible; is CUDA_VISIBLE_DEVICES set?"
    try:
        ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return "libnvidia-ml.so.1 is missing: watts can't be read"
    return None


def main() -> int:
    missing = lack()
    if missing is None:
        return 0
    print(f"gpu-check: {missing}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
