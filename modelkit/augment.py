"""Varies training examples: swaps entity mentions, and hides tokens.

Pure: randomness comes in as a seeded generator. A small encoder learns the names of a training set by
heart within a few epochs; swapped mentions and hidden tokens make it read the context instead. Leaves
reading to `data`. Called by `train`.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from modelkit.data import OUTSIDE, TaggedSentence

Mention = tuple[str, ...]


def mentions_by_label(sentences: Sequence[TaggedSentence]) -> dict[str, tuple[Mention, ...]]:
    """The distinct mentions (token tuples) of each label, sorted so that a seed gives the same draws."""
    found: dict[str, set[Mention]] = {}
    for sentence in sentences:
        for first, last, label in _mention_ranges(sentence.tags):
            found.setdefault(label, set()).add(sentence.tokens[first:last])
    return {label: tuple(sorted(mentions)) for label, mentions in sorted(found.items())}


def swap_mentions(
    sentence: TaggedSentence,
    mentions: Mapping[str, Sequence[Mention]],
    probability: float,
    generator: random.Random,
) -> TaggedSentence:
    """Replace each mention, with `probability`, by another mention of the same label."""
    tokens: list[str] = []
    tags: list[str] = []
    kept_to = 0
    for first, last, label in _mention_ranges(sentence.tags):
        if generator.random() >= probability:
            continue
        mention = generator.choice(mentions[label])
        tokens += [*sentence.tokens[kept_to:first], *mention]
        tags += [*sentence.tags[kept_to:first], f"B-{label}", *[f"I-{label}"] * (len(mention) - 1)]
        kept_to = last
    tokens += sentence.tokens[kept_to:]
    tags += sentence.tags[kept_to:]
    return TaggedSentence(tuple(tokens), tuple(tags))


def hide_tokens(
    ids: Sequence[int], special: Sequence[int], mask_id: int, probability: float, generator: random.Random
) -> list[int]:
    """Replace each token that is not special (1 in `special`), with `probability`, by the mask token."""
    return [
        mask_id if not is_special and generator.random() < probability else token
        for token, is_special in zip(ids, special, strict=True)
    ]


def _mention_ranges(tags: Sequence[str]) -> list[tuple[int, int, str]]:
    """Token ranges [first, last) of the mentions, with their labels, in order."""
    ranges: list[tuple[int, int, str]] = []
    for i, tag in enumerate(tags):
        if tag == OUTSIDE:
            continue
        label = tag[2:]
        if tag.startswith("I-") and ranges and ranges[-1][1:] == (i, label):
            ranges[-1] = (ranges[-1][0], i + 1, label)
        else:
            ranges.append((i, i + 1, label))
    return ranges
