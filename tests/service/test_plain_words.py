"""The short way to a plain text's tokens leads where the library's leads."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer
from tokenizers.models import BPE, WordPiece
from tokenizers.normalizers import BertNormalizer, Sequence, StripAccents
from tokenizers.pre_tokenizers import BertPreTokenizer, Whitespace
from tokenizers.processors import TemplateProcessing

from minwatt.resources import default_model_dir
from minwatt.v1.decode import EncodedText
from minwatt.v1.model_dir import ModelDirectory
from service.plain_words import SAMPLES, marks_of
from service.tokenize import TextTokenizer, TooLong

OWN = ("[UNK]", "[CLS]", "[SEP]")
PIECES = (*OWN, "the", "card", "un", "##aff", "##able", "a", "##b", "B", "The", "3", ".", "'", "-")
BESIDE = " the card a b 3. a the card "  # enough that a few other words are looked at alone
WORDS = ("The", "card", "unaffable", "abb", "[SEP]", "[sep]", "x" * 101, "José")
TEXTS = st.one_of(
    st.text(st.characters(max_codepoint=0x7F), max_size=40),
    st.text(st.sampled_from("aAbB 9.'-[]\t\n\x00\x0b\x1c\x7fé—東\u0301\u200b"), max_size=30),
    st.lists(st.sampled_from(WORDS), max_size=9).map(" ".join),
    st.tuples(st.text(max_size=5), st.text(max_size=3)).map(lambda two: BESIDE.join((*two, ""))),
    st.text(st.sampled_from("aé\u0301\u00a0\u3000Σ東[]İ"), max_size=6).map(lambda odd: BESIDE + odd + BESIDE),
)


def tokenizer(*, lower: bool = True, clean: bool = True, extra: str = "") -> Tokenizer:
    made = Tokenizer(WordPiece({piece: i for i, piece in enumerate(PIECES)}, unk_token="[UNK]"))
    made.normalizer = BertNormalizer(lowercase=lower, clean_text=clean)
    made.pre_tokenizer = BertPreTokenizer()
    made.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP] [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    made.add_special_tokens(list(OWN))
    if extra:
        made.add_tokens([AddedToken(extra, normalized=True)])
    return made


def of(made: Tokenizer, max_tokens: int = 16) -> TextTokenizer:
    return TextTokenizer.of(made.to_str(), max_tokens)


def encoded(short: TextTokenizer, texts: list[str], *, words: bool) -> list[EncodedText]:
    found = short.encode(texts, truncate=False, words=words)
    assert not isinstance(found, TooLong)
    return found


ALIKE = [
    tokenizer(),
    tokenizer(lower=False),
    tokenizer(clean=False),
    tokenizer(extra="<user>"),
    tokenizer(extra="東"),  # looked for between blanks
]


@pytest.mark.parametrize("made", ALIKE)
@given(text=TEXTS)
@example(text="The\x01card")
@example(text="a[SEP]b <USER> <user>")
@example(text=SAMPLES[0])
@example(text=BESIDE + "José\u0301" + BESIDE)
@example(text=BESIDE + "a[SEP]é" + BESIDE)
def test_a_text_has_the_librarys_tokens(made: Tokenizer, text: str) -> None:
    short = of(made, 10_000)
    assert short._plain is not None
    assert encoded(short, [text], words=False)[0].ids == made.encode(text).ids


@given(texts=st.lists(TEXTS, min_size=1, max_size=4), truncate=st.booleans())
def test_a_long_text_is_cut_or_named_alike_with_and_without_words(texts: list[str], truncate: bool) -> None:
    short = of(ALIKE[0], 6)
    plain, whole = (short.encode(texts, truncate, words=words) for words in (False, True))
    if isinstance(whole, TooLong):
        assert plain == whole
    else:
        assert not isinstance(plain, TooLong)
        assert [(text.ids, text.truncated) for text in plain] == [
            (text.ids, text.truncated) for text in whole
        ]


def other_model() -> Tokenizer:
    made = Tokenizer(BPE({"a": 0}, []))
    made.normalizer, made.pre_tokenizer = BertNormalizer(), BertPreTokenizer()
    return made


def other_words() -> Tokenizer:
    made = tokenizer()
    made.pre_tokenizer = Whitespace()
    return made


def other_normal_form() -> Tokenizer:
    made = tokenizer()
    made.normalizer = Sequence([StripAccents()])
    return made


@pytest.mark.parametrize(
    "made",
    [
        other_model(),
        other_words(),
        other_normal_form(),
        tokenizer(extra="user"),
        tokenizer(extra=" x"),
        tokenizer(extra="Üser"),  # looked for as "user"
        tokenizer(extra="\u200buser"),
        tokenizer(extra="\x01user"),
    ],
)
def test_another_kind_of_tokenizer_has_no_short_way(made: Tokenizer) -> None:
    assert of(made)._plain is None
    assert of(made).effort(["a " * 200], words=False) == 400


def test_the_shipped_models_tokenizer_has_one() -> None:
    directory = ModelDirectory.open(default_model_dir())
    shipped = TextTokenizer(Path(directory.tokenizer_file()), directory.spec.max_tokens)
    assert shipped.effort(["a " * 200], words=False) < 400 == shipped.effort(["a " * 200], words=True)
    assert shipped.effort(["a[" * 200], words=False) == 400


def test_a_text_that_takes_long_is_the_librarys_which_lets_others_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A word's pieces take the square of its letters: in the short way the event loop would wait for them."""
    long_words, long_text = ("card" * 24 + " ") * 20, "the card " * 1000
    short = of(ALIKE[0], 10_000)
    assert short._plain is not None
    assert short.effort([long_words, long_text], words=False) == len(long_words) + len(long_text)
    whole = [list(text.ids) for text in encoded(short, [long_words, long_text], words=True)]
    monkeypatch.setattr(type(short._plain), "ids", None)
    assert [list(text.ids) for text in encoded(short, [long_words, long_text], words=False)] == whole


def test_what_a_text_must_not_have() -> None:
    assert marks_of(["[PAD]", "[UNK]", "<s>", "€"]) == ["<", "["]
    assert marks_of(["[PAD]", "user"]) is None
    assert marks_of(["€ x"]) is None
    assert marks_of([]) == []
