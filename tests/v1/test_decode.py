"""Laws of decoding: probabilities, order, and spans that are always inside the text and never overlap."""

from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minwatt.v1.decode import EncodedText, EntitySpan, entity_spans, likeliest_tags, softmax, top_labels

TAGS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")


def encode(pieces_of_words: list[int]) -> EncodedText:
    """[CLS], words of so many pieces, two code points a piece and one between words, [SEP]."""
    ids, word_ids, offsets, position = [101], [None], [(0, 0)], 0
    for word, pieces in enumerate(pieces_of_words):
        for _ in range(pieces):
            ids.append(7)
            word_ids.append(word)
            offsets.append((position, position + 2))
            position += 2
        position += 1
    return EncodedText([*ids, 102], [*word_ids, None], [*offsets, (0, 0)])


def logits_of(tags: list[str], encoded: EncodedText) -> np.ndarray:
    """Certain of `tags[word]` for each piece."""
    logits = np.full((len(encoded), len(TAGS)), -10.0, np.float32)
    for position, word in enumerate(encoded.word_ids):
        logits[position, TAGS.index("O" if word is None else tags[word])] = 10.0
    return logits


@given(
    st.lists(st.floats(-1000, 1000, width=32), min_size=2, max_size=9), st.integers(0, 12), st.floats(0, 1)
)
def test_labels_come_best_first_and_above_the_minimum(
    values: list[float], top_k: int, min_score: float
) -> None:
    names = [f"label{index}" for index in range(len(values))]
    found = top_labels(np.array(values, np.float32), names, top_k, min_score)
    assert len(found) <= max(1, top_k)
    scores = [label.score for label in found]
    assert scores == sorted(scores, reverse=True)
    assert all(score >= min_score for score in scores)
    assert softmax(np.array(values, np.float32)).sum() == pytest.approx(1, abs=1e-5)


@st.composite
def tagged_words(draw: st.DrawFn) -> list[tuple[int, str]]:
    """Words of so many pieces with tags in which every I- continues."""
    words: list[tuple[int, str]] = []
    for _ in range(draw(st.integers(0, 12))):
        before = words[-1][1] if words else "O"
        allowed = [tag for tag in TAGS if tag[0] != "I" or before[1:] == tag[1:]]
        words.append((draw(st.integers(1, 4)), draw(st.sampled_from(allowed))))
    return words


@given(tagged_words())
def test_spans_are_ordered_disjoint_and_cover_exactly_the_tagged_words(words: list[tuple[int, str]]) -> None:
    encoded = encode([pieces for pieces, _ in words])
    tags = [tag for _, tag in words]
    spans = entity_spans(logits_of(tags, encoded), encoded, TAGS, 0.0)
    for before, after in pairwise(spans):
        assert before.end < after.start
    inside = {position for span in spans for position in range(span.start, span.end)}
    for (start, end), word in zip(encoded.offsets, encoded.word_ids, strict=True):
        if word is not None:
            assert (tags[word] != "O") == (start in inside and end - 1 in inside)
    assert all(0 < span.score <= 1 for span in spans)


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        (["B-PER", "I-PER", "O"], [("PER", 0, 5)]),
        (["B-PER", "B-PER", "O"], [("PER", 0, 2), ("PER", 3, 5)]),
        (["O", "B-LOC", "I-LOC"], [("LOC", 3, 8)]),
        (["B-PER", "B-LOC", "O"], [("PER", 0, 2), ("LOC", 3, 5)]),
    ],
)
def test_bio_is_read_as_it_was_written(tags: list[str], expected: list[tuple[str, int, int]]) -> None:
    encoded = encode([1, 1, 1])
    spans = entity_spans(logits_of(tags, encoded), encoded, TAGS, 0.0)
    assert [(span.label, span.start, span.end) for span in spans] == expected


def sequence_probability(tags: tuple[int, ...], probabilities: np.ndarray) -> float:
    return float(np.prod([probabilities[word, tag] for word, tag in enumerate(tags)]))


def is_bio(tags: tuple[int, ...]) -> bool:
    names = ["O", *(TAGS[tag] for tag in tags)]
    return all(after[0] != "I" or before[1:] == after[1:] for before, after in pairwise(names))


@given(st.integers(0, 2**32 - 1), st.integers(1, 4))
def test_tags_are_the_likeliest_sequence_in_which_every_inside_continues(seed: int, words: int) -> None:
    """Against all sequences, one by one."""
    logits = np.random.default_rng(seed).normal(size=(words, len(TAGS))).astype(np.float32)
    probabilities = softmax(logits)
    tags = tuple(likeliest_tags(probabilities, TAGS))
    assert is_bio(tags)
    legal = filter(is_bio, product(range(len(TAGS)), repeat=words))
    best = max(sequence_probability(other, probabilities) for other in legal)
    assert sequence_probability(tags, probabilities) == pytest.approx(best, rel=1e-4)


def test_padding_and_low_scores_are_left_out() -> None:
    encoded = encode([1, 2])
    logits = logits_of(["B-PER", "O"], encoded)
    padded = np.vstack([logits, logits_of(["B-LOC"], encode([1]))])
    assert entity_spans(padded, encoded, TAGS, 0.5) == entity_spans(logits, encoded, TAGS, 0.5)
    assert entity_spans(logits * 0, encoded, TAGS, 0.5) == []
    assert isinstance(entity_spans(logits, encoded, TAGS, 0.5)[0], EntitySpan)
