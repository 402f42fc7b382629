"""Laws of the formats one brings one's own texts in: what is written is read, and a mistake has a line."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelkit.data.formats import read_rows
from modelkit.data.rows import EntityRow, LabelRow
from modelkit.data.texts import DataError, Span, TaggedSentence

TOKEN = st.text(
    st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="\t"), min_size=1, max_size=6
).filter(str.strip)
TEXT = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\x00"), min_size=1).filter(
    str.strip
)
LABELLED = st.lists(st.tuples(TEXT, TOKEN), min_size=1, max_size=6)
TAG = st.sampled_from(("O", "B-LOC", "I-LOC", "B-PER", "I-PER"))
SENTENCE = st.lists(st.tuples(TOKEN.map(str.strip), TAG), min_size=1, max_size=8).map(
    lambda pairs: TaggedSentence(tuple(t for t, _ in pairs), tuple(g for _, g in pairs))
)
SENTENCES = st.lists(SENTENCE, min_size=1, max_size=5)

Lines = Sequence[str]


def json_of_labelled(rows: Sequence[tuple[str, str]]) -> Lines:
    return [json.dumps({"text": text, "label": label}) for text, label in rows]


def json_of_tokens(sentences: Sequence[TaggedSentence]) -> Lines:
    return [json.dumps({"tokens": one.tokens, "tags": one.tags}) for one in sentences]


def json_of_spans(sentences: Sequence[TaggedSentence]) -> Lines:
    return [
        json.dumps({"text": one.text, "entities": [vars(span) for span in reversed(one.spans)]})
        for one in sentences
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


def write(folder: Path, suffix: str, content: str) -> Path:
    file = folder / f"train{suffix}"
    file.write_bytes(content.encode())
    return file


@given(LABELLED, st.sampled_from(("\n", "\r\n", "\n\n")))
def test_labelled_texts_survive_jsonl(folder: Path, rows: list[tuple[str, str]], end: str) -> None:
    file = write(folder, ".jsonl", end.join(json_of_labelled(rows)))
    step = end.count("\n")
    expected = [LabelRow(1 + step * i, text, label) for i, (text, label) in enumerate(rows)]
    assert list(read_rows(file)) == expected


@given(LABELLED, st.booleans(), st.booleans())
def test_labelled_texts_survive_csv(
    folder: Path, rows: list[tuple[str, str]], swapped: bool, marked: bool
) -> None:
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, quoting=csv.QUOTE_ALL)
    header = ["label", "id", "text"] if swapped else ["text", "label"]
    writer.writerow(header)
    lines = []
    for number, (text, label) in enumerate(rows):
        lines.append(1 + len(re.findall(r"\r\n|\r|\n", stream.getvalue())))
        cells = {"text": text, "label": label, "id": str(number)}
        writer.writerow([cells[name] for name in header])
    file = write(folder, ".csv", "\ufeff" * marked + stream.getvalue())
    expected = [LabelRow(line, text, label) for line, (text, label) in zip(lines, rows, strict=True)]
    assert list(read_rows(file)) == expected


@given(SENTENCES)
def test_entities_survive_each_format(folder: Path, sentences: list[TaggedSentence]) -> None:
    expected = [(one.text, one.spans) for one in sentences]
    conll = "\n".join(
        "".join(f"{t}\t{g}\n" for t, g in zip(one.tokens, one.tags, strict=True)) for one in sentences
    )
    files = (
        (".jsonl", "\n".join(json_of_tokens(sentences))),
        (".jsonl", "\n".join(json_of_spans(sentences))),
        (".conll", conll),
    )
    for suffix, content in files:
        rows = read_rows(write(folder, suffix, content))
        assert [(row.text, row.spans) for row in rows if isinstance(row, EntityRow)] == expected


def test_columns_apart_by_spaces_and_marks_between_documents_are_read(folder: Path) -> None:
    content = "-DOCSTART- -X- -X- O\n\nU.N. NNP I-NP B-ORG\nofficial NN I-NP O\n\nEkeus NNP B-PER\n"
    assert read_rows(write(folder, ".conll", content)) == (
        EntityRow(3, "U.N. official", (Span(0, 4, "ORG"),)),
        EntityRow(6, "Ekeus", (Span(0, 5, "PER"),)),
    )


JSON_MUTATIONS: dict[str, Callable[[dict[str, object]], object]] = {
    "no text": lambda row: {name: value for name, value in row.items() if name not in ("text", "tokens")},
    "empty text": lambda row: {**row, "text": " ", "tokens": []},
    "half a pair": lambda row: {**row, "text": "\ud83d", "tokens": ["\ud83d"] * 9, "tags": ["O"] * 9},
    "number": lambda row: {**row, "text": 1, "tokens": [1], "tags": ["O"]},
    "no answer": lambda row: {name: row[name] for name in row if name in ("text", "tokens")},
    "empty answer": lambda row: {**row, **{n: "" for n in ("label", "entities", "tags") if n in row}},
    "two answers": lambda row: {**row, "label": "a", "entities": []},
    "a list": lambda row: [row],
    "a string": lambda row: "text",
}


@given(st.data(), st.sampled_from(sorted(JSON_MUTATIONS)))
def test_every_mutation_of_jsonl_is_named_with_its_line(folder: Path, data: st.DataObject, kind: str) -> None:
    lines = data.draw(
        st.one_of(LABELLED.map(json_of_labelled), SENTENCES.map(json_of_tokens), SENTENCES.map(json_of_spans))
    )
    at = data.draw(st.integers(0, len(lines) - 1))
    mutated = [*lines]
    mutated[at] = json.dumps(JSON_MUTATIONS[kind](json.loads(lines[at])))
    with pytest.raises(DataError) as caught:
        read_rows(write(folder, ".jsonl", "\n".join(mutated)))
    assert str(caught.value).startswith(f"{folder / 'train.jsonl'}:{at + 1}: ")
    assert "\n" not in str(caught.value)


@given(SENTENCES, st.data(), st.sampled_from(("word", "word\tB-", "word\tE-LOC", "\tO", "word\t")))
def test_every_mutation_of_conll_is_named_with_its_line(
    folder: Path, sentences: list[TaggedSentence], data: st.DataObject, bad: str
) -> None:
    lines = [
        line
        for one in sentences
        for line in (*(f"{t}\t{g}" for t, g in zip(one.tokens, one.tags, strict=True)), "")
    ]
    at = data.draw(st.integers(0, len(lines) - 1))
    lines.insert(at, bad)
    with pytest.raises(DataError) as caught:
        read_rows(write(folder, ".conll", "\n".join(lines)))
    assert str(caught.value).startswith(f"{folder / 'train.conll'}:{at + 1}: ")


ENTITY = '{"text": "in Oslo", "entities": [%s]}'


@pytest.mark.parametrize(
    ("suffix", "content", "message"),
    [
        (".txt", "hi", ": suffix '.txt'; allowed: .jsonl, .csv, .conll"),
        (".jsonl", "", ": no examples"),
        (".conll", "\n\n", ": no examples"),
        (".csv", "", ":1: no header"),
        (".csv", "text,label\n", ": no examples"),
        (".csv", "text,intent\nhi,a\n", ":1: header 'text,intent'; expected one column 'label'"),
        (".csv", "text,label\nhi, you,a\n", ":2: 3 columns; expected 2: text, label"),
        (".csv", 'text,label\n"hi\nyou",a\n"hi,a\n', ":4: not CSV (unexpected end of data)"),
        (".csv", "text,label\nhi,\n", ":2: label ''; expected a text that is not empty"),
        (".jsonl", '{"text": "a", "label": "b"}\n{"tokens": ["a"], "tags": ["O"]}', ":2: an example of ner"),
        (".jsonl", '{"tokens": ["a", "b"], "tags": ["O"]}', ":1: 2 tokens and 1 tags; expected as many"),
        (".jsonl", '{"tokens": ["a"], "tags": ["LOC"]}', ":1: tags[0] 'LOC'; allowed: O, B-X and I-X"),
        (".jsonl", '{"text": "a", "lable": "b"}', ":1: none of them in ['text', 'lable']; expected either"),
        (".jsonl", ENTITY % "1", ":1: entities[0] 1; expected {"),
        (
            ".jsonl",
            ENTITY % '{"start": 3, "end": 8, "label": "LOC"}',
            ":1: entities[0] from 3 to 8; expected",
        ),
        (
            ".jsonl",
            ENTITY % '{"start": 3, "end": 3, "label": "LOC"}',
            ":1: entities[0] from 3 to 3; expected",
        ),
        (".jsonl", ENTITY % '{"start": "3", "end": 7}', ":1: entities[0].start '3'; expected a whole number"),
        (
            ".jsonl",
            ENTITY % '{"start": true, "end": 7}',
            ":1: entities[0].start True; expected a whole number",
        ),
        (".jsonl", ENTITY % '{"start": 2, "end": 3, "label": "LOC"}', ":1: entities[0] ' '; expected more"),
        (".jsonl", ENTITY % '{"start": 3, "end": 7}', ":1: entities[0].label None; expected a text"),
        (
            ".jsonl",
            ENTITY % '{"start": 3, "end": 7, "label": "LOC"}, {"start": 0, "end": 4, "label": "LOC"}',
            ":1: entities 'in O' and 'Oslo' overlap",
        ),
        (
            ".jsonl",
            ENTITY % '{"start": 3, "end": 7, "label": "O"}',
            ":1: entities[0].label 'O'; it is the tag",
        ),
        (".conll", "Oslo B-O\n", ":1: tag 'B-O'; allowed: O, B-X and I-X of an entity X other than O"),
    ],
)
def test_a_mistake_is_named_with_line_and_what_is_allowed(
    tmp_path: Path, suffix: str, content: str, message: str
) -> None:
    file = write(tmp_path, suffix, content)
    with pytest.raises(DataError) as caught:
        read_rows(file)
    assert str(caught.value).startswith(f"{file}{message}")


def test_a_byte_that_is_not_utf8_has_a_line(tmp_path: Path) -> None:
    file = tmp_path / "train.csv"
    file.write_bytes(b"text,label\nhi,a\ncaf\xe9,b\n")
    with pytest.raises(DataError, match=r"train\.csv:3: byte 19 is not UTF-8"):
        read_rows(file)


@given(
    SENTENCES,
    st.sampled_from(("", "\ufeff")),
    st.sampled_from(("", " ", " \t")),
    st.sampled_from(("\n", "\r\n")),
)
def test_marks_and_blanks_of_editors_change_nothing(
    folder: Path, sentences: list[TaggedSentence], mark: str, blank: str, end: str
) -> None:
    plain = "".join(
        "".join(f"{t}\t{g}\n" for t, g in zip(one.tokens, one.tags, strict=True)) + "\n" for one in sentences
    )
    expected = read_rows(write(folder, ".conll", plain))
    marked = mark + plain.replace("\n\n", f"\n{blank}\n").replace("\n", end)
    assert read_rows(write(folder, ".conll", marked)) == expected
    lines = json_of_tokens(sentences)
    expected = read_rows(write(folder, ".jsonl", f"\n{''}\n".join(lines)))
    assert read_rows(write(folder, ".jsonl", mark + f"{end}{blank}{end}".join(lines))) == expected


def test_a_text_of_any_length_is_read(folder: Path) -> None:
    text = "word " * 50_000
    file = write(folder, ".csv", f'text,label\n"{text}",a\n')
    assert read_rows(file) == (LabelRow(2, text, "a"),)


def test_spaces_at_an_entity_s_ends_are_not_of_it(tmp_path: Path) -> None:
    file = tmp_path / "train.jsonl"
    file.write_text('{"text": "see Al Bo, now", "entities": [{"start": 3, "end": 7, "label": "PER"}]}')
    assert [row.spans for row in read_rows(file) if isinstance(row, EntityRow)] == [(Span(4, 6, "PER"),)]


def test_a_mark_between_documents_needs_no_columns_and_a_tag_ends_before_spaces(tmp_path: Path) -> None:
    file = tmp_path / "train.conll"
    file.write_text("-DOCSTART-\n\nAl\tB-PER \nsleeps\tO \n")
    [row] = read_rows(file)
    assert isinstance(row, EntityRow)
    assert row.spans == (Span(0, 2, "PER"),)
