"""Entities in columns: a token and its BIO tag a line, a blank line between sentences.

Owns what a BIO tag is, and a column. Called by `formats`, `jsonl` and `mask.columns`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from modelkit.data.lines import is_blank, numbered_lines, shown
from modelkit.data.texts import OUTSIDE, DataError, TaggedSentence

BIO = "O, B-X and I-X of an entity X other than O"


def bio_form(tag: str) -> str | None:
    """None for a BIO tag, else what is allowed."""
    entity = tag[2:].strip() if tag[:2] in ("B-", "I-") else ""
    return None if tag == OUTSIDE or (entity and entity != OUTSIDE) else BIO


def sentences_of(path: Path, refused: Callable[[str], str | None]) -> Iterator[tuple[int, TaggedSentence]]:
    """Sentences with the line of their first token. `refused` says of a bad tag what is allowed.

    Columns lie apart by tabs or, in a line without one, by spaces; the first is the token, the last the tag.
    """
    pairs: list[tuple[str, str]] = []
    first = 1
    for number, line in numbered_lines(path):
        if is_blank(line):
            if pairs:
                yield first, _sentence(pairs)
            pairs = []
            continue
        cells = cells_of(line)
        token, tag = cells[0], cells[-1]
        if token == "-DOCSTART-":  # noqa: S105 - CoNLL's mark between documents, with or without columns
            continue
        if len(cells) < 2 or not token:
            raise DataError(f"{path}:{number}: {shown(line)}; expected token TAB tag")
        if allowed := refused(tag):
            raise DataError(f"{path}:{number}: tag {shown(tag)}; allowed: {allowed}")
        if not pairs:
            first = number
        pairs.append((token, tag))
    if pairs:
        yield first, _sentence(pairs)


def cells_of(line: str) -> list[str]:
    """A line's columns; spaces at its end are of none."""
    return line.rstrip(" ").split("\t" if "\t" in line else " ")


def _sentence(pairs: Sequence[tuple[str, str]]) -> TaggedSentence:
    return TaggedSentence(tuple(token for token, _ in pairs), tuple(tag for _, tag in pairs))
