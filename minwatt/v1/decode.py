"""What a model's outputs mean: logits to labels, BIO logits to entities with code point offsets.

Pure. Used by `service` on every batch and by `modelkit` to evaluate exactly what will be served.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


class ScoredLabel(NamedTuple):
    name: str
    score: float  # probability in [0, 1]


@dataclass(frozen=True, slots=True)
class EntitySpan:
    label: str
    score: float  # mean probability of its words, in [0, 1]
    start: int  # code points, inclusive
    end: int  # code points, exclusive


@dataclass(slots=True)  # frozen, it would take four times as long to make
class EncodedText:
    """One text as the encoder reads it, special tokens included; all sequences have the same length, but for
    the last two where only entities would need them: then they are empty. Nobody changes it.

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
    return best_labels(softmax(logits), labels, top_k, min_score)


def best_labels(
    probabilities: Floats, labels: Sequence[str], top_k: int, min_score: float
) -> list[ScoredLabel]:
    """As `top_labels`, of a text whose softmax is there already."""
    if top_k > 1:
        best = np.argsort(-probabilities, kind="stable")[:top_k].tolist()
    else:
        best = [probabilities.argmax()]
    found = [ScoredLabel(labels[index], probabilities.item(index)) for index in best]
    return [label for label in found if label.score >= min_score]


def entity_spans(
    logits: Floats, encoded: EncodedText, labels: Sequence[str], min_score: float
) -> list[EntitySpan]:
    """The entities of one text; `logits` is [tokens, labels]; tokens beyond the text's own are padding."""
    return likeliest_spans(softmax(logits[: len(encoded)]), encoded, labels, min_score)


def likeliest_spans(
    probabilities: Floats, encoded: EncodedText, labels: Sequence[str], min_score: float
) -> list[EntitySpan]:
    """As `entity_spans`, of a text whose softmax is there already.

    A word's probabilities are the means over its pieces. The tags are the likeliest sequence of the text in
    which each I- continues an entity of its type: a word's own best tag may continue nothing, and read as an
    entity of its own it is mostly a wrong one.
    """
    words = _words(encoded.word_ids)
    if not words:
        return []
    of_words = probabilities[[first for first, _ in words]]
    for word, (first, last) in enumerate(words):
        if last - first > 1:
            of_words[word] = probabilities[first:last].mean(axis=0)
    spans: list[EntitySpan] = []
    opened: list[int] = []  # the words of the entity that is being read

    def close() -> None:
        if opened:
            score = float(np.mean([of_words[word, tags[word]] for word in opened]))
            if score >= min_score:
                start = encoded.offsets[words[opened[0]][0]][0]
                end = encoded.offsets[words[opened[-1]][1] - 1][1]
                spans.append(EntitySpan(labels[tags[opened[0]]][2:], score, start, end))
            opened.clear()

    tags = likeliest_tags(of_words, labels)
    for word, tag in enumerate(tags):
        if labels[tag][0] != "I":
            close()
        if labels[tag] != "O":
            opened.append(word)
    close()
    return spans


def likeliest_tags(probabilities: Floats, labels: Sequence[str]) -> list[int]:
    """The likeliest sequence of BIO tags; `probabilities` is [words, labels], at least one word.

    Where each word's best tag makes a sequence without an I- that continues nothing, that is it; else Viterbi
    (Forney, "The Viterbi algorithm", 1973) over the sequences that have none.
    """
    best: list[int] = probabilities.argmax(axis=1).tolist()
    outside = labels.index("O")
    follows = _follows(tuple(labels))
    if all(follows[left][right] for left, right in pairwise((outside, *best))):
        return best
    allowed = np.array(follows)
    steps = np.where(allowed, 0.0, -np.inf)
    logs = np.log(np.maximum(probabilities, np.finfo(np.float32).tiny))
    scores = steps[outside] + logs[0]
    came_from = []
    for word in logs[1:]:
        through = scores[:, None] + steps
        came_from.append(through.argmax(axis=0))
        scores = through.max(axis=0) + word
    tags = [int(scores.argmax())]
    for previous in reversed(came_from):
        tags.append(int(previous[tags[-1]]))
    return tags[::-1]


@cache
def _follows(labels: tuple[str, ...]) -> list[list[bool]]:
    """[left][right]: whether the tag may come after the other."""
    return [[_may_follow(left, right) for right in labels] for left in labels]


def _may_follow(left: str, right: str) -> bool:
    """Whether the tag `right` may come after `left`: I-X only after B-X or I-X."""
    return right[0] != "I" or (left != "O" and left[2:] == right[2:])


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
