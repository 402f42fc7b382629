"""A packed answer gives, for any options, the very bytes that computing gives; and it holds no text."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from minwatt.v1.decode import EncodedText, softmax
from minwatt.v1.model_dir import Task
from service.answers import text_job, unpacked
from service.validation import Options

INTENTS = Task(name="intent", kind="classification", output="i", labels=tuple(f"label{n}" for n in range(7)))
TAGS = ("O", "B-PER", "I-PER", "B-ORG", "I-ORG")
ENTITIES = Task(name="entity", kind="ner", output="e", labels=TAGS)
OPTIONS = st.builds(
    Options,
    top_k=st.integers(1, 7),
    min_score=st.floats(0, 1, width=32),
    truncate=st.booleans(),
)


@given(st.integers(0, 2**32 - 1), OPTIONS, OPTIONS, st.booleans(), st.integers(1, 12))
def test_computed_or_unpacked_the_bytes_are_the_same(
    seed: int, asked_first: Options, asked_later: Options, truncated: bool, words: int
) -> None:
    draw = np.random.default_rng(seed)
    text = " ".join(f"wörd{number}" for number in range(words))
    offsets = [(0, 0), *((7 * number, 7 * number + 5) for number in range(words)), (0, 0)]
    encoded = EncodedText([1] * (words + 2), [None, *range(words), None], offsets, truncated)
    batch = {
        INTENTS: softmax(draw.normal(0, 4, (3, 7)).astype(np.float32))[1],
        ENTITIES: softmax(draw.normal(0, 3, (3, words + 5, 5)).astype(np.float32))[1],
    }
    for task, probabilities in batch.items():
        kept: list[bytes] = []
        first = text_job(task, asked_first, text, encoded, kept.append).read(probabilities)
        later = text_job(task, asked_later, text, encoded).read(probabilities)
        for options, computed in ((asked_first, first), (asked_later, later)):
            known = unpacked(task, options, text, kept[0])
            assert known.SerializeToString(deterministic=True) == computed.SerializeToString(
                deterministic=True
            )
        assert len(kept) == 1
        assert b"w\xc3\xb6rd" not in kept[0]


@given(st.integers(0, 2**32 - 1))
def test_a_score_on_the_threshold_is_on_the_same_side(seed: int) -> None:
    """Scores are float32 before they are packed: exactly those that a caller can ask for."""
    draw = np.random.default_rng(seed)
    encoded = EncodedText([1] * 5, [None, 0, 0, 1, None], [(0, 0), (0, 2), (2, 4), (5, 9), (0, 0)])
    probabilities = softmax(draw.normal(0, 3, (5, 5)).astype(np.float32))
    kept: list[bytes] = []
    everything = Options(top_k=1, min_score=0.0, truncate=False)
    found = text_job(ENTITIES, everything, "abcd efgh", encoded, kept.append).read(probabilities)
    for entity in found.entities:  # type: ignore[union-attr]
        options = Options(top_k=1, min_score=entity.score, truncate=False)
        computed = text_job(ENTITIES, options, "abcd efgh", encoded).read(probabilities)
        assert unpacked(ENTITIES, options, "abcd efgh", kept[0]) == computed
        assert entity in computed.entities  # type: ignore[union-attr]
