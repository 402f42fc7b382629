"""Reads labelled texts and annotated sentences from files.

    classification   JSONL {"text", "label"}                        .jsonl
                     CSV with a header that names text and label    .csv
    ner              JSONL {"text", "entities": [{"start", "end", "label"}]} or {"tokens", "tags"}
                     CoNLL: token and tag in columns, a blank line between sentences    .conll

Owns the formats and their errors: file, line, field, what is wrong and what is allowed. Leaves what the files
of a task have to do with one another to `dataset`. Called by `dataset`, `examples` and `build`.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from modelkit.data.texts import (
    OUTSIDE,
    DataError,
    LabelledText,
    Span,
    TaggedSentence,
)

CLASSIFICATION, NER = "classification", "ner"
SUFFIXES = (".jsonl", ".csv", ".conll")
_ONE_OF_EACH = 'either {"text", "label"} or {"text", "entities"} or {"tokens", "tags"}'


@dataclass(frozen=True)
class LabelRow:
    """A text with the name of its label, and the line of its file where it begins, from 1."""

    line: int
    text: str
    label: str


@dataclass(frozen=True)
class EntityRow:
    """A text with its entities, and the line of its file where it begins, from 1."""

    line: int
    text: str
    spans: tuple[Span, ...]


Row = LabelRow | EntityRow


def read_rows(path: Path) -> tuple[Row, ...]:
    """Every example of a file, all of one kind; its suffix tells the format.

    Raises DataError on the first line that is not of the format, and on a file without examples.
    """
    if path.suffix not in SUFFIXES:
        raise DataError(f"{path}: suffix {path.suffix!r}; allowed: {', '.join(SUFFIXES)}")
    rows: tuple[Row, ...]
    if path.suffix == ".csv":
        rows = tuple(_csv_rows(path))
    elif path.suffix == ".conll":
        sentences = _sentences(path, _bio_form)
        rows = tuple(EntityRow(line, sentence.text, sentence.spans) for line, sentence in sentences)
    else:
        rows = tuple(_json_rows(path))
    if not rows:
        raise DataError(f"{path}: no examples; expected one or more")
    for row in rows:
        if type(row) is not type(rows[0]):
            here, there = _kind_of(row), _kind_of(rows[0])
            raise DataError(f"{path}:{row.line}: an example of {here}, above are those of {there}; one kind")
    return rows


def read_texts(path: Path) -> tuple[str, ...]:
    """Texts without labels: of `.jsonl` each object's text, whatever else it holds, of other files each line.

    Blank lines are skipped. Raises DataError on a bad file, and on one without texts.
    """
    if path.suffix == ".jsonl":
        rows = _json_objects(path, '{"text"}')
        texts = tuple(_characters(path, line, "text", row.get("text")) for line, row in rows)
    else:
        texts = tuple(line for _, line in _numbered_lines(path) if line.strip())
    if not texts:
        raise DataError(f"{path}: no texts; expected one a line")
    return texts


def read_labels(path: Path) -> tuple[str, ...]:
    """The labels of a set, one a line, in the order that gives them their indices."""
    labels = tuple(line for _, line in _numbered_lines(path) if line)
    if len(labels) < 2:
        raise DataError(f"{path}: labels {listed(labels) or 'none'}; expected two or more, one a line")
    repeated = {label for label in labels if labels.count(label) > 1}
    if repeated:
        raise DataError(f"{path}: label {min(repeated)!r} appears more than once; each label once")
    return labels


def read_tags(path: Path) -> tuple[str, ...]:
    """The BIO tags of a set: `O` first, then a `B-` and an `I-` tag for every label."""
    tags = read_labels(path)
    kinds = {tag[2:] for tag in tags if tag[:2] in ("B-", "I-")}
    allowed = {OUTSIDE, *(prefix + kind for kind in kinds for prefix in ("B-", "I-"))}
    if tags[0] != OUTSIDE or set(tags) != allowed or "" in kinds:
        raise DataError(
            f"{path}: tags {', '.join(tags)}; expected O first, then B-X and I-X for each label X"
        )
    return tags


def read_labelled_texts(path: Path, labels: Sequence[str]) -> tuple[LabelledText, ...]:
    """Read `{"text": …, "label": …}` lines whose labels are among `labels`; blank lines are skipped."""
    index = {label: i for i, label in enumerate(labels)}
    examples = []
    for line, row in _json_objects(path, '{"text", "label"}'):
        text, label = _characters(path, line, "text", row.get("text")), row.get("label")
        if not isinstance(label, str) or label not in index:
            raise DataError(f"{path}:{line}: label {_shown(label)}; allowed: {listed(labels)}")
        examples.append(LabelledText(text, index[label]))
    if not examples:
        raise DataError(f"{path}: no examples; expected lines of text and label")
    return tuple(examples)


def read_tagged_sentences(path: Path, tags: Sequence[str]) -> tuple[TaggedSentence, ...]:
    """Read columns of token and tag, the tags among `tags`; a blank line ends a sentence."""
    known = frozenset(tags)
    sentences = [
        sentence for _, sentence in _sentences(path, lambda tag: None if tag in known else listed(tags))
    ]
    if not sentences:
        raise DataError(f"{path}: no sentences; expected lines of token TAB tag")
    return tuple(sentences)


def listed(values: Sequence[str], limit: int = 8) -> str:
    """The first values, and how many there are."""
    text = ", ".join(values[:limit])
    return text if len(values) <= limit else f"{text}, … ({len(values)} in all)"


def _kind_of(row: Row) -> str:
    return CLASSIFICATION if isinstance(row, LabelRow) else NER


def _csv_rows(path: Path) -> Iterator[LabelRow]:
    content = _content(path).removeprefix("\ufeff")  # a spreadsheet's byte order mark
    reader = csv.reader(io.StringIO(content, newline=""), strict=True)
    columns: list[str] | None = None
    line = 1
    while True:
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise DataError(f"{path}:{line}: not CSV ({error}); a quote inside quotes is doubled") from error
        if cells is None:
            break
        if columns is None:
            columns = _header(path, line, cells)
        elif cells:
            if len(cells) != len(columns):
                raise DataError(
                    f"{path}:{line}: {len(cells)} columns; expected {len(columns)}: {listed(columns)}"
                )
            row: dict[str, Any] = dict(zip(columns, cells, strict=True))
            yield LabelRow(
                line,
                _characters(path, line, "text", row.get("text")),
                _characters(path, line, "label", row.get("label")),
            )
        line = reader.line_num + 1
    if columns is None:
        raise DataError(f"{path}:1: no header; expected one that names text and label")


def _header(path: Path, line: int, cells: list[str]) -> list[str]:
    for name in ("text", "label"):
        if cells.count(name) != 1:
            raise DataError(
                f"{path}:{line}: header {_shown(','.join(cells))}; expected one column {name!r}, "
                "one each of text and label"
            )
    return cells


def _json_rows(path: Path) -> Iterator[Row]:
    for line, row in _json_objects(path, _ONE_OF_EACH):
        given = [name for name in ("label", "entities", "tokens") if name in row]
        if len(given) != 1:
            found = " and ".join(given) or f"none of them in {_shown(list(row))}"
            raise DataError(f"{path}:{line}: {found}; expected {_ONE_OF_EACH}")
        if given == ["label"]:
            yield LabelRow(
                line,
                _characters(path, line, "text", row.get("text")),
                _characters(path, line, "label", row["label"]),
            )
        elif given == ["entities"]:
            text = _characters(path, line, "text", row.get("text"))
            yield EntityRow(line, text, _entities(path, line, text, row["entities"]))
        else:
            sentence = _tokens_and_tags(path, line, row)
            yield EntityRow(line, sentence.text, sentence.spans)


def _entities(path: Path, line: int, text: str, entities: object) -> tuple[Span, ...]:
    if not isinstance(entities, list):
        raise DataError(f"{path}:{line}: entities {_shown(entities)}; expected a list")
    spans = []
    for number, entity in enumerate(entities):
        field = f"entities[{number}]"
        if not isinstance(entity, dict):
            raise DataError(f'{path}:{line}: {field} {_shown(entity)}; expected {{"start", "end", "label"}}')
        start, end = (_position(path, line, f"{field}.{name}", entity.get(name)) for name in ("start", "end"))
        if not start < end <= len(text):
            raise DataError(
                f"{path}:{line}: {field} from {start} to {end}; expected start < end <= {len(text)}, "
                "the text's code points"
            )
        if not text[start:end].strip():
            raise DataError(f"{path}:{line}: {field} {_shown(text[start:end])}; expected more than spaces")
        spans.append(Span(start, end, _characters(path, line, f"{field}.label", entity.get("label"))))
    spans.sort()
    for one, other in pairwise(spans):
        if other.start < one.end:
            raise DataError(
                f"{path}:{line}: entities {_shown(text[one.start : one.end])} and "
                f"{_shown(text[other.start : other.end])} overlap; expected entities apart from one another"
            )
    return tuple(spans)


def _position(path: Path, line: int, field: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise DataError(f"{path}:{line}: {field} {_shown(value)}; expected a whole number from 0")
    return value


def _tokens_and_tags(path: Path, line: int, row: dict[str, Any]) -> TaggedSentence:
    for field in ("tokens", "tags"):
        values = row.get(field)
        if not isinstance(values, list) or not values:
            raise DataError(f"{path}:{line}: {field} {_shown(values)}; expected a list that is not empty")
    tokens, tags = row["tokens"], row["tags"]
    if len(tokens) != len(tags):
        raise DataError(f"{path}:{line}: {len(tokens)} tokens and {len(tags)} tags; expected as many")
    for number, (token, tag) in enumerate(zip(tokens, tags, strict=True)):
        _characters(path, line, f"tokens[{number}]", token)
        if not isinstance(tag, str) or (allowed := _bio_form(tag)):
            allowed = _BIO if not isinstance(tag, str) else allowed
            raise DataError(f"{path}:{line}: tags[{number}] {_shown(tag)}; allowed: {allowed}")
    return TaggedSentence(tuple(tokens), tuple(tags))


_BIO = "O, B-X and I-X of an entity X"


def _bio_form(tag: str) -> str | None:
    """None for a BIO tag, else what is allowed."""
    return None if tag == OUTSIDE or (tag[:2] in ("B-", "I-") and tag[2:].strip()) else _BIO


def _sentences(path: Path, refused: Callable[[str], str | None]) -> Iterator[tuple[int, TaggedSentence]]:
    """Sentences with the line of their first token. `refused` says of a bad tag what is allowed.

    Columns lie apart by tabs or, in a line without one, by spaces; the first is the token, the last the tag.
    """
    pairs: list[tuple[str, str]] = []
    first = 1
    for number, line in _numbered_lines(path):
        if not line:
            if pairs:
                yield first, _sentence(pairs)
            pairs = []
            continue
        cells = line.split("\t") if "\t" in line else line.split(" ")
        token, tag = cells[0], cells[-1]
        if len(cells) < 2 or not token:
            raise DataError(f"{path}:{number}: {_shown(line)}; expected token TAB tag")
        if token == "-DOCSTART-":  # noqa: S105 - CoNLL's mark between documents
            continue
        if allowed := refused(tag):
            raise DataError(f"{path}:{number}: tag {_shown(tag)}; allowed: {allowed}")
        if not pairs:
            first = number
        pairs.append((token, tag))
    if pairs:
        yield first, _sentence(pairs)


def _sentence(pairs: Sequence[tuple[str, str]]) -> TaggedSentence:
    return TaggedSentence(tuple(token for token, _ in pairs), tuple(tag for _, tag in pairs))


def _json_objects(path: Path, expected: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in _numbered_lines(path):
        if not line:
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:  # a JSONDecodeError, or past Python's limits
            reason = getattr(error, "msg", "too long or too deep")
            raise DataError(f"{path}:{number}: not JSON ({reason}): {_shown(line)}") from error
        if not isinstance(row, dict):
            raise DataError(f"{path}:{number}: {_shown(line)}; expected an object {expected}")
        yield number, row


def _characters(path: Path, line: int, field: str, value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{path}:{line}: {field} {_shown(value)}; expected a text that is not empty")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise DataError(
            f"{path}:{line}: {field} {_shown(value)}; half of a surrogate pair is not a character"
        )
    return value


def _content(path: Path) -> str:
    try:
        content = path.read_bytes()
        return content.decode("utf-8")
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path}:{line}: byte {error.start} is not UTF-8") from error


def _numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Lines without their ends, numbered from 1. Only LF ends a line: texts may hold U+2028."""
    for number, line in enumerate(_content(path).split("\n"), start=1):
        yield number, line.removesuffix("\r")


def _shown(value: object, limit: int = 60) -> str:
    shown = repr(value)
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"
