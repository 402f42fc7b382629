"""What the client asks for: options with their meaning and defaults, and the messages made of them.

Pure. Called by `client` and `streaming`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypedDict

from minwatt.v1 import inference_pb2 as pb

Priority = Literal["interactive", "batch"]
_PRIORITIES: dict[str, pb.Priority.ValueType] = {
    "interactive": pb.PRIORITY_INTERACTIVE,
    "batch": pb.PRIORITY_BATCH,
}


class ExtractOptions(TypedDict, total=False):
    min_score: float  # entities that are less sure are left out; default 0
    truncate: bool  # read the first tokens of a text that is too long, instead of refusing it; default False
    priority: Priority  # `batch` is refused first (Overloaded) when room or watts are short


class ClassifyOptions(ExtractOptions, total=False):
    top_k: int  # labels a text, best first; default 1


def classify_request(
    model: str,
    texts: Sequence[str],
    *,
    top_k: int = 1,
    min_score: float = 0.0,
    truncate: bool = False,
    priority: Priority = "interactive",
) -> pb.ClassifyRequest:
    options = pb.ClassifyOptions(
        top_k=top_k, min_score=min_score, long_text=_long_text(truncate), priority=_priority(priority)
    )
    return pb.ClassifyRequest(model=model, texts=_listed(texts), options=options)


def extract_request(
    model: str,
    texts: Sequence[str],
    *,
    min_score: float = 0.0,
    truncate: bool = False,
    priority: Priority = "interactive",
) -> pb.ExtractEntitiesRequest:
    options = pb.ExtractEntitiesOptions(
        min_score=min_score, long_text=_long_text(truncate), priority=_priority(priority)
    )
    return pb.ExtractEntitiesRequest(model=model, texts=_listed(texts), options=options)


def _long_text(truncate: bool) -> pb.LongText.ValueType:
    return pb.LONG_TEXT_TRUNCATE if truncate else pb.LONG_TEXT_REFUSE


def _priority(priority: str) -> pb.Priority.ValueType:
    if priority not in _PRIORITIES:
        raise ValueError(f"priority = {priority!r}: allowed: {', '.join(_PRIORITIES)}")
    return _PRIORITIES[priority]


def _listed(texts: Sequence[str]) -> Sequence[str]:
    if isinstance(texts, str):  # a string is a sequence of its characters, and never meant so
        raise TypeError("texts: a list of strings is needed, not one string")
    return texts
