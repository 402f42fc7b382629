"""Reads the files that are masked, a row at a time, and writes each row anew with its findings replaced.

Owns lines, what a row is, and JSONL; `columns` has CSV and CoNLL. All that is not replaced keeps its bytes:
spacing, order, escapes, fields that nobody asked for. An error names file and line and never quotes what
stands there, as it may be what is to be masked. Called by `run`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NoReturn

from modelkit.data.lines import is_blank
from modelkit.data.texts import OUTSIDE, DataError, Span, TaggedSentence
from modelkit.mask.findings import Finding
from modelkit.mask.masking import Piece, moved, replaced, starts_within

TEXT_FIELD = "text"
_BIO = re.compile(r"O|[BI]-.*\S.*", re.DOTALL)
_SPACES = re.compile(r"[ \t\n\r]*")
_DECODER = json.JSONDecoder()
# Fields beside the texts that hold no text of a person: what finetune reads, and a task's answer.
_LABELS = frozenset(("label", "tags", "entities", "tokens"))


@dataclass(frozen=True)
class Line:
    number: int  # from 1
    body: str
    end: str  # LF, CR LF, or nothing at the file's end


@dataclass(frozen=True)
class Part:
    """A text of a row. `tokens` are ranges of it that stay apart; None where it is one text."""

    text: str
    spans: tuple[Span, ...] = ()
    tokens: tuple[tuple[int, int], ...] | None = None

    def cuts(self, one: Finding) -> list[int]:
        """Where a finding is parted: at each token, or else so that annotations stay apart."""
        if self.tokens is None:
            return starts_within(self.spans, one)
        return [start for start, _ in self.tokens if one.start < start < one.end]


Pieces = Sequence[Sequence[Piece]]  # of each part of a row


@dataclass(frozen=True)
class Row:
    """One example, or lines without one. `left`: names of its fields of text that are not masked."""

    raw: str
    parts: tuple[Part, ...]
    rewritten: Callable[[Pieces], str]
    left: tuple[str, ...] = ()


def passed(raw: str) -> Row:
    """A row without a text."""
    return Row(raw, (), lambda _: raw)


def lines(stream: Iterable[bytes], name: str) -> Iterator[Line]:
    """Lines of UTF-8, one in memory at a time. Only LF ends one: texts may hold U+2028. Raises DataError."""
    for number, raw in enumerate(stream, start=1):
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise DataError(f"{name}:{number}: byte {error.start + 1} of the line is not UTF-8") from error
        body = text.removesuffix("\n").removesuffix("\r")
        yield Line(number, body, text[len(body) :])


def json_rows(source: Iterator[Line], name: str, fields: Sequence[str]) -> Iterator[Row]:
    """A JSON object a line: texts in `fields`, entities of the field "text", tokens with their tags."""
    for line in source:
        if is_blank(line.body):
            yield passed(line.body + line.end)
        else:
            yield _JsonRow(line, f"{name}:{line.number}", fields).row()


@dataclass(frozen=True)
class _Member:
    value: Any
    start: int
    end: int


class _JsonRow:
    """One object; `where` is its file and line."""

    def __init__(self, line: Line, where: str, fields: Sequence[str]) -> None:
        self._line, self._where = line, where
        self._members = self._read(frozenset((*fields, "entities", "tokens", "tags")))
        self._fields = [field for field in fields if field in self._members]
        if not self._fields and "tokens" not in self._members:
            expected = " or ".join(map(repr, fields))
            self._refuse(f"no field {expected}, nor tokens; expected one, or another named with --field")

    def row(self) -> Row:
        parts = [self._part(field) for field in self._fields]
        if "tokens" in self._members:
            parts.append(self._token_part())
        left = tuple(
            field
            for field, member in self._members.items()
            if isinstance(member.value, str | list | dict) and field not in (*self._fields, *_LABELS)
        )
        return Row(self._line.body + self._line.end, tuple(parts), self._rewritten, left)

    def _refuse(self, reason: str) -> NoReturn:
        raise DataError(f"{self._where}: {reason}") from None

    def _read(self, once: frozenset[str]) -> dict[str, _Member]:
        """The object's members with their places. Of a name of `once` there may be one."""
        body = self._line.body
        try:
            whole = json.loads(body)
        except (ValueError, RecursionError) as error:
            reason = error.msg if isinstance(error, json.JSONDecodeError) else "too long or too deep"
            column = f", column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
            self._refuse(f"not JSON ({reason}{column})")
        if not isinstance(whole, dict):
            self._refuse("not an object; expected one a line")
        members: dict[str, _Member] = {}
        at = _after_spaces(body, body.index("{") + 1)
        while body[at] != "}":
            name, at = _DECODER.raw_decode(body, at)
            start = _after_spaces(body, _after_spaces(body, at) + 1)  # past the colon
            value, at = _DECODER.raw_decode(body, start)
            if name in members and name in once:
                self._refuse(f"field {name!r} stands twice; each once")
            members[name] = _Member(value, start, at)
            at = _after_spaces(body, at)
            if body[at] == ",":
                at = _after_spaces(body, at + 1)
        return members

    def _part(self, field: str) -> Part:
        text = self._string(field, self._members[field].value)
        if field != TEXT_FIELD or "entities" not in self._members:
            return Part(text)
        return Part(text, self._spans(len(text), self._members["entities"].value))

    def _string(self, field: str, value: object) -> str:
        if not isinstance(value, str):
            self._refuse(f"{field} is no text; expected a string")
        if any("\ud800" <= character <= "\udfff" for character in value):
            self._refuse(f"{field} has half of a surrogate pair, which is not a character")
        return value

    def _spans(self, length: int, entities: object) -> tuple[Span, ...]:
        if not isinstance(entities, list):
            self._refuse("entities is no list; expected one")
        spans = []
        for number, entity in enumerate(entities):
            field = f"entities[{number}]"
            if not isinstance(entity, dict):
                self._refuse(f'{field} is no object; expected {{"start", "end", "label"}}')
            start, end = entity.get("start"), entity.get("end")
            if type(start) is not int or type(end) is not int or not 0 <= start < end <= length:
                self._refuse(f"{field}: expected whole numbers 0 <= start < end <= {length}, the code points")
            spans.append(Span(start, end, self._string(f"{field}.label", entity.get("label"))))
        for one, other in pairwise(sorted(spans)):
            if other.start < one.end:
                self._refuse(f"entities from {one.start} and from {other.start} overlap; expected them apart")
        return tuple(spans)

    def _token_part(self) -> Part:
        tokens = self._strings("tokens")
        tags = self._strings("tags") if "tags" in self._members else [OUTSIDE] * len(tokens)
        if len(tokens) != len(tags):
            self._refuse(f"{len(tokens)} tokens and {len(tags)} tags; expected as many")
        for number, tag in enumerate(tags):
            if not _BIO.fullmatch(tag):
                self._refuse(f"tags[{number}]: allowed: O, B-X and I-X of an entity X")
        return token_part(tokens, tags)

    def _strings(self, field: str) -> list[str]:
        values = self._members[field].value
        if not isinstance(values, list):
            self._refuse(f"{field} is no list; expected one")
        return [self._string(f"{field}[{number}]", value) for number, value in enumerate(values)]

    def _rewritten(self, pieces: Pieces) -> str:
        texts = {field: self._members[field].value for field in self._fields}
        new: dict[str, object] = {
            field: replaced(texts[field], mine)
            for field, mine in zip(self._fields, pieces, strict=False)
            if mine
        }
        if TEXT_FIELD in new and self._members.get("entities", _NO_ENTITIES).value:
            of_text = pieces[self._fields.index(TEXT_FIELD)]
            new["entities"] = self._moved(texts[TEXT_FIELD], str(new[TEXT_FIELD]), of_text)
        if "tokens" in self._members and pieces[-1]:
            new["tokens"] = replaced_tokens(self._members["tokens"].value, pieces[-1])
        body = self._line.body
        is_ascii = body.isascii()
        for member, value in sorted(
            ((self._members[field], value) for field, value in new.items()), key=lambda pair: -pair[0].start
        ):
            body = body[: member.start] + json.dumps(value, ensure_ascii=is_ascii) + body[member.end :]
        return body + self._line.end

    def _moved(self, old: str, new: str, pieces: Sequence[Piece]) -> list[dict[str, Any]]:
        entities = self._members["entities"].value
        spans = self._spans(len(old), entities)
        result = []
        for entity, was, span in zip(entities, spans, moved(spans, pieces), strict=True):
            surface, instead = old[was.start : was.end], new[span.start : span.end]
            # Some files repeat the entity's words beside its place.
            others = {name: instead if value == surface else value for name, value in entity.items()}
            result.append({**others, "start": span.start, "end": span.end, "label": span.label})
        return result


_NO_ENTITIES = _Member([], 0, 0)


def token_part(tokens: Sequence[str], tags: Sequence[str]) -> Part:
    """Tokens, one space apart, with their entities."""
    ranges, at = [], 0
    for token in tokens:
        ranges.append((at, at + len(token)))
        at += len(token) + 1
    sentence = TaggedSentence(tuple(tokens), tuple(tags))
    return Part(sentence.text, sentence.spans, tuple(ranges))


def replaced_tokens(tokens: Sequence[str], pieces: Sequence[Piece]) -> list[str]:
    """As many tokens, each with what lies in it replaced."""
    result, at = [], 0
    for token in tokens:
        mine = [
            Piece(piece.start - at, piece.end - at, piece.placeholder)
            for piece in pieces
            if at <= piece.start < at + len(token)
        ]
        result.append(replaced(token, mine))
        at += len(token) + 1
    return result


def is_bio(tag: str) -> bool:
    return _BIO.fullmatch(tag) is not None


def _after_spaces(body: str, at: int) -> int:
    match = _SPACES.match(body, at)
    return match.end() if match else at
