"""Reads labelled texts and annotated sentences from files.

    classification   JSONL {"text", "label"}                        .jsonl
                     CSV with a header that names text and label    .csv
    ner              JSONL {"text", "entities": [{"start", "end", "label"}]} or {"tokens", "tags"}
                     CoNLL: token and tag in columns, a blank line between sentences    .conll

Owns the formats and their errors: file, line, field, what is wrong and what is allowed. Leaves what the files
of a task have to do with one another to `dataset`. Called by `dataset`, `examples` and `build`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from modelkit.data.conll import bio_form, sentences_of
from modelkit.data.jsonl import json_objects, json_rows
from modelkit.data.lines import characters, listed, numbered_lines, shown
from modelkit.data.rows import EntityRow, Row, kind_of
from modelkit.data.table import table_rows
from modelkit.data.texts import OUTSIDE, DataError, LabelledText, TaggedSentence

SUFFIXES = (".jsonl", ".csv", ".conll")


def read_rows(path: Path) -> tuple[Row, ...]:
    """Every example of a file, all of one kind; its suffix tells the format.

    Raises DataError on the first line that is not of the format, and on a file without examples.
    """
    if path.suffix not in SUFFIXES:
        raise DataError(f"{path}: suffix {path.suffix!r}; allowed: {', '.join(SUFFIXES)}")
    rows: tuple[Row, ...]
    if path.suffix == ".csv":
        rows = tuple(table_rows(path))
    elif path.suffix == ".conll":
        sentences = sentences_of(path, bio_form)
        rows = tuple(EntityRow(line, sentence.text, sentence.spans) for line, sentence in sentences)
    else:
        rows = tuple(json_rows(path))
    if not rows:
        raise DataError(f"{path}: no examples; expected one or more")
    for row in rows:
        if type(row) is not type(rows[0]):
            here, there = kind_of(row), kind_of(rows[0])
            raise DataError(f"{path}:{row.line}: an example of {here}, above are those of {there}; one kind")
    return rows


def read_texts(path: Path) -> tuple[str, ...]:
    """Texts without labels: of `.jsonl` each object's text, whatever else it holds, of other files each line.

    Blank lines are skipped. Raises DataError on a bad file, and on one without texts.
    """
    if path.suffix == ".jsonl":
        rows = json_objects(path, '{"text"}')
        texts = tuple(characters(path, line, "text", row.get("text")) for line, row in rows)
    else:
        texts = tuple(line for _, line in numbered_lines(path) if line.strip())
    if not texts:
        raise DataError(f"{path}: no texts; expected one a line")
    return texts


def read_labels(path: Path) -> tuple[str, ...]:
    """The labels of a set, one a line, in the order that gives them their indices."""
    labels = tuple(line for _, line in numbered_lines(path) if line)
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
    for line, row in json_objects(path, '{"text", "label"}'):
        text, label = characters(path, line, "text", row.get("text")), row.get("label")
        if not isinstance(label, str) or label not in index:
            raise DataError(f"{path}:{line}: label {shown(label)}; allowed: {listed(labels)}")
        examples.append(LabelledText(text, index[label]))
    if not examples:
        raise DataError(f"{path}: no examples; expected lines of text and label")
    return tuple(examples)


def read_tagged_sentences(path: Path, tags: Sequence[str]) -> tuple[TaggedSentence, ...]:
    """Read columns of token and tag, the tags among `tags`; a blank line ends a sentence."""
    known = frozenset(tags)
    sentences = [
        sentence for _, sentence in sentences_of(path, lambda tag: None if tag in known else listed(tags))
    ]
    if not sentences:
        raise DataError(f"{path}: no sentences; expected lines of token TAB tag")
    return tuple(sentences)
