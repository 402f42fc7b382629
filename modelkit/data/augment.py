"""Varies training examples: swaps entity mentions, drops capitals, and hides tokens.

Pure: randomness comes in as a seeded generator. A small encoder learns the names of a training set by
heart within a few epochs; swapped mentions and hidden tokens make it read the context instead. Leaves
reading to `formats`. Called by `batches`.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from modelkit.data.texts import AnnotatedText, LabelledText, Span

Example = TypeVar("Example", LabelledText, AnnotatedText)


def mentions_by_label(texts: Sequence[AnnotatedText]) -> dict[str, tuple[str, ...]]:
    """The distinct mentions of each label, sorted so that a seed gives the same draws."""
    found: dict[str, set[str]] = {}
    for one in texts:
        for span in one.spans:
            found.setdefault(span.label, set()).add(one.text[span.start : span.end])
    return {label: tuple(sorted(mentions)) for label, mentions in sorted(found.items())}


def swap_mentions(
    one: AnnotatedText,
    mentions: Mapping[str, Sequence[str]],
    probability: float,
    generator: random.Random,
) -> AnnotatedText:
    """Replace each mention, with `probability`, by another mention of the same label."""
    text = ""
    spans: list[Span] = []
    kept_to = 0
    for span in one.spans:
        text += one.text[kept_to : span.start]
        swapped = generator.random() < probability
        mention = generator.choice(mentions[span.label]) if swapped else one.text[span.start : span.end]
        spans.append(Span(len(text), len(text) + len(mention), span.label))
        text += mention
        kept_to = span.end
    return AnnotatedText(text + one.text[kept_to:], tuple(spans))


def drop_capitals(one: Example, probability: float, generator: random.Random) -> Example:
    """With `probability` the text as who types no capitals types it, entities in their places."""
    if not probability or generator.random() >= probability:
        return one
    # Of few letters the small form is two.
    small = "".join(lower if len(lower := letter.lower()) == 1 else letter for letter in one.text)
    return replace(one, text=small)


def hide_tokens(
    ids: Sequence[int], special: Sequence[int], mask_id: int, probability: float, generator: random.Random
) -> list[int]:
    """Replace each token that is not special (1 in `special`), with `probability`, by the mask token."""
    return [
        mask_id if not is_special and generator.random() < probability else token
        for token, is_special in zip(ids, special, strict=True)
    ]
