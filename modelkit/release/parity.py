"""Whether an exported graph answers as the network it was exported from.

Leaves running the graph to `inference`. Called by `release.run` and `quantization_aware`. Needs torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from minwatt.v1.decode import EncodedText, softmax
from modelkit.inference import Floats, Graph, Ids, pad
from modelkit.training.network import MultiTaskEncoder


@dataclass(frozen=True)
class Parity:
    """Over all texts and heads: the largest difference of a logit and of a probability, and how many texts'
    best labels (of a text, or of any of its tokens) differ."""

    texts: int
    logit: float
    probability: float
    changed_texts: int


def parity(network: MultiTaskEncoder, graph: Graph, batches: Sequence[tuple[Ids, Ids]]) -> Parity:
    """Both on padded `batches`; what stands at padding is not compared."""
    logit = probability = 0.0
    texts = changed = 0
    for ids, mask in batches:
        expected = _answers(network, ids, mask)
        there = graph.answers(ids, mask)
        differs = np.zeros(len(ids), bool)
        for task in network.tasks:
            one, other = expected[task.output], there[task.output]
            keep = mask.astype(bool) if one.ndim == 3 else np.ones(len(ids), bool)
            # Not `max`, to which a NaN is no more than what was before it.
            logit = float(np.maximum(logit, np.abs(one - other)[keep].max()))
            apart = np.abs(softmax(one) - softmax(other))[keep]
            probability = float(np.maximum(probability, apart.max()))
            unlike = (one.argmax(-1) != other.argmax(-1)) & keep
            differs |= unlike.reshape(len(ids), -1).any(axis=1)
        texts += len(ids)
        changed += int(differs.sum())
    return Parity(texts, logit, probability, changed)


def batches_of(encoded: Sequence[EncodedText], size: int = 16) -> Iterator[tuple[Ids, Ids]]:
    """Padded batches, in the order given, so that texts of unlike lengths stand together."""
    for first in range(0, len(encoded), size):
        yield pad(encoded[first : first + size])


def _answers(network: MultiTaskEncoder, ids: Ids, mask: Ids) -> dict[str, Floats]:
    with torch.inference_mode():
        logits = network(torch.from_numpy(ids), torch.from_numpy(mask))
    return {task.output: one.numpy() for task, one in zip(network.tasks, logits, strict=True)}
