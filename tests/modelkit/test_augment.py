"""Augmentation keeps the words outside entities, the order of labels, and special tokens."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from modelkit.data.augment import drop_capitals, hide_tokens, mentions_by_label, swap_mentions
from modelkit.data.texts import AnnotatedText, Span, TaggedSentence

TAGS = ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")
PAIRS = st.lists(st.tuples(st.sampled_from("abcdefgh"), st.sampled_from(TAGS)), min_size=1, max_size=12)
TEXTS = PAIRS.map(
    lambda pairs: TaggedSentence(tuple(t for t, _ in pairs), tuple(g for _, g in pairs)).annotated
)


@given(st.lists(TEXTS, min_size=1, max_size=4), st.floats(0, 1), st.integers())
def test_swapping_keeps_what_is_outside_and_draws_known_mentions(
    texts: list[AnnotatedText], probability: float, seed: int
) -> None:
    mentions = mentions_by_label(texts)
    one = texts[0]
    swapped = swap_mentions(one, mentions, probability, random.Random(seed))

    def outside(text: AnnotatedText) -> list[str]:
        starts = [0, *(span.end for span in text.spans)]
        ends = [*(span.start for span in text.spans), len(text.text)]
        return [text.text[start:end] for start, end in zip(starts, ends, strict=True)]

    assert outside(swapped) == outside(one)
    for label, found in mentions_by_label([swapped]).items():
        assert set(found) <= set(mentions[label])
    if probability == 0:
        assert swapped == one


@given(TEXTS, st.integers())
def test_swapping_keeps_the_order_of_labels(one: AnnotatedText, seed: int) -> None:
    swapped = swap_mentions(one, mentions_by_label([one]), 1.0, random.Random(seed))
    assert [span.label for span in swapped.spans] == [span.label for span in one.spans]


@given(st.lists(st.tuples(st.integers(200, 300), st.booleans()), max_size=20), st.floats(0, 1), st.integers())
def test_hiding_keeps_length_and_special_tokens(
    tokens: list[tuple[int, bool]], probability: float, seed: int
) -> None:
    ids, special = [token for token, _ in tokens], [int(flag) for _, flag in tokens]
    hidden = hide_tokens(ids, special, 103, probability, random.Random(seed))
    assert len(hidden) == len(ids)
    for before, after, is_special in zip(ids, hidden, special, strict=True):
        assert after == before or (after == 103 and not is_special)
    if probability == 0:
        assert hidden == ids


@given(st.text(max_size=30), st.floats(0, 1), st.integers(0, 9))
def test_a_text_without_capitals_is_as_long_and_keeps_its_entities(
    text: str, probability: float, seed: int
) -> None:
    spans = (Span(0, len(text), "PER"),) if text else ()
    one = AnnotatedText(text, spans)
    small = drop_capitals(one, probability, random.Random(seed))
    assert small.spans == spans
    assert len(small.text) == len(text)
    assert drop_capitals(one, 0.0, random.Random(seed)) is one
    if text.isascii():
        assert small.text in (text, text.lower())
