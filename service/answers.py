"""From a text's probabilities to its answer on the wire.

Pure. `inference` binds task, options and text; `engine` calls the result on its thread with the text's row
of the batch's softmax.
"""

from __future__ import annotations

from collections.abc import Callable

from minwatt.v1.decode import EncodedText, best_labels, likeliest_spans
from minwatt.v1.inference_pb2 import Classification, Entity, EntityList, Label
from minwatt.v1.model_dir import Task
from service.request import Floats, TextJob
from service.validation import Options


def text_job(task: Task, options: Options, text: str, encoded: EncodedText) -> TextJob:
    """The text as the engine computes it; offsets of its entities count code points of `text` as sent."""
    read = (
        _classification(task, options, encoded)
        if task.kind == "classification"
        else _entities(task, options, text, encoded)
    )
    return TextJob(encoded, task.output, read)


def _classification(task: Task, options: Options, encoded: EncodedText) -> Callable[[Floats], Classification]:
    def read(probabilities: Floats) -> Classification:
        best = best_labels(probabilities, task.labels, options.top_k, options.min_score)
        return Classification(
            labels=[Label(name=label.name, score=label.score) for label in best], truncated=encoded.truncated
        )

    return read


def _entities(
    task: Task, options: Options, text: str, encoded: EncodedText
) -> Callable[[Floats], EntityList]:
    def read(probabilities: Floats) -> EntityList:
        spans = likeliest_spans(probabilities, encoded, task.labels, options.min_score)
        entities = [
            Entity(label=s.label, score=s.score, text=text[s.start : s.end], start=s.start, end=s.end)
            for s in spans
        ]
        return EntityList(entities=entities, truncated=encoded.truncated)

    return read
