"""Capitals for a vocabulary of small letters: what is read, and that nothing else changes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from minwatt.v1.errors import UsageError
from modelkit.training.casing import CAPITAL, CAPITALS, SMALL, cased, readings
from tests.tiny_model import WORDS, write_tiny_model


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    path = tmp_path_factory.mktemp("plain")
    write_tiny_model(path)
    return Tokenizer.from_file(str(path / "tokenizer.json"))


@pytest.fixture(scope="module")
def capital(plain: Tokenizer) -> Tokenizer:
    return Tokenizer.from_str(cased(plain.to_str(), "base"))


@given(st.lists(st.tuples(st.sampled_from(WORDS), st.sampled_from((SMALL, CAPITAL, CAPITALS))), min_size=1))
def test_a_word_in_any_form_is_as_many_tokens_and_the_same_rows(
    plain: Tokenizer, capital: Tokenizer, words: list[tuple[str, int]]
) -> None:
    forms = {SMALL: str.lower, CAPITAL: str.capitalize, CAPITALS: str.upper}
    text = " ".join(forms[form](word) for word, form in words)
    before, after = plain.encode(text), capital.encode(text)
    found = readings(capital, plain.get_vocab_size())
    assert found is not None
    rows, _ = found
    assert [rows[number] for number in after.ids] == before.ids
    assert (after.offsets, after.word_ids) == (before.offsets, before.word_ids)


def test_forms_are_told_apart(plain: Tokenizer, capital: Tokenizer) -> None:
    _, forms = readings(capital, plain.get_vocab_size()) or ([], [])
    read = [forms[number] for number in capital.encode("hello Hello HELLO").ids]
    assert read == [SMALL, SMALL, CAPITAL, CAPITALS, SMALL]  # between the special tokens
    assert len(forms) == capital.get_vocab_size()


def test_what_tells_capitals_already_stays_as_it_is(plain: Tokenizer, capital: Tokenizer) -> None:
    document = capital.to_str()
    assert cased(document, "base") == document
    assert readings(plain, plain.get_vocab_size()) is None


def test_another_kind_of_tokenizer_is_refused(plain: Tokenizer) -> None:
    other = json.loads(plain.to_str()) | {"normalizer": {"type": "NFC"}}
    with pytest.raises(UsageError, match="cased: base = 'base' has another kind of tokenizer"):
        cased(json.dumps(other), "base")


def test_the_served_tokenizer_goes_the_short_way(capital: Tokenizer, tmp_path: Path) -> None:
    from service.tokenize import TextTokenizer

    capital.save(str(tmp_path / "tokenizer.json"))
    served = TextTokenizer(tmp_path / "tokenizer.json", 32)
    assert served.highest_id == capital.get_vocab_size() - 1
