"""Which parts of a graph to leave in float32 so that a scheme keeps its scores.

Owns the order of parts by what quantizing each alone does, and the search for how many to leave. Pure but for
the graphs it is handed. Leaves the rewrites to `schemes` and scores to `evaluate`. Called by `package`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from minwatt.v1.decode import softmax
from modelkit.inference import Floats, Ids, Runner

MAX_SHARE_LEFT = 0.5  # of the parts: with more of them in float32, a scheme saves little
_TINY = 1e-12

Logits = tuple[Floats, Floats]


def most_sensitive(parts: Sequence[str], divergence: Callable[[str], float]) -> list[str]:
    """`parts` by what each one's quantization alone changes, most first."""
    return sorted(parts, key=lambda part: (-divergence(part), part))


def fewest_left(
    order: Sequence[str], loss: Callable[[Sequence[str]], float], limit: float, before: float
) -> Sequence[str]:
    """The fewest parts, from the first of `order` on, that bring `loss` within `limit`.

    Doubles their number until it is, then halves the step. Where no half of all parts does, the number with
    the smallest loss; none at all where that gains nothing on `before`.
    """
    most = math.ceil(MAX_SHARE_LEFT * len(order))
    tried: dict[int, float] = {0: before}

    def within(number: int) -> bool:
        if number not in tried:
            tried[number] = loss(order[:number])
        return tried[number] <= limit

    number = 1
    while not within(number) and number < most:
        number = min(most, 2 * number)
    if not within(number):
        return order[: min(tried, key=lambda one: (tried[one], one))]
    low = max(one for one in tried if one < number)
    while number - low > 1:
        middle = (low + number) // 2
        if within(middle):
            number = middle
        else:
            low = middle
    return order[:number]


def divergence(graph: Runner, batches: Sequence[tuple[Ids, Ids]], expected: Sequence[Logits]) -> float:
    """Kullback-Leibler divergence of `graph`'s answers from `expected`, in nats: a text's mean, and a
    token's, together."""
    texts, tokens = [], []
    for (ids, mask), (intents, tags) in zip(batches, expected, strict=True):
        there, there_tags = graph.run(ids, mask)
        texts.append(_divergences(intents, there))
        tokens.append(_divergences(tags, there_tags)[mask.astype(bool)])
    return float(np.concatenate(texts).mean() + np.concatenate(tokens).mean())


def _divergences(expected: Floats, there: Floats) -> Floats:
    """Of the distributions in the last axis."""
    shares, others = softmax(expected), softmax(there)
    result: Floats = (shares * (np.log(shares + _TINY) - np.log(others + _TINY))).sum(axis=-1)
    return result
