"""Batches: what several processes have of one is all of it, and a batch is a function of its number."""

from __future__ import annotations

from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from minwatt.v1.model_dir import Task
from modelkit.data.texts import LabelledText

torch = pytest.importorskip("torch", reason="training needs the train extra")

WORDS = "abcdefgh"
TASK = Task(name="intent", kind="classification", output="x", labels=("a", "b"))


def tokenizer() -> Tokenizer:
    vocabulary = {word: i for i, word in enumerate(["[UNK]", "[MASK]", *WORDS])}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    return made


@given(
    st.lists(st.lists(st.sampled_from(WORDS), min_size=1, max_size=5), min_size=1, max_size=20),
    st.integers(1, 4),
    st.integers(1, 3),
    st.integers(0, 9),
)
def test_processes_share_a_batch_without_a_rest(
    texts: list[list[str]], batch_size: int, processes: int, first: int
) -> None:
    from modelkit.training.batches import Batch, Batches, LearningTask

    examples = [LabelledText(" ".join(words), len(words) % 2) for words in texts]
    learning = LearningTask(TASK, examples, hide_probability=0.3)

    def rows(batch: Batch) -> list[tuple[list[int], int]]:
        kept = [row[mask.bool()].tolist() for row, mask in zip(batch.ids, batch.mask, strict=True)]
        return list(zip(kept, batch.targets.tolist(), strict=True))

    whole = Batches(learning, tokenizer(), batch_size * processes, seed=1)
    shares = [Batches(learning, tokenizer(), batch_size, 1, (n, processes)) for n in range(processes)]
    assert {share.in_a_pass for share in shares} == {whole.in_a_pass}
    for mine, *parts in islice(
        zip(whole.starting_at(first), *(share.starting_at(first) for share in shares), strict=False), 5
    ):
        assert sorted(rows(mine)) == sorted(row for part in parts for row in rows(part))
        assert max(len(part.ids) for part in parts) <= batch_size
