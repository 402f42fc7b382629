"""Laws of masked files: annotations lie on the same words, what is not masked keeps its bytes."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minwatt.v1.errors import UsageError
from modelkit.data.texts import DataError, Span, TaggedSentence
from modelkit.mask.findings import Finding
from modelkit.mask.masking import PSEUDONYMS, Masker, MaskOptions, moved, replaced, starts_within
from modelkit.mask.run import Job

WORDS = st.one_of(
    st.sampled_from(
        ["Alice", "Smith", "bob@x.de", "(bob@x.de)", "4111", "1111", "+44", "20", "7946", "0958", "card"]
    ),
    st.text(
        st.characters(exclude_categories=("Cs", "Cc", "Z"), exclude_characters="\ufeff"),
        min_size=1,
        max_size=5,
    ),
)
SENTENCES = st.lists(
    st.tuples(WORDS, st.sampled_from(("O", "O", "B-PER", "I-PER", "B-LOC", "I-LOC"))), min_size=1, max_size=9
).map(lambda pairs: TaggedSentence(tuple(word for word, _ in pairs), tuple(tag for _, tag in pairs)))
PLAIN_TEXT = st.text(
    st.characters(exclude_categories=("Cs", "N"), exclude_characters="@/.?:+\x00"), min_size=1
)


class Everywhere:
    """Finds the word Alice."""

    def find(self, texts: Sequence[str]) -> list[list[Finding]]:
        return [[Finding(at, at + 5, "PERSON")] if (at := text.find("Alice")) >= 0 else [] for text in texts]


def masked(content: str | bytes, form: str, fields: Sequence[str] = ("text",), **options: object) -> str:
    raw = content.encode() if isinstance(content, str) else content
    sink = io.BytesIO()
    job = Job(Masker(MaskOptions(**options)), Everywhere(), fields)  # type: ignore[arg-type]
    job.stream(io.BytesIO(raw), sink, "in", form)
    return sink.getvalue().decode()


@settings(max_examples=50)
@given(SENTENCES, st.sampled_from(PSEUDONYMS))
def test_annotations_of_a_text_lie_on_the_same_words(sentence: TaggedSentence, mode: str) -> None:
    masker = Masker(MaskOptions(pseudonyms=mode))  # type: ignore[arg-type]
    text, spans = sentence.text, sentence.spans
    findings = masker.find(text, (), spans)
    pieces = masker.pieces(text, findings, lambda one: starts_within(spans, one))
    new, after = replaced(text, pieces), moved(spans, pieces)
    assert [span.label for span in after] == [span.label for span in spans]
    assert all(one.end <= other.start for one, other in pairwise(after))
    for was, span in zip(spans, after, strict=True):
        touching = [one for one in pieces if one.start < was.end and was.start < one.end]
        if not touching:
            assert new[span.start : span.end] == text[was.start : was.end]
        else:  # the words before and after the placeholders, and the placeholders whole
            before = text[was.start : max(was.start, touching[0].start)]
            behind = text[min(was.end, touching[-1].end) : was.end]
            between = replaced(
                text[touching[0].start : touching[-1].end],
                [
                    type(one)(one.start - touching[0].start, one.end - touching[0].start, one.placeholder)
                    for one in touching
                ],
            )
            assert new[span.start : span.end] == before + between + behind
        if was.label == "PER":
            assert touching


@settings(max_examples=50)
@given(st.lists(SENTENCES, min_size=1, max_size=4), st.sampled_from(("\n", "\r\n")))
def test_conll_and_json_tokens_keep_their_tags_one_for_one(sentences: list[TaggedSentence], end: str) -> None:
    rows = [
        "".join(f"{t}\t_x_\t{g}{end}" for t, g in zip(one.tokens, one.tags, strict=True)) for one in sentences
    ]
    conll = masked(end.join(rows), "conll").split(end)
    as_json = masked(
        "\n".join(json.dumps({"tokens": one.tokens, "tags": one.tags}) for one in sentences), "jsonl"
    )
    read = [json.loads(line) for line in as_json.split("\n")]
    lines = [line.split("\t") for line in conll if line]
    assert [cells[-1] for cells in lines] == [tag for one in sentences for tag in one.tags]
    assert [row["tags"] for row in read] == [list(one.tags) for one in sentences]
    assert [cells[0] for cells in lines] == [token for row in read for token in row["tokens"]]
    for cells, was in zip(lines, [token for one in sentences for token in one.tokens], strict=True):
        assert cells[1] == ("_x_" if cells[0] == was else "_")
    assert not any(
        "Alice" in cells[0] and "@" not in cells[0] and cells[-1].endswith("PER") for cells in lines
    )


@given(PLAIN_TEXT, st.booleans(), st.sampled_from(("\n", "\r\n", "\n\n", "")))
def test_what_is_not_masked_keeps_its_bytes(text: str, escaped: bool, end: str) -> None:
    cell = io.StringIO(newline="")
    csv.writer(cell).writerow([text, "1.10"])
    row = (
        ' {"n": 1.10,  "text" :'
        + json.dumps(text, ensure_ascii=escaped)
        + ', "n": [1e400, {"text": "a@b.c"}]}'
    )
    assert masked(row + end, "jsonl", labels=()) == row + end
    table = "\ufefftext,n\r\n" + cell.getvalue() + end
    assert masked(table, "csv", labels=()) == table


@given(st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\x00")), st.booleans())
def test_of_a_masked_object_only_the_text_changes(other: str, escaped: bool) -> None:
    row = json.dumps({"a": other, "text": f"to bob@x.de {other}", "b": 1.5}, ensure_ascii=escaped)
    new = masked(f"{row}\n", "jsonl", labels=())
    assert new.startswith(json.dumps({"a": other}, ensure_ascii=escaped)[:-1])
    assert new.endswith(', "b": 1.5}\n')
    assert json.loads(new)["text"].startswith("to [EMAIL]")


@given(
    st.lists(
        st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\x00")), min_size=3, max_size=3
    )
)
def test_a_masked_record_of_csv_keeps_its_other_cells(cells: list[str]) -> None:
    stream = io.StringIO(newline="")
    csv.writer(stream).writerows([["a", "text", "label"], [cells[0], f"{cells[1]} bob@x.de", cells[2]]])
    [_, new] = csv.reader(io.StringIO(masked(stream.getvalue(), "csv", labels=()), newline=""), strict=True)
    assert (new[0], new[2]) == (cells[0], cells[2])
    assert new[1].endswith("[EMAIL]")


def test_entities_move_with_their_words_and_what_repeats_them_too() -> None:
    row = {
        "text": "Dear Alice Smith of Oslo, 4111 1111 1111 1111",
        "entities": [
            {"start": 20, "end": 24, "label": "LOC", "text": "Oslo"},
            {"start": 5, "end": 16, "label": "PER", "text": "Alice Smith", "score": 0.5},
        ],
    }
    assert json.loads(masked(json.dumps(row), "jsonl")) == {
        "text": "Dear [PERSON] of Oslo, [CARD]",
        "entities": [
            {"start": 17, "end": 21, "label": "LOC", "text": "Oslo"},
            {"start": 5, "end": 13, "label": "PER", "text": "[PERSON]", "score": 0.5},
        ],
    }


def test_two_annotations_do_not_come_to_lie_on_one_placeholder() -> None:
    spans = (Span(0, 5, "PER"), Span(6, 9, "LOC"))
    row = {"text": "alice-bonn@x.de", "entities": [vars(span) for span in spans]}
    new = json.loads(masked(json.dumps(row), "jsonl", labels=()))
    assert new["text"] == "[EMAIL][EMAIL]"
    assert [(one["start"], one["end"]) for one in new["entities"]] == [(0, 7), (7, 14)]


def test_fields_are_named() -> None:
    row = '{"question": "bob@x.de", "answer": "carol@x.de", "text": "dan@x.de"}'
    assert masked(row, "jsonl", ("question", "answer")) == (
        '{"question": "[EMAIL]", "answer": "[EMAIL]", "text": "dan@x.de"}'
    )


ERRORS = (
    ("jsonl", b'{"text": "a"}\n{"text": "Alice', "in:2: not JSON"),
    ("jsonl", b'["Alice"]', "in:1: not an object"),
    ("jsonl", b'\n{"txt": "Alice"}', "in:2: no field 'text', nor tokens"),
    ("jsonl", b'{"text": ["Alice"]}', "in:1: text is no text"),
    ("jsonl", b'{"text": "Alice", "text": "b"}', "in:1: field 'text' stands twice"),
    ("jsonl", b'{"text": "Alice \\ud83d"}', "in:1: text has half of a surrogate pair"),
    ("jsonl", b'{"text": "Alice", "entities": {}}', "in:1: entities is no list"),
    (
        "jsonl",
        b'{"text": "Alice", "entities": [{"start": 0, "end": 6, "label": "P"}]}',
        "in:1: entities[0]: expected",
    ),
    (
        "jsonl",
        b'{"text": "Alice", "entities": [{"start": 0, "end": true, "label": "P"}]}',
        "in:1: entities[0]: expec",
    ),
    (
        "jsonl",
        b'{"text": "Alice", "entities": [{"start":0,"end":3,"label":"P"},{"start":2,"end":4,"label":"P"}]}',
        "in:1: entities from 0 and from 2 overlap",
    ),
    ("jsonl", b'{"tokens": ["Alice"], "tags": []}', "in:1: 1 tokens and 0 tags"),
    ("jsonl", b'{"tokens": ["Alice"], "tags": ["Alice"]}', "in:1: tags[0]: allowed: O"),
    ("jsonl", b'{"tokens": "Alice"}', "in:1: tokens is no list"),
    ("jsonl", b"{" * 100_000, "in:1: not JSON"),
    ("jsonl", b'{"text": "Alice"}\n\xff', "in:2: byte 1 of the line is not UTF-8"),
    ("csv", b"", "in:1: no header"),
    ("csv", b"txt\nAlice\n", "in:1: header: 0 columns 'text'"),
    ("csv", b'text\n"Alice', "in:2: not CSV"),
    ("csv", b'id,text\n1,"a\nb"\nAlice\n', "in:4: 1 columns; expected 2"),
    ("conll", b"Alice\n", "in:1: 1 columns; expected token TAB tag"),
    ("conll", b"a\tO\n\nAlice Smith\n", "in:3: tag; allowed: O"),
)


@pytest.mark.parametrize(("form", "content", "line"), ERRORS)
def test_a_mistake_has_a_line_and_its_text_is_not_told(form: str, content: bytes, line: str) -> None:
    with pytest.raises(DataError) as caught:
        masked(content, form)
    assert str(caught.value).startswith(line)
    assert "Alice" not in str(caught.value)


def test_a_file_that_fails_leaves_nothing_and_what_was_there(tmp_path: Path) -> None:
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text('{"text": "a"}\n{')
    out.write_text("old")
    with pytest.raises(UsageError):
        Job(Masker(MaskOptions()), None).file(source, out, "jsonl")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "out.jsonl"]
    assert out.read_text() == "old"


def test_rows_are_not_kept() -> None:
    """Of an endless file the first rows are out before the last are read."""
    written = io.BytesIO()

    def endless() -> object:
        for number in range(2000):
            assert number < 1000 or written.tell() > 0
            yield b'{"text": "bob@x.de"}\n'

    report = Job(Masker(MaskOptions()), None).stream(endless(), written, "in", "jsonl")  # type: ignore[arg-type]
    assert (report.texts, report.changed, report.found) == (2000, 2000, {"EMAIL": 2000})


@pytest.mark.parametrize(
    ("form", "content", "expected"),
    [
        ("jsonl", '\ufeff{"text": "a@x.de"}\n', '\ufeff{"text": "[EMAIL]"}\n'),
        ("jsonl", ' \t\n{"text": "a@x.de"}\r', ' \t\n{"text": "[EMAIL]"}\r'),
        ("csv", "\ufefftext\r\na@x.de\r\n", "\ufefftext\r\n[EMAIL]\r\n"),
        ("csv", f"text\n{'a ' * 70_000}b@x.de\n", f"text\n{'a ' * 70_000}[EMAIL]\n"),
        (
            "conll",
            "\ufeff-DOCSTART-\n\na@x.de\tB-PER \n \nb O \n",
            "\ufeff-DOCSTART-\n\n[EMAIL]\tB-PER\n \nb O \n",
        ),
        ("conll", "\ufeffa@x.de O\r", "\ufeff[EMAIL] O\r"),
    ],
)
def test_what_finetune_reads_is_masked_marks_and_blank_lines_kept(
    form: str, content: str, expected: str
) -> None:
    before = csv.field_size_limit(131_072)  # a process that has read no table
    try:
        assert masked(content, form) == expected
    finally:
        csv.field_size_limit(before)


def test_what_only_looks_like_a_placeholder_is_text() -> None:
    for mode in PSEUDONYMS:
        hidden = json.dumps({"text": f"[EMAIL_{'9' * 5000}] [CARD_4111111111111111] [ID_2]"}) + "\n"
        written = json.loads(masked(hidden, "jsonl", pseudonyms=mode))["text"]
        assert "9999" not in written
        assert "4111" not in written
        assert written.endswith(" [ID_2]")
