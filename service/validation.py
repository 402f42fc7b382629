"""Whether a request means something this server can answer: each field, its value and what is allowed.

Pure. Called by `inference` before a request takes any room; token counts are checked later, by the tokenizer.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet

from minwatt.v1.inference_pb2 import (
    LONG_TEXT_TRUNCATE,
    PRIORITY_BATCH,
    ClassifyRequest,
    ExtractEntitiesRequest,
    LongText,
    Priority,
)
from minwatt.v1.model_dir import ModelSpec, Task
from service.statuses import Violation, invalid, no_such_task, unknown_model


@dataclass(frozen=True, slots=True)
class Options:
    """What the request asks of its texts."""

    top_k: int  # classification only
    min_score: float
    truncate: bool
    batch: bool = False  # its priority class; else interactive
    no_cache: bool = False


USUAL = Options(top_k=1, min_score=0.0, truncate=False)  # of a request that asks for none


def check(
    request: ClassifyRequest | ExtractEntitiesRequest, spec: ModelSpec, max_texts: int
) -> tuple[Task, Options]:
    """The head that answers, and the options. Raises Refusal: NOT_FOUND, UNIMPLEMENTED, INVALID_ARGUMENT."""
    model = request.model
    if model and model != spec.name:
        raise unknown_model(model, [spec.name])
    kind = "classification" if isinstance(request, ClassifyRequest) else "ner"
    task = spec.task_of_kind(kind)
    if task is None:
        raise no_such_task(spec.name, kind, [task.name for task in spec.tasks])
    violations = list(_texts(request.texts, max_texts))
    if not request.HasField("options"):
        if violations:
            raise invalid(violations)
        return task, USUAL
    violations += _options(request, task)
    if violations:
        raise invalid(violations)
    top_k = request.options.top_k if isinstance(request, ClassifyRequest) else 0
    options = request.options
    return task, Options(
        top_k=max(1, top_k),
        min_score=options.min_score,
        truncate=options.long_text == LONG_TEXT_TRUNCATE,
        batch=options.priority == PRIORITY_BATCH,
        no_cache=options.no_cache,
    )


def check_timeout(timeout_s: float) -> None:
    """A stream request's own timeout; 0 means none."""
    if not 0 <= timeout_s < math.inf:
        raise invalid(
            [Violation("timeout_seconds", f"is {timeout_s:g}; allowed: 0 (none) or a positive number")]
        )


def _texts(texts: Sequence[str], max_texts: int) -> Iterator[Violation]:
    if not texts:
        yield Violation("texts", "is empty; at least one text is needed")
    if len(texts) > max_texts:
        yield Violation("texts", f"has {len(texts)} texts; the limit is {max_texts} a request")
        return
    for index, text in enumerate(texts):
        if not text or text.isspace():
            yield Violation(
                f"texts[{index}]", "is empty; a text needs at least one character that is not a space"
            )


def _options(request: ClassifyRequest | ExtractEntitiesRequest, task: Task) -> Iterator[Violation]:
    options = request.options
    yield from _unknown_options(options)
    if isinstance(request, ClassifyRequest) and request.options.top_k > len(task.labels):
        yield Violation(
            "options.top_k",
            f"is {request.options.top_k}; allowed: 0 to {len(task.labels)}, the model's labels",
        )
    if not 0 <= options.min_score <= 1:
        yield Violation("options.min_score", f"is {options.min_score:g}; allowed: 0 to 1")
    for name, value, allowed in (
        ("long_text", options.long_text, LongText),
        ("priority", options.priority, Priority),
    ):
        if value not in allowed.values():
            yield Violation(f"options.{name}", f"is {value}; allowed: {', '.join(allowed.keys())}")


def _unknown_options(options: Message) -> Iterator[Violation]:
    allowed = ", ".join(f"{field.name} ({field.number})" for field in options.DESCRIPTOR.fields)
    fields = UnknownFieldSet(options)
    for number in sorted({fields[index].field_number for index in range(len(fields))}):
        yield Violation("options", f"field number {number} is unknown; allowed: {allowed}")
