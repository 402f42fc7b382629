"""What ONNX Runtime, CUDA and the loader say when a device can't be used, as one line a person can act on.

Pure. Called by `onnx`.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from service.runtime.options import GpuOptions

MOST_CHARACTERS = 300

_Say = Callable[[re.Match[str], GpuOptions], str]


def _memory(_match: re.Match[str], gpu: GpuOptions) -> str:
    if gpu.memory_limit_bytes is not None:
        return (
            f"GPU {gpu.device_id}: its memory, or gpu-memory = {gpu.memory_limit_bytes} bytes, is not enough"
        )
    return f"GPU {gpu.device_id}: its memory is not enough; lower max-batch-texts, or free the card"


# In this order: the first that is found in what was said.
_FAULTS: tuple[tuple[re.Pattern[str], _Say], ...] = (
    (
        re.compile(r"libcuda\.so"),
        lambda _m, _g: "the NVIDIA driver is not installed (libcuda.so.1 is missing)",
    ),
    (
        re.compile(r"(lib[\w.+-]+\.so[\w.]*): cannot open shared object file"),
        lambda m, _g: (
            f"the library {m[1]} is missing; it comes with the CUDA, cuDNN or TensorRT packages that "
            "this onnxruntime-gpu was built for"
        ),
    ),
    (
        re.compile(r"driver version is insufficient|unsupported PTX|CUDA failure 35\b", re.IGNORECASE),
        lambda _m, _g: "the NVIDIA driver is older than the CUDA that this onnxruntime-gpu needs; update it",
    ),
    (
        re.compile(r"no CUDA-capable device|CUDA_ERROR_NO_DEVICE|CUDA failure 100\b", re.IGNORECASE),
        lambda _m, _g: "no GPU is visible to CUDA; is CUDA_VISIBLE_DEVICES set?",
    ),
    (
        re.compile(r"invalid device ordinal|Invalid CUDA device|CUDA failure 101\b", re.IGNORECASE),
        lambda _m, g: f"gpu = {g.device_id}: there is no such GPU",
    ),
    (
        re.compile(
            r"out of memory|OutOfMemory|ALLOC_FAILED|Failed to allocate memory|bad allocation"
            r"|Available memory of \d+ is smaller",
            re.IGNORECASE,
        ),
        _memory,
    ),
    (
        re.compile(r"enough workspace|Could not find any implementation for node", re.IGNORECASE),
        lambda _m, g: (
            f"GPU {g.device_id}: TensorRT finds no way to compute the graph in the memory it may use"
        ),
    ),
    (
        re.compile(
            r"all the compute graph nodes|This session cannot use the graph capture feature", re.IGNORECASE
        ),
        lambda _m, _g: (
            "cuda-graphs: parts of this graph run on the CPU, so it can't be captured; leave it off"
        ),
    ),
)


def fault(said: str, gpu: GpuOptions) -> str:
    """One line. What is not known here is handed on, shortened."""
    for pattern, say in _FAULTS:
        match = pattern.search(said)
        if match is not None:
            return say(match, gpu)
    return " ".join(said.split())[:MOST_CHARACTERS]
