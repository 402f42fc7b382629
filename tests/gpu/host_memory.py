"""What a model's session leaves in the host's memory, in a process of its own.

    python -m tests.gpu.host_memory MODEL VARIANT TINY_MODEL     # prints JSON

A tiny model comes first: what CUDA and its libraries take for themselves is not the weights'.
"""

from __future__ import annotations

import ctypes
import gc
import json
import sys
from pathlib import Path

import numpy as np

from minwatt.v1.model_dir import ModelDirectory
from service.runtime.buckets import Buckets
from service.runtime.onnx import BoundEncoder
from service.runtime.options import RuntimeOptions

RUNS = 200


def anonymous_bytes() -> int:
    """Resident and backed by no file, after what is free was given back."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) * 1024


def opened(model: Path, variant: str | None) -> BoundEncoder:
    directory = ModelDirectory.open(model)
    heads = {task.output: len(task.labels) for task in directory.spec.tasks}
    graph = directory.variant_file(variant or directory.spec.default_variant)
    return BoundEncoder(graph, heads, RuntimeOptions("cuda", 1), Buckets(directory.spec.max_tokens))


def run(encoder: BoundEncoder, times: int) -> None:
    shape = encoder.shape_for(8, 32)
    for _ in range(times):
        encoder.run(np.ones(shape, np.int64), np.ones(shape, np.int64))


def main(model: str, variant: str, tiny_model: str) -> None:
    tiny = opened(Path(tiny_model), None)
    run(tiny, 2)
    before = anonymous_bytes()
    encoder = opened(Path(model), variant)
    run(encoder, 2)
    resident = anonymous_bytes()
    run(encoder, RUNS)
    print(json.dumps({"host_bytes": resident - before, "growth_in_use_bytes": anonymous_bytes() - resident}))


if __name__ == "__main__":
    main(*sys.argv[1:])
