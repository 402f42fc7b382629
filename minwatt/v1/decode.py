"""What a model's outputs mean: logits to labels, BIO logits to entities with code point offsets.

Pure. Used by `service` on every batch and by `modelkit` to evaluate exactly what will be served.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class ScoredLabel:
    name: str
    score: float  # probability in [0, 1]


@dataclass(frozen=True, slots=True)
class EntitySpan:
    label: str
    score: float  # mean probability of its words, in [0, 1]
    start: int  # code points, inclusive
    end: int  # code points, exclusive


@dataclass(frozen=True, slots=True)
class EncodedText:
    """One text as the encoder reads it, special tokens included; all sequences have the same length.

    `word_ids` number the pre-tokenizer's words (None on special tokens); `offsets` are code point
    [start, end) pairs in the text as sent.
    """

    ids: Sequence[int]
    word_ids: Sequence[int | None]
    offsets: Sequence[tuple[int, int]]
    truncated: bool = False

    def __len__(self) -> int:
        return len(self.ids)


def softmax(logits: Floats) -> Floats:
    """Along the last axis, shifted by the maximum so that nothing overflows."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    result: Floats = shifted / shifted.sum(axis=-1, keepdims=True)
    return result


def top_labels(logits: Floats, labels: Sequence[str], top_k: int, min_score: float) -> list[ScoredLabel]:
    """The `top_k` best labels of one text, best first; `logits` is [labels]."""
    probabilities = softmax(logits)
    best = np.argsort(-probabilities, kind="stable")[: max(1, top_k)]
    found = [ScoredLabel(labels[index], float(probabilities[index])) for index in best]
    return [label for label in found if label.score >= min_score]


def entity_spans(
    logits: Floats, encoded: EncodedText, labels: Sequence[str], min_score: float
) -> list[EntitySpan]:
    """The entities of one text; `logits` is [tokens, labels] for the text's own tokens (padding cut off).

    A word takes the tag with the highest mean probability over its pieces. Words join while the tag goes on
    as I- of the same type; an I- that continues nothing opens an entity, as conlleval reads it.
    """
    probabilities = softmax(logits[: len(encoded)])
    spans: list[EntitySpan] = []
    open_label, open_start, open_end = "", 0, 0
    open_scores: list[float] = []

    def close() -> None:
        if open_label:
            score = sum(open_scores) / len(open_scores)
            if score >= min_score:
                spans.append(EntitySpan(open_label, score, open_start, open_end))

    for first, last in _words(encoded.word_ids):
        word = probabilities[first:last].mean(axis=0)
        index = int(word.argmax())
        prefix, _, kind = labels[index].partition("-")
        start, end = encoded.offsets[first][0], encoded.offsets[last - 1][1]
        if prefix == "I" and kind == open_label:
            open_scores.append(float(word[index]))
            open_end = end
            continue
        close()
        open_label, open_scores, open_start, open_end = kind, [float(word[index])], start, end
    close()
    return spans


def _words(word_ids: Sequence[int | None]) -> list[tuple[int, int]]:
    """[first, last) token ranges of the words, in order."""
    ranges: list[tuple[int, int]] = []
    previous: int | None = None
    for position, word in enumerate(word_ids):
        if word is None:
            previous = None
        elif word == previous:
            ranges[-1] = (ranges[-1][0], position + 1)
        else:
            ranges.append((position, position + 1))
            previous = word
    return ranges
