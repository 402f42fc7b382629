"""Reads labelled texts and tagged sentences, and turns tags into code point spans and back.

Owns the two file formats (`{"text", "label"}` lines, and token TAB BIO-tag lines with a blank line
between sentences) and their errors. Leaves tokenisation and training to `train`, and the decoding of a
model's logits to `minwatt.v1.decode`. Called by `examples`, `answers`, `build` and `train`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from minwatt.v1.errors import UsageError

OUTSIDE = "O"


class DataError(UsageError):
    """A data file that cannot be used; the message names file, line, value and what is allowed."""


@dataclass(frozen=True)
class LabelledText:
    """One text and the index of its label in the set's `labels.txt`."""

    text: str
    label: int


@dataclass(frozen=True, order=True)
class Span:
    """An entity: code points `start` (inclusive) to `end` (exclusive) of a text, and its label."""

    start: int
    end: int
    label: str


@dataclass(frozen=True)
class TaggedSentence:
    """Tokens and their BIO tags, one for one; the sentence's text is the tokens joined by one space."""

    tokens: tuple[str, ...]
    tags: tuple[str, ...]

    @property
    def text(self) -> str:
        """The sentence as it is sent to a model."""
        return " ".join(self.tokens)

    @property
    def spans(self) -> tuple[Span, ...]:
        """The entities, in order, as code point spans of `text`.

        An `I-` tag that follows no tag of its own label opens an entity, as seqeval's default does.
        """
        spans: list[Span] = []
        start, label, position, previous_end = 0, OUTSIDE, 0, 0
        for token, tag in zip(self.tokens, self.tags, strict=True):
            continues = tag.startswith("I-") and tag[2:] == label
            if label != OUTSIDE and not continues:
                spans.append(Span(start, previous_end, label))
                label = OUTSIDE
            if tag != OUTSIDE and not continues:
                start, label = position, tag[2:]
            previous_end = position + len(token)
            position = previous_end + 1
        if label != OUTSIDE:
            spans.append(Span(start, previous_end, label))
        return tuple(spans)


def tags_of_offsets(spans: Sequence[Span], offsets: Sequence[tuple[int, int]]) -> tuple[str, ...]:
    """Tag each piece of a text: `B-` for the first piece that touches a span, `I-` for its others.

    `offsets` are code point ranges in ascending order; an empty range (a special token) is `O`.
    """
    tags: list[str] = []
    entered = -1
    for start, end in offsets:
        touched = next((i for i, s in enumerate(spans) if start < s.end and end > s.start), None)
        if touched is None or start == end:
            tags.append(OUTSIDE)
            continue
        tags.append(("I-" if touched == entered else "B-") + spans[touched].label)
        entered = touched
    return tuple(tags)


def tags_of_pieces(
    sentence: TaggedSentence, word_ids: Sequence[int | None], offsets: Sequence[tuple[int, int]]
) -> list[str | None]:
    """The tag of every piece: that of its pre-tokenizer word, as decoding reads them; None if special."""
    ranges: dict[int, tuple[int, int]] = {}
    for word, (start, end) in zip(word_ids, offsets, strict=True):
        if word is not None:
            ranges[word] = (ranges.get(word, (start, end))[0], end)
    tags = dict(zip(ranges, tags_of_offsets(sentence.spans, list(ranges.values())), strict=True))
    return [None if word is None else tags[word] for word in word_ids]


def read_labels(path: Path) -> tuple[str, ...]:
    """The labels of a set, one a line, in the order that gives them their indices."""
    labels = tuple(line for _, line in _numbered_lines(path) if line)
    if len(labels) < 2:
        raise DataError(f"{path}: labels {_listed(labels) or 'none'}; expected two or more, one a line")
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
    """Read `{"text": …, "label": …}` lines; blank lines are skipped."""
    index = {label: i for i, label in enumerate(labels)}
    examples = []
    for number, line in _numbered_lines(path):
        if not line:
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:  # a JSONDecodeError, or past Python's limits
            reason = getattr(error, "msg", "too long or too deep")
            raise DataError(f"{path}:{number}: not JSON ({reason}): {_shown(line)}") from error
        if not isinstance(row, dict):
            raise DataError(f'{path}:{number}: {_shown(line)}; expected an object {{"text", "label"}}')
        text, label = row.get("text"), row.get("label")
        if not isinstance(text, str) or not text.strip():
            raise DataError(f"{path}:{number}: text {_shown(text)}; expected a text that is not empty")
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise DataError(
                f"{path}:{number}: text {_shown(text)}; half of a surrogate pair is not a character"
            )
        if not isinstance(label, str) or label not in index:
            raise DataError(f"{path}:{number}: label {_shown(label)}; allowed: {_listed(labels)}")
        examples.append(LabelledText(text, index[label]))
    if not examples:
        raise DataError(f"{path}: no examples; expected lines of text and label")
    return tuple(examples)


def read_tagged_sentences(path: Path, tags: Sequence[str]) -> tuple[TaggedSentence, ...]:
    """Read token TAB tag lines; a blank line ends a sentence."""
    known = frozenset(tags)
    sentences: list[TaggedSentence] = []
    pairs: list[tuple[str, str]] = []
    for number, line in _numbered_lines(path):
        if line:
            token, tab, tag = line.partition("\t")
            if not tab or not token:
                raise DataError(f"{path}:{number}: {_shown(line)}; expected token TAB tag")
            if tag not in known:
                raise DataError(f"{path}:{number}: tag {_shown(tag)}; allowed: {_listed(tags)}")
            pairs.append((token, tag))
        elif pairs:
            sentences.append(_sentence(pairs))
            pairs = []
    if pairs:
        sentences.append(_sentence(pairs))
    if not sentences:
        raise DataError(f"{path}: no sentences; expected lines of token TAB tag")
    return tuple(sentences)


def _sentence(pairs: Sequence[tuple[str, str]]) -> TaggedSentence:
    return TaggedSentence(tuple(token for token, _ in pairs), tuple(tag for _, tag in pairs))


def _numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Lines without their ends, numbered from 1. Only LF ends a line: texts may hold U+2028."""
    try:
        content = path.read_text(encoding="utf-8")
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: byte {error.start} is not UTF-8") from error
    for number, line in enumerate(content.split("\n"), start=1):
        yield number, line.removesuffix("\r")


def _shown(value: object, limit: int = 60) -> str:
    shown = repr(value)
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def _listed(values: Sequence[str], limit: int = 8) -> str:
    listed = ", ".join(values[:limit])
    return listed if len(values) <= limit else f"{listed}, … ({len(values)} in all)"
