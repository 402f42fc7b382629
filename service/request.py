"""A request inside the server: its texts, what became of them, and what they cost.

Pure data. Made by `inference`, filled by `dispatch`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from minwatt.v1.decode import EncodedText
from minwatt.v1.inference_pb2 import Classification, EntityList
from service.spans import RequestSpan
from service.waiting import NOBODYS, Share

Floats = NDArray[np.float32]
TextResult = Classification | EntityList | bytes  # bytes: packed, for a front end to unpack


class TextJob(NamedTuple):
    """One text to compute: its tokens, the head that answers it, and how the head's softmax is read."""

    encoded: EncodedText
    output: str  # the graph's output, e.g. intent_logits
    read: Callable[[Floats], TextResult]  # of this text's row


@dataclass(frozen=True, slots=True)
class ComputedBatch:
    """What the engine made of a batch: results in its order, and seconds from collating to reading."""

    results: Sequence[TextResult]
    padded_tokens: int
    started_s: float
    compute_s: float


@dataclass(slots=True)
class Cost:
    """Of a request so far: tokens and joules are sums, times the longest, the batch the largest."""

    tokens: int = 0
    queue_s: float = 0.0
    compute_s: float = 0.0
    batch_texts: int = 0
    energy_j: float | None = 0.0  # None once a batch's joules were unknown
    cached_texts: int = 0  # answered by what others had computed; nothing above is theirs
    cache_s: float | None = None  # asking the cache and filling it; None: it was not asked

    def add_text(
        self, tokens: int, queue_s: float, compute_s: float, batch_texts: int, energy_j: float | None
    ) -> None:
        """A text of the request was computed in such a batch."""
        self.tokens += tokens
        if queue_s > self.queue_s:
            self.queue_s = queue_s
        if compute_s > self.compute_s:
            self.compute_s = compute_s
        if batch_texts > self.batch_texts:
            self.batch_texts = batch_texts
        self.energy_j = None if energy_j is None or self.energy_j is None else self.energy_j + energy_j

    def add(self, other: Cost) -> None:
        """What some more of the same request's texts cost."""
        self.tokens += other.tokens
        self.queue_s = max(self.queue_s, other.queue_s)
        self.compute_s = max(self.compute_s, other.compute_s)
        self.batch_texts = max(self.batch_texts, other.batch_texts)
        if self.energy_j is None or other.energy_j is None:
            self.energy_j = None
        else:
            self.energy_j += other.energy_j
        self.cached_texts += other.cached_texts


FREE = Cost()  # of what was refused


@dataclass(slots=True, eq=False)
class Request:
    """Accepted and tokenised. Times are of the server's monotonic clock."""

    jobs: Sequence[TextJob]
    arrived_s: float
    due_s: float
    deadline_s: float = math.inf
    share: Share = NOBODYS
    span: RequestSpan | None = None  # while it is traced
    cost: Cost = field(default_factory=Cost)
    results: list[TextResult | None] = field(init=False)
    unanswered: int = field(init=False)  # texts

    def __post_init__(self) -> None:
        self.results = [None] * len(self.jobs)
        self.unanswered = len(self.jobs)


class Answered(NamedTuple):
    """A request's results in the order of its texts, and what they cost."""

    results: Sequence[TextResult | None]
    cost: Cost
