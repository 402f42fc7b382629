"""The benchmark's texts are as long as it says, and the same each time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.serving.body_files import grouped, read_bodies, write_bodies
from bench.serving.run import benchmark_texts
from bench.serving.texts import MEDIAN_TOKENS, MOST_TOKENS, TAIL_TOKENS, mixed_texts
from minwatt.resources import default_model_dir


def words_and_two(text: str) -> int:
    return len(text.split()) + 2


def test_lengths_by_the_shipped_tokenizer_are_mixed() -> None:
    drawn = benchmark_texts(default_model_dir())
    assert np.quantile(drawn.lengths, 0.5) == pytest.approx(MEDIAN_TOKENS, abs=1)
    assert np.quantile(drawn.lengths, 0.99) == pytest.approx(TAIL_TOKENS, rel=0.1)
    assert max(drawn.lengths) <= MOST_TOKENS
    assert len(set(drawn.texts)) == len(drawn.texts) == 2048


@given(st.integers(0, 60), st.integers())
def test_a_seed_draws_the_same_texts_all_different(count: int, seed: int) -> None:
    texts = mixed_texts(count, words_and_two, seed=seed)
    assert texts == mixed_texts(count, words_and_two, seed=seed)
    assert len(set(texts)) == len(texts) == count
    assert all(texts)


@given(st.lists(st.text()), st.integers(1, 20))
def test_groups_are_full_and_in_order(texts: list[str], size: int) -> None:
    groups = grouped(texts, size)
    assert all(len(group) == size for group in groups)
    assert [text for group in groups for text in group] == texts[: len(texts) // size * size]


@given(bodies=st.lists(st.binary(max_size=300)))
def test_messages_survive_their_file(tmp_path_factory: pytest.TempPathFactory, bodies: list[bytes]) -> None:
    file: Path = tmp_path_factory.mktemp("bodies") / "messages"
    assert read_bodies(write_bodies(file, bodies)) == bodies
