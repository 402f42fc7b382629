"""A text file's content, lines and values, with the errors that every format shares.

Owns UTF-8, byte order marks, line numbers, and what a text must be. Called by the formats: `jsonl`, `table`,
`conll`, `formats`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from modelkit.data.texts import DataError


def content_of(path: Path) -> str:
    """The file without an editor's byte order mark. Raises DataError where it can't be read as UTF-8."""
    try:
        content = path.read_bytes()
        return content.decode("utf-8").removeprefix("\ufeff")
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path}:{line}: byte {error.start} is not UTF-8") from error


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Lines without their ends, numbered from 1. Only LF ends a line: texts may hold U+2028."""
    for number, line in enumerate(content_of(path).split("\n"), start=1):
        yield number, line.removesuffix("\r")


def is_blank(line: str) -> bool:
    """Nothing, or ASCII spaces and tabs: U+00A0 may be a token."""
    return not line.strip(" \t")


def characters(path: Path, line: int, field: str, value: object) -> str:
    """`value`, a text that is not empty. Raises DataError where it is not."""
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{path}:{line}: {field} {shown(value)}; expected a text that is not empty")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise DataError(f"{path}:{line}: {field} {shown(value)}; half of a surrogate pair is not a character")
    return value


def shown(value: object, limit: int = 60) -> str:
    """As it is written in Python, cut."""
    written = repr(value)
    return written if len(written) <= limit else written[: limit - 1] + "…"


def listed(values: Sequence[str], limit: int = 8) -> str:
    """The first values, and how many there are."""
    text = ", ".join(values[:limit])
    return text if len(values) <= limit else f"{text}, … ({len(values)} in all)"
