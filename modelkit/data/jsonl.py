"""Examples as JSON, an object a line: {"text", "label"}, {"text", "entities"} or {"tokens", "tags"}.

Called by `formats`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from modelkit.data.conll import BIO, bio_form
from modelkit.data.lines import characters, is_blank, numbered_lines, shown
from modelkit.data.rows import EntityRow, LabelRow, Row
from modelkit.data.texts import OUTSIDE, DataError, Span, TaggedSentence

_ONE_OF_EACH = 'either {"text", "label"} or {"text", "entities"} or {"tokens", "tags"}'


def json_rows(path: Path) -> Iterator[Row]:
    """Raises DataError on a line that is none of the three."""
    for line, row in json_objects(path, _ONE_OF_EACH):
        given = [name for name in ("label", "entities", "tokens") if name in row]
        if len(given) != 1:
            found = " and ".join(given) or f"none of them in {shown(list(row))}"
            raise DataError(f"{path}:{line}: {found}; expected {_ONE_OF_EACH}")
        if given == ["label"]:
            yield LabelRow(
                line,
                characters(path, line, "text", row.get("text")),
                characters(path, line, "label", row["label"]),
            )
        elif given == ["entities"]:
            text = characters(path, line, "text", row.get("text"))
            yield EntityRow(line, text, _entities(path, line, text, row["entities"]))
        else:
            sentence = _tokens_and_tags(path, line, row)
            yield EntityRow(line, sentence.text, sentence.spans)


def _entities(path: Path, line: int, text: str, entities: object) -> tuple[Span, ...]:
    if not isinstance(entities, list):
        raise DataError(f"{path}:{line}: entities {shown(entities)}; expected a list")
    spans = []
    for number, entity in enumerate(entities):
        field = f"entities[{number}]"
        if not isinstance(entity, dict):
            raise DataError(f'{path}:{line}: {field} {shown(entity)}; expected {{"start", "end", "label"}}')
        start, end = (_position(path, line, f"{field}.{name}", entity.get(name)) for name in ("start", "end"))
        if not start < end <= len(text):
            raise DataError(
                f"{path}:{line}: {field} from {start} to {end}; expected start < end <= {len(text)}, "
                "the text's code points"
            )
        words = text[start:end]
        if not words.strip():
            raise DataError(f"{path}:{line}: {field} {shown(words)}; expected more than spaces")
        label = characters(path, line, f"{field}.label", entity.get("label"))
        if label == OUTSIDE:
            raise DataError(f"{path}:{line}: {field}.label {label!r}; it is the tag of what is no entity")
        # Spaces at its ends are of no token: with them no answer could ever be right.
        left, right = len(words) - len(words.lstrip()), len(words) - len(words.rstrip())
        spans.append(Span(start + left, end - right, label))
    spans.sort()
    for one, other in pairwise(spans):
        if other.start < one.end:
            raise DataError(
                f"{path}:{line}: entities {shown(text[one.start : one.end])} and "
                f"{shown(text[other.start : other.end])} overlap; expected entities apart from one another"
            )
    return tuple(spans)


def _position(path: Path, line: int, field: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise DataError(f"{path}:{line}: {field} {shown(value)}; expected a whole number from 0")
    return value


def _tokens_and_tags(path: Path, line: int, row: dict[str, Any]) -> TaggedSentence:
    for field in ("tokens", "tags"):
        values = row.get(field)
        if not isinstance(values, list) or not values:
            raise DataError(f"{path}:{line}: {field} {shown(values)}; expected a list that is not empty")
    tokens, tags = row["tokens"], row["tags"]
    if len(tokens) != len(tags):
        raise DataError(f"{path}:{line}: {len(tokens)} tokens and {len(tags)} tags; expected as many")
    for number, (token, tag) in enumerate(zip(tokens, tags, strict=True)):
        characters(path, line, f"tokens[{number}]", token)
        if not isinstance(tag, str) or (allowed := bio_form(tag)):
            allowed = BIO if not isinstance(tag, str) else allowed
            raise DataError(f"{path}:{line}: tags[{number}] {shown(tag)}; allowed: {allowed}")
    return TaggedSentence(tuple(tokens), tuple(tags))


class _StandsTwiceError(ValueError):
    def __init__(self, field: str) -> None:
        super().__init__(field)
        self.field = field


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Of a field that stands twice json would keep the last, and a label could be lost unseen."""
    found: dict[str, Any] = {}
    for field, value in pairs:
        if field in found:
            raise _StandsTwiceError(field)
        found[field] = value
    return found


def json_objects(path: Path, expected: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Objects with their lines; blank ones are skipped. Raises DataError, which says what is `expected`."""
    for number, line in numbered_lines(path):
        if is_blank(line):
            continue
        try:
            row = json.loads(line, object_pairs_hook=_each_once)
        except _StandsTwiceError as error:
            raise DataError(f"{path}:{number}: field {error.field!r} stands twice; each once") from error
        except (ValueError, RecursionError) as error:  # a JSONDecodeError, or past Python's limits
            reason = getattr(error, "msg", "too long or too deep")
            raise DataError(f"{path}:{number}: not JSON ({reason}): {shown(line)}") from error
        if not isinstance(row, dict):
            raise DataError(f"{path}:{number}: {shown(line)}; expected an object {expected}")
        yield number, row
