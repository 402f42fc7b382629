"""Computes a batch: collates it, runs the encoder once, reads each text's answer from its head.

Runs on a worker's own thread (`workers`); engines may share an encoder, nothing else.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from minwatt.v1.decode import softmax
from service.collate import Shape, collate
from service.request import ComputedBatch, TextJob


class Encoder(Protocol):
    """A resident model."""

    def shape_for(self, texts: int, tokens: int) -> Shape:
        """What such a batch must be padded to: nothing more, or the smallest shape that was prepared."""
        ...

    def run(
        self, input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]
    ) -> Mapping[str, NDArray[np.float32]]:
        """Logits by output name, for int64 [texts, tokens]."""
        ...


class Engine:
    """An encoder and what it needs to be fed."""

    def __init__(
        self, encoder: Encoder, pad_token_id: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._encoder = encoder
        self._pad_token_id = pad_token_id
        self._clock = clock

    def timed_by(self, clock: Callable[[], float]) -> Engine:
        """The same encoder; batches are timed by another clock."""
        return Engine(self._encoder, self._pad_token_id, clock)

    def compute(self, jobs: Sequence[TextJob]) -> ComputedBatch:
        """Raises whatever the encoder raises: then the whole batch has failed."""
        started_s = self._clock()
        texts = [job.encoded for job in jobs]
        shape = self._encoder.shape_for(len(texts), max(map(len, texts)))
        input_ids, attention_mask = collate(texts, self._pad_token_id, shape)
        logits = self._encoder.run(input_ids, attention_mask)
        asked = {job.output for job in jobs}
        probabilities = {name: softmax(logits[name][: len(jobs)]) for name in asked}  # once for all texts
        results = [job.read(probabilities[job.output][row]) for row, job in enumerate(jobs)]
        return ComputedBatch(results, input_ids.size, started_s, self._clock() - started_s)
