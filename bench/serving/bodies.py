"""The messages that are sent: texts as minwatt's requests, prepared before anything is measured.

The echo gets the same ones. Called by `run`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.serving.body_files import grouped, write_bodies
from minwatt.v1.inference_pb2 import ClassifyRequest, ClassifyStreamRequest

TEXTS_PER_BATCH = 16


@dataclass(frozen=True, slots=True)
class Shape:
    """How texts are sent: in which file's messages, how many a call, and by which method."""

    bodies: str
    texts_per_call: int
    method: str
    stream: bool


def shapes(texts: Sequence[str], folder: Path) -> dict[str, Shape]:
    """Writes the messages into `folder`. A stream's items lack their id, which the load sets before them."""
    one = [ClassifyRequest(texts=[text]) for text in texts]
    sixteen = [ClassifyRequest(texts=group) for group in grouped(texts, TEXTS_PER_BATCH)]
    items = [ClassifyStreamRequest(request=request) for request in one]
    files = {
        name: write_bodies(folder / f"{name}.bodies", [message.SerializeToString() for message in messages])
        for name, messages in (("unary", one), ("batch16", sixteen), ("stream", items))
    }
    return {
        "unary": Shape(files["unary"], 1, "Classify", stream=False),
        "batch16": Shape(files["batch16"], TEXTS_PER_BATCH, "Classify", stream=False),
        "stream": Shape(files["stream"], 1, "ClassifyStream", stream=True),
    }
