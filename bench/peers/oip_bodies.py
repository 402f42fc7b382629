"""Texts as ModelInfer messages of the Open Inference Protocol, for Triton and MLServer.

    python -m bench.peers.oip_bodies --texts FILE --size N --out FILE

Runs in a peer's environment, which has the protocol's stubs.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from tritonclient.grpc import service_pb2

from bench.peers.sizing import MODEL
from bench.serving.body_files import grouped, write_bodies


def message(texts: list[str]) -> bytes:
    request = service_pb2.ModelInferRequest(model_name=MODEL)
    text = request.inputs.add(name="text", datatype="BYTES", shape=[len(texts), 1])
    text.contents.bytes_contents.extend(one.encode() for one in texts)
    serialized: bytes = request.SerializeToString()
    return serialized


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.peers.oip_bodies", description=__doc__)
    parser.add_argument("--texts", type=Path, required=True)
    parser.add_argument("--size", type=int, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    texts = options.texts.read_text(encoding="utf-8").splitlines()
    write_bodies(options.out, [message(group) for group in grouped(texts, options.size)])


if __name__ == "__main__":
    main()
