"""The models that are shipped: whole, the same in any company, and as accurate as their model.yaml says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from minwatt.resources import resource
from minwatt.v1.decode import entity_spans, softmax, top_labels
from minwatt.v1.model_dir import ModelDirectory
from modelkit.data.examples import EvaluationSet, FolderSource, Tasks, load_evaluation_set
from modelkit.inference import Graph, encode, load_tokenizer, run_batch
from modelkit.scoring.answers import answers_of, entity_scores, intent_accuracy

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared" / "data"
WORDS = (
    "Alice",
    "Smith",
    "from",
    "Oslo",
    "works",
    "at",
    "Acme",
    "Corp",
    "my",
    "card",
    "has",
    "not",
    "arrived",
    "?",
)
TEXTS = st.lists(
    st.one_of(
        st.lists(st.sampled_from(WORDS), min_size=1, max_size=60).map(" ".join),
        st.text(st.characters(exclude_categories=("Cs",)), max_size=40),
    ),
    min_size=2,
    max_size=6,
)


@pytest.fixture(scope="module", params=["support-text", "support-text-small"])
def directory(request: pytest.FixtureRequest) -> ModelDirectory:
    return ModelDirectory.open(resource("models") / request.param)


@pytest.fixture(scope="module")
def tasks(directory: ModelDirectory) -> Tasks:
    return Tasks.of(directory.spec)


@pytest.fixture(scope="module")
def graph(directory: ModelDirectory, tasks: Tasks) -> Graph:
    return Graph(directory.variant_file("int8"), tasks.outputs)


@pytest.fixture(scope="module")
def tokenizer(directory: ModelDirectory) -> Tokenizer:
    return load_tokenizer(directory.tokenizer_file(), directory.spec.max_tokens)


def test_it_is_small_and_its_tokenizer_neither_pads_nor_cuts(directory: ModelDirectory, graph: Graph) -> None:
    raw = Tokenizer.from_file(str(directory.tokenizer_file()))
    assert (raw.padding, raw.truncation) == (None, None)
    assert raw.encode("hi").tokens == ["[CLS]", "hi", "[SEP]"]
    assert graph.size_bytes == directory.spec.variants["int8"].size_bytes < 25e6


def test_it_knows_an_intent_and_names_with_their_code_points(
    graph: Graph, tokenizer: Tokenizer, tasks: Tasks
) -> None:
    texts = ["My card still has not arrived, it is two weeks now", "🙂 Angela Merkel visited Paris in May"]
    encoded = encode(tokenizer, texts)
    answers = run_batch(graph, encoded)
    assert top_labels(answers[0].intents, tasks.intent.labels, 1, 0.0)[0].name == "card_arrival"
    spans = entity_spans(answers[1].tags, encoded[1], tasks.entities.labels, 0.0)
    assert [(span.label, texts[1][span.start : span.end]) for span in spans] == [
        ("PER", "Angela Merkel"),
        ("LOC", "Paris"),
    ]


@settings(max_examples=40)
@given(TEXTS)
def test_answers_do_not_depend_on_the_batch(
    graph: Graph, tokenizer: Tokenizer, tasks: Tasks, texts: list[str]
) -> None:
    encoded = encode(tokenizer, texts)
    for one, among in zip(encoded, run_batch(graph, encoded), strict=True):
        [alone] = run_batch(graph, [one])
        assert np.abs(softmax(alone.intents) - softmax(among.intents)).max() < 1e-4
        assert np.abs(softmax(alone.tags) - softmax(among.tags)).max() < 1e-4
        assert alone.intents.argmax() == among.intents.argmax()
        spans = [entity_spans(logits.tags, one, tasks.entities.labels, 0.0) for logits in (alone, among)]
        assert [(s.label, s.start, s.end) for s in spans[0]] == [(s.label, s.start, s.end) for s in spans[1]]


@pytest.mark.skipif(not DATA.is_dir(), reason="the data sets are not part of the repository")
def test_a_slice_of_the_test_split_scores_as_recorded(
    directory: ModelDirectory, graph: Graph, tokenizer: Tokenizer, tasks: Tasks
) -> None:
    source = FolderSource(DATA, "test", {"intent": "banking77", "entities": "uner_ewt"})
    whole = load_evaluation_set(tasks, tokenizer, source)
    part = EvaluationSet(
        texts=whole.texts[::6],
        sentences=whole.sentences[::3],
        encoded_texts=whole.encoded_texts[::6],
        encoded_sentences=whole.encoded_sentences[::3],
        tags=whole.tags,
    )
    recorded = directory.spec.variants["int8"].metrics
    # Three standard errors: 0.93 of 514 texts ± 0.034, 0.75 of about 360 entities ± 0.068.
    answers = answers_of(graph, part)
    assert intent_accuracy(answers, part) == pytest.approx(recorded["intent.accuracy"], abs=0.034)
    assert entity_scores(answers, part)[2] == pytest.approx(recorded["entities.f1"], abs=0.068)
