"""What a capture tells of a request: what it asked for when it came, and what became of it.

Pure. Called by `inference`, for sampled requests only.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from minwatt.v1.inference_pb2 import LONG_TEXT_TRUNCATE, PRIORITY_BATCH, ClassifyRequest
from service.capture.sampling import Seen
from service.replies import AnyRequest
from service.request import Cost


class Described(NamedTuple):
    """Of a request, when it came."""

    task: Literal["classify", "extract"]
    texts: int
    tokens: int | None  # None: not known before it was computed
    size_bytes: int
    batch: bool
    model: str
    no_cache: bool
    truncate: bool
    words: tuple[str, ...] | None = None


def described(message: AnyRequest, model: str, keeps_texts: bool) -> Described:
    """`model` stands for the name in the message, which may be anything."""
    options = message.options
    return Described(
        task="classify" if isinstance(message, ClassifyRequest) else "extract",
        texts=len(message.texts),
        tokens=None,
        size_bytes=message.ByteSize(),
        batch=options.priority == PRIORITY_BATCH,
        model=model,
        no_cache=options.no_cache,
        truncate=options.long_text == LONG_TEXT_TRUNCATE,
        words=tuple(message.texts) if keeps_texts else None,
    )


def seen(what: Described, tenant: str, times_s: tuple[float, float, float], outcome: str, cost: Cost) -> Seen:
    """`times_s`: when it came, when its answer is worth nothing any more, and now, by one clock."""
    arrived_s, deadline_s, now_s = times_s
    tokens = what.tokens
    if tokens is None and cost.tokens and not cost.cached_texts:
        tokens = cost.tokens
    return Seen(
        arrived_s=arrived_s,
        task=what.task,
        tenant=tenant,
        texts=what.texts,
        tokens=tokens,
        size_bytes=what.size_bytes,
        deadline_s=max(0.0, deadline_s - arrived_s),
        batch=what.batch,
        outcome=outcome,
        latency_s=max(0.0, now_s - arrived_s),
        model=what.model,
        no_cache=what.no_cache,
        truncate=what.truncate,
        words=what.words,
    )
