"""Coverage-guided fuzzing of messages with atheris (libFuzzer). What it breaks on, it writes to a file.

python -m tests.fuzz MODEL_DIR -max_total_time=600 CORPUS_DIR      # or: make fuzz
"""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import atheris

from minwatt.v1.inference_pb2 import (
    LONG_TEXT_TRUNCATE,
    ClassifyOptions,
    ClassifyRequest,
    ClassifyStreamRequest,
)

with atheris.instrument_imports(include=["service", "minwatt.v1.decode"]):
    from tests.fuzz.replica import REQUESTS, FuzzedReplica

METHODS = sorted(REQUESTS)
OPTIONS = ClassifyOptions(top_k=2, min_score=0.5, long_text=LONG_TEXT_TRUNCATE, no_cache=True)
PLAIN = (
    ClassifyRequest(model="tiny-text", texts=["hello", "alice lives in new york"], options=OPTIONS),
    ClassifyRequest(texts=["card " * 100, "東京"]),
)


def seeds(folder: Path) -> None:
    """Messages to start from: by chance alone a fuzzer seldom finds the first one that is read."""
    for number, request in enumerate(PLAIN):
        streamed = ClassifyStreamRequest(id="1", request=request, timeout_seconds=1.0)
        for index, name in enumerate(METHODS):
            message = streamed if name.endswith("Stream") else request
            (folder / f"{name}-{number}").write_bytes(bytes([index]) + message.SerializeToString())


def main() -> None:
    with TemporaryDirectory() as folder:
        seeds(Path(folder))
        fuzz([*sys.argv, folder])


def fuzz(arguments: list[str]) -> None:
    replica = FuzzedReplica(Path(arguments.pop(1)), cache_bytes=1024**2)

    def one(data: bytes) -> None:
        if data:
            replica.take(METHODS[data[0] % len(METHODS)], data[1:])

    atheris.Setup(arguments, one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
