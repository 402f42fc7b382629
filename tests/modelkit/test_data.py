"""Laws of the two file formats, of spans and of tags; errors name file, line, value and what is allowed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minwatt.v1.errors import UsageError
from modelkit.data.formats import read_labelled_texts, read_labels, read_tagged_sentences, read_tags
from modelkit.data.texts import LabelledText, TaggedSentence, tags_of_offsets, tags_of_pieces

LABELS = ("refund", "card_arrival")
TAGS = ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")
TOKEN = st.text(
    st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="\t"), min_size=1, max_size=6
)
PAIRS = st.lists(st.tuples(TOKEN, st.sampled_from(TAGS)), min_size=1, max_size=12)
SENTENCES = PAIRS.map(lambda pairs: TaggedSentence(tuple(t for t, _ in pairs), tuple(g for _, g in pairs)))


def offsets_of_tokens(sentence: TaggedSentence) -> list[tuple[int, int]]:
    offsets, position = [], 0
    for token in sentence.tokens:
        offsets.append((position, position + len(token)))
        position += len(token) + 1
    return offsets


@given(SENTENCES)
def test_spans_are_ordered_disjoint_and_cut_out_whole_tokens(sentence: TaggedSentence) -> None:
    previous_end = 0
    starts = {start for start, _ in offsets_of_tokens(sentence)}
    ends = {end for _, end in offsets_of_tokens(sentence)}
    for span in sentence.spans:
        assert previous_end <= span.start < span.end <= len(sentence.text)
        assert span.start in starts
        assert span.end in ends
        previous_end = span.end


@given(SENTENCES)
def test_tags_to_spans_and_back_changes_only_how_an_entity_opens(sentence: TaggedSentence) -> None:
    tags = tags_of_offsets(sentence.spans, offsets_of_tokens(sentence))
    assert [tag[2:] for tag in tags] == [tag[2:] for tag in sentence.tags]
    assert TaggedSentence(sentence.tokens, tags).spans == sentence.spans


def test_pieces_of_a_word_share_its_tag_and_special_tokens_have_none() -> None:
    sentence = TaggedSentence(("al-Ani", "sleeps"), ("B-PER", "O"))
    word_ids = [None, 0, 1, 2, 2, 3, None]  # [CLS] al - an ##i sleeps [SEP]
    offsets = [(0, 0), (0, 2), (2, 3), (3, 5), (5, 6), (7, 13), (0, 0)]
    expected = [None, "B-PER", "I-PER", "I-PER", "I-PER", "O", None]
    assert tags_of_pieces(sentence.spans, word_ids, offsets) == expected


@given(st.lists(SENTENCES, min_size=1, max_size=4))
def test_sentences_survive_their_file(
    tmp_path_factory: pytest.TempPathFactory, sentences: list[TaggedSentence]
) -> None:
    file = tmp_path_factory.mktemp("conll") / "train.conll"
    blocks = ("".join(f"{t}\t{g}\n" for t, g in zip(s.tokens, s.tags, strict=True)) for s in sentences)
    file.write_bytes("\n".join(blocks).encode())
    assert read_tagged_sentences(file, TAGS) == tuple(sentences)


@given(st.lists(st.builds(LabelledText, TOKEN.filter(str.strip), st.integers(0, 1)), min_size=1, max_size=5))
def test_texts_survive_their_file(
    tmp_path_factory: pytest.TempPathFactory, texts: list[LabelledText]
) -> None:
    file = tmp_path_factory.mktemp("jsonl") / "train.jsonl"
    lines = (json.dumps({"text": t.text, "label": LABELS[t.label]}, ensure_ascii=False) for t in texts)
    file.write_bytes("\n".join(lines).encode())
    assert read_labelled_texts(file, LABELS) == tuple(texts)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            '{"text": "hi", "label": "refund"}\n{"text": "hi", "label": "loan"}',
            ":2: label 'loan'; allowed: refund, card_arrival",
        ),
        ('{"text": "hi"}', ":1: label None; allowed: refund, card_arrival"),
        ('{"text": "hi", "label": ["refund"]}', ":1: label ['refund']; allowed: refund, card_arrival"),
        ('{"text": " ", "label": "refund"}', ":1: text ' '; expected a text that is not empty"),
        ("[1]", ":1: '[1]'; expected an object"),
        ('{"text": "a", "label": "b", "label": "c"}', ":1: field 'label' stands twice; each once"),
        ("{nope", ":1: not JSON"),
        ("[" * 100_000, ":1: not JSON (too long or too deep)"),
        ('{"text": "\\ud83d", "label": "refund"}', ":1: text '\\ud83d'; half of a surrogate pair"),
        ("\n", ": no examples"),
    ],
)
def test_a_bad_text_file_is_named_with_line_and_value(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "dev.jsonl"
    file.write_text(content)
    with pytest.raises(UsageError) as caught:
        read_labelled_texts(file, LABELS)
    assert str(caught.value).startswith(f"{file}{message}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("Oslo\tB-LOC\n\nOslo\tB-ORG\n", ":3: tag 'B-ORG'; allowed: O, B-LOC, I-LOC, B-PER, I-PER"),
        ("Oslo\n", ":1: 'Oslo'; expected token TAB tag"),
        ("\tO\n", ":1: '\\tO'; expected token TAB tag"),
        ("", ": no sentences"),
    ],
)
def test_a_bad_sentence_file_is_named_with_line_and_value(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "dev.conll"
    file.write_text(content)
    with pytest.raises(UsageError) as caught:
        read_tagged_sentences(file, TAGS)
    assert str(caught.value).startswith(f"{file}{message}")


def test_bad_label_files_and_missing_files_are_named(tmp_path: Path) -> None:
    file = tmp_path / "labels.txt"
    with pytest.raises(UsageError, match=r"labels\.txt: No such file"):
        read_labels(file)
    file.write_text("a\nb\na\n")
    with pytest.raises(UsageError, match="'a' appears more than once"):
        read_labels(file)
    file.write_text("one\n")
    with pytest.raises(UsageError, match="labels one; expected two or more"):
        read_labels(file)
    file.write_text("O\nB-LOC\n")
    with pytest.raises(UsageError, match="expected O first, then B-X and I-X"):
        read_tags(file)
    file.write_bytes(b"caf\xe9\n")
    with pytest.raises(UsageError, match="byte 3 is not UTF-8"):
        read_labels(file)
