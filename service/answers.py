"""From a text's probabilities to its answer on the wire.

Pure. `inference` binds task, options and text; `engine` calls the result on its thread with the text's row
of the batch's softmax. A *packed* answer is what `service.cache` keeps: all that any options may ask for, in
few bytes, and no word of the text. Computed or unpacked, the message is made by the same lines, so the
bytes are the same.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from minwatt.v1.decode import EncodedText, EntitySpan, best_labels, likeliest_spans
from minwatt.v1.inference_pb2 import Classification, Entity, EntityList
from minwatt.v1.model_dir import Task
from service.request import Floats, TextJob, TextResult
from service.validation import Options

_SPAN = struct.Struct("<HfII")  # index of the B- label, score, start, end; a score is a float32 by itself

Keep = Callable[[bytes], None]


def text_job(
    task: Task, options: Options, text: str, encoded: EncodedText, keep: Keep | None = None
) -> TextJob:
    """The text as the engine computes it; offsets of its entities count code points of `text` as sent.

    `keep` is given the packed answer, on the engine's thread.
    """
    read = (
        _classification(task, options, encoded, keep)
        if task.kind == "classification"
        else _entities(task, options, text, encoded, keep)
    )
    return TextJob(encoded, task.output, read)


def unpacked(task: Task, options: Options, text: str, packed: bytes) -> TextResult:
    """The answer to the same text that `packed` was made of."""
    body, truncated = memoryview(packed)[:-1], bool(packed[-1])
    if task.kind == "classification":
        return _classified(task, options, np.frombuffer(body, np.float32), truncated)
    spans = (
        EntitySpan(task.labels[label][2:], score, start, end)
        for label, score, start, end in _SPAN.iter_unpack(body)
    )
    return _extracted(options, text, spans, truncated)


def packing(task: Task, encoded: EncodedText) -> Callable[[Floats], bytes]:
    """Reads a text's probabilities to its packed answer, of which `unpacked` makes the message elsewhere."""
    truncated = bytes([encoded.truncated])
    if task.kind == "classification":
        return lambda probabilities: probabilities.astype(np.float32, copy=False).tobytes() + truncated
    return lambda probabilities: (
        _packed(task.labels, likeliest_spans(probabilities, encoded, task.labels, min_score=0.0)) + truncated
    )


def _classification(
    task: Task, options: Options, encoded: EncodedText, keep: Keep | None
) -> Callable[[Floats], Classification]:
    def read(probabilities: Floats) -> Classification:
        if keep is not None:
            keep(probabilities.astype(np.float32, copy=False).tobytes() + bytes([encoded.truncated]))
        return _classified(task, options, probabilities, encoded.truncated)

    return read


def _classified(task: Task, options: Options, probabilities: Floats, truncated: bool) -> Classification:
    found = Classification()
    if truncated:
        found.truncated = True
    for name, score in best_labels(probabilities, task.labels, options.top_k, options.min_score):
        found.labels.add(name=name, score=score)
    return found


def _entities(
    task: Task, options: Options, text: str, encoded: EncodedText, keep: Keep | None
) -> Callable[[Floats], EntityList]:
    def read(probabilities: Floats) -> EntityList:
        spans = likeliest_spans(probabilities, encoded, task.labels, min_score=0.0)
        if keep is not None:
            keep(_packed(task.labels, spans) + bytes([encoded.truncated]))
        return _extracted(options, text, spans, encoded.truncated)

    return read


def _packed(labels: Sequence[str], spans: Iterable[EntitySpan]) -> bytes:
    return b"".join(_SPAN.pack(labels.index(f"B-{s.label}"), s.score, s.start, s.end) for s in spans)


def _extracted(options: Options, text: str, spans: Iterable[EntitySpan], truncated: bool) -> EntityList:
    entities = [
        Entity(label=s.label, score=s.score, text=text[s.start : s.end], start=s.start, end=s.end)
        for s in spans
        if s.score >= options.min_score
    ]
    return EntityList(entities=entities, truncated=truncated)
