"""From text to tokens to a batch and back: lengths, offsets, padding."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from minwatt.v1.errors import UsageError
from minwatt.v1.inference_pb2 import Classification, EntityList
from minwatt.v1.model_dir import ModelDirectory
from service.answers import text_job
from service.collate import collate
from service.engine import Engine
from service.runtime.onnx import OnnxEncoder
from service.runtime.options import RuntimeOptions
from service.tokenize import TextTokenizer, TooLong
from service.validation import Options
from tests.tiny_model import MAX_TOKENS

CPU = RuntimeOptions("cpu", threads=1)
WORDS = [
    "alice",
    "José",
    "Smith",
    "acme",
    "bank",
    "New",
    "York",
    "東京",
    "😀",
    "cafe\u0301",
    "where",
    "is",
    "(",
    "naïve",
]


class Model:
    """The parts that turn texts into answers, without a server."""

    def __init__(self, path: Path) -> None:
        self.directory = ModelDirectory.open(path)
        spec = self.directory.spec
        self.intent, self.entity = spec.tasks
        self.tokenizer = TextTokenizer(self.directory.tokenizer_file(), spec.max_tokens)
        encoder = OnnxEncoder(
            self.directory.variant_file("int8"), {t.output: len(t.labels) for t in spec.tasks}, CPU
        )
        self.engine = Engine(encoder, spec.pad_token_id)

    def entities(self, texts: list[str], truncate: bool = False) -> list[EntityList]:
        encoded = self.tokenizer.encode(texts, truncate)
        assert not isinstance(encoded, TooLong)
        options = Options(1, 0.0, truncate)
        jobs = [
            text_job(self.entity, options, text, tokens) for text, tokens in zip(texts, encoded, strict=True)
        ]
        return [result for result in self.engine.compute(jobs).results if isinstance(result, EntityList)]


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> Model:
    return Model(tiny_model)


def test_offsets_count_code_points_of_the_text_as_sent(model: Model) -> None:
    text = "😀😀 Jose\u0301 Smith, 東京 — New York"
    found = model.entities([text])[0].entities
    assert [(e.label, e.text) for e in found] == [
        ("PER", "Jose\u0301 Smith"),
        ("LOC", "東京"),
        ("LOC", "New York"),
    ]
    assert all(text[e.start : e.end] == e.text for e in found)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.lists(st.sampled_from(WORDS), min_size=1, max_size=12).map(" ".join), min_size=1, max_size=8)
)
def test_answers_do_not_depend_on_company(model: Model, texts: list[str]) -> None:
    together = model.entities(texts)
    for text, result in zip(texts, together, strict=True):
        alone = model.entities([text])[0]
        assert [(e.label, e.start, e.end) for e in alone.entities] == [
            (e.label, e.start, e.end) for e in result.entities
        ]
        assert all(e.text == text[e.start : e.end] for e in result.entities)
        assert [e.start for e in result.entities] == sorted(e.start for e in result.entities)


def test_both_tasks_ride_in_one_batch(model: Model) -> None:
    encoded = model.tokenizer.encode(["hello alice", "alice"], truncate=False)
    assert not isinstance(encoded, TooLong)
    options = Options(5, 0.0, truncate=False)
    jobs = [
        text_job(model.intent, options, "hello alice", encoded[0]),
        text_job(model.entity, options, "alice", encoded[1]),
    ]
    computed = model.engine.compute(jobs)
    first, second = computed.results
    assert isinstance(first, Classification)
    assert isinstance(second, EntityList)
    assert [label.name for label in first.labels] != []
    assert sum(label.score for label in first.labels) == pytest.approx(1, abs=1e-5)
    assert [entity.text for entity in second.entities] == ["alice"]
    assert computed.padded_tokens == 2 * max(len(text) for text in encoded)


def test_a_long_text_is_named_or_cut(model: Model) -> None:
    long = " ".join(["alice"] * 100)
    assert model.tokenizer.encode(["hello", long], truncate=False) == TooLong(
        1, f"has 102 tokens; the limit is {MAX_TOKENS}"
    )
    cut = model.tokenizer.encode([long], truncate=True)
    assert not isinstance(cut, TooLong)
    whole = model.tokenizer.encode(["alice " * (MAX_TOKENS - 2)], truncate=False)
    assert not isinstance(whole, TooLong)
    assert cut[0].ids == whole[0].ids  # [CLS] … [SEP] of the first tokens
    assert (cut[0].truncated, whole[0].truncated) == (True, False)
    assert model.entities([long], truncate=True)[0].truncated


def test_texts_have_the_same_tokens_alone_and_together(model: Model) -> None:
    texts = ["hello", "alice " * 8, "alice" + " " * 1500 + "hello", "zürich, hello!"]
    together = model.tokenizer.encode(texts, truncate=True)
    assert not isinstance(together, TooLong)
    for text, tokens in zip(texts, together, strict=True):
        assert model.tokenizer.encode([text], truncate=True) == [tokens]


def test_words_and_offsets_are_made_only_where_they_are_read(model: Model) -> None:
    texts = ["hello", "zürich, hello!", "alice " * 100]
    for some in (texts, texts[:1], texts[2:]):
        whole = model.tokenizer.encode(some, truncate=True)
        bare = model.tokenizer.encode(some, truncate=True, words=False)
        assert not isinstance(whole, TooLong)
        assert not isinstance(bare, TooLong)
        assert [(one.ids, one.truncated) for one in bare] == [(one.ids, one.truncated) for one in whole]
        assert not any(one.word_ids or one.offsets for one in bare)


def test_a_huge_text_is_not_tokenised_to_be_counted(model: Model) -> None:
    huge = "alice " + "!" * 10_000
    assert model.tokenizer.encode([huge], truncate=False) == TooLong(
        0, "has 10006 characters; the limit is 2048"
    )
    assert model.tokenizer.encode([huge], truncate=True) == model.tokenizer.encode(
        [huge[:2048]], truncate=True
    )
    blank = model.tokenizer.encode(["alice" + " " * 3000], truncate=True)
    assert not isinstance(blank, TooLong)
    assert blank[0].truncated


def test_a_batch_is_padded_to_its_own_longest(model: Model) -> None:
    encoded = model.tokenizer.encode(["hello", "hello hello hello"], truncate=False)
    assert not isinstance(encoded, TooLong)
    ids, mask = collate(encoded, pad_token_id=0)
    assert ids.shape == mask.shape == (2, 5)
    assert ids.dtype == mask.dtype == np.int64
    assert mask.tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]
    assert ids[0, 3:].tolist() == [0, 0]


def test_a_missing_provider_names_those_there_are(model: Model) -> None:
    with pytest.raises(UsageError, match=r"provider = 'tensorrt': not available here; available: .*cpu"):
        OnnxEncoder(model.directory.variant_file("int8"), {"intent_logits": 2}, RuntimeOptions("tensorrt", 1))


def test_a_graph_without_the_output_is_refused(model: Model) -> None:
    with pytest.raises(
        UsageError, match=r"output 'sentiment' of model\.yaml is not in the graph; there: intent_logits"
    ):
        OnnxEncoder(model.directory.variant_file("int8"), {"sentiment": 2}, CPU)


def test_a_graph_of_another_width_is_refused(model: Model) -> None:
    with pytest.raises(
        UsageError, match=r"output 'intent_logits' has \d+ columns, model\.yaml has 99 labels"
    ):
        OnnxEncoder(model.directory.variant_file("int8"), {"intent_logits": 99}, CPU)


def test_files_that_are_no_model_are_refused(tmp_path: Path) -> None:
    junk = tmp_path / "junk"
    junk.write_text("{}")
    with pytest.raises(UsageError, match="ONNX Runtime can't load it"):
        OnnxEncoder(junk, {}, CPU)
    with pytest.raises(UsageError, match="not a tokenizers file"):
        TextTokenizer(junk, 64)
