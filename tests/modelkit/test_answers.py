"""Answers come in the set's order; what does not change can't be lost."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from minwatt.v1.model_dir import ModelDirectory
from modelkit.data.examples import EvaluationSet
from modelkit.data.texts import LabelledText
from modelkit.inference import Graph, encode, load_tokenizer
from modelkit.scoring.answers import Answers, answers_of, changed_share, intent_accuracy
from tests.tiny_model import TAGS

LABEL = st.integers(0, 3)
ANSWERED_TWICE = st.lists(st.tuples(LABEL, LABEL, LABEL), min_size=1, max_size=20)


@given(ANSWERED_TWICE)
def test_accuracy_moves_no_further_than_answers_change(rows: list[tuple[int, int, int]]) -> None:
    texts = [LabelledText("x", truth) for truth, _, _ in rows]
    examples = EvaluationSet(texts, [], [], [], TAGS)
    one, other = (Answers(tuple(row[i] for row in rows), ()) for i in (1, 2))
    changed = changed_share(one.labels, other.labels)
    assert changed == changed_share(other.labels, one.labels)
    assert (changed == 0) == (one == other)
    assert abs(intent_accuracy(one, examples) - intent_accuracy(other, examples)) <= changed + 1e-9


def test_answers_keep_the_order_of_the_set(tiny_model: Path) -> None:
    directory = ModelDirectory.open(tiny_model)
    tokenizer = load_tokenizer(directory.tokenizer_file(), directory.spec.max_tokens)
    graph = Graph(directory.variant_file("int8"))
    texts = ["my balance of the balance is where", "Alice lives in Paris", "hello", "cancel my card", "Paris"]

    def answers(some: list[str]) -> Answers:
        encoded = encode(tokenizer, some)
        return answers_of(graph, EvaluationSet([], [], encoded, encoded, TAGS))

    alone = [answers([text]) for text in texts]
    assert len({len(one.entities[0]) for one in alone}) > 1
    assert answers(texts) == Answers(
        tuple(one.labels[0] for one in alone), tuple(one.entities[0] for one in alone)
    )
