"""Masks files or a stream, a few rows in memory at a time, and counts what it masked.

Owns the order of the steps, the files, and the report. Leaves formats to `rows` and `columns`, what is found
to `masking` and `names`. Called by the command.
"""

from __future__ import annotations

import os
from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import IO, Protocol

from pydantic import BaseModel, ConfigDict

from minwatt.v1.errors import UsageError
from modelkit.data.texts import DataError
from modelkit.mask.columns import conll_rows, csv_rows
from modelkit.mask.findings import Finding
from modelkit.mask.masking import Masker
from modelkit.mask.rows import TEXT_FIELD, Line, Row, json_rows, lines

Reader = Callable[[Iterator[Line], str, Sequence[str]], Iterator[Row]]

FORMATS: dict[str, Reader] = {"jsonl": json_rows, "csv": csv_rows, "conll": conll_rows}
_ROWS = 256  # read, and answered by the model, at a time
_FIELDS_TOLD = 20

Say = Callable[[str], None]


class Names(Protocol):
    """What finds names, e.g. `names.NameFinder`."""

    def find(self, texts: Sequence[str]) -> list[list[Finding]]:
        """The names of each text."""


class FileReport(BaseModel):
    """What was masked in one file; never a value of it."""

    model_config = ConfigDict(frozen=True)

    file: str
    texts: int
    changed: int  # of those texts
    found: dict[str, int]  # kind -> findings
    fields_left: tuple[str, ...]  # fields of text that nobody asked to mask


class MaskReport(BaseModel):
    """What a run masked. `model` is None where names were not looked for."""

    model_config = ConfigDict(frozen=True)

    model: str | None
    min_score: float | None
    entities: tuple[str, ...]
    regions: tuple[str, ...]
    kept: tuple[str, ...]
    pseudonyms: str
    files: tuple[FileReport, ...]


@dataclass
class _Counts:
    texts: int = 0
    changed: int = 0
    found: Counter[str] = field(default_factory=Counter)
    left: dict[str, None] = field(default_factory=dict)

    def report(self, name: str) -> FileReport:
        return FileReport(
            file=name,
            texts=self.texts,
            changed=self.changed,
            found=dict(sorted(self.found.items())),
            fields_left=tuple(self.left),
        )


@dataclass(frozen=True)
class Job:
    """How rows are read, and what is masked in them."""

    masker: Masker
    names: Names | None
    fields: Sequence[str] = (TEXT_FIELD,)
    say: Say = lambda _: None

    def stream(self, source: Iterable[bytes], sink: IO[bytes], name: str, form: str) -> FileReport:
        """Mask `source`, of format `form`, into `sink`. Raises DataError with `name` and the line."""
        counts = _Counts()
        raw = iter(source)
        first = next(raw, b"")
        if first.startswith(BOM_UTF8):  # an editor's; it is of no row
            sink.write(BOM_UTF8)
        rows = FORMATS[form](lines(chain([first.removeprefix(BOM_UTF8)], raw), name), name, self.fields)
        while batch := list(islice(rows, _ROWS)):
            sink.write("".join(self._masked(batch, counts)).encode())
            self.say(f"{name}: {counts.texts:,} texts")
        return counts.report(name)

    def file(self, source: Path, out: Path, form: str) -> FileReport:
        """Mask a file into another, which appears when all of it is masked. Raises UsageError."""
        with _opened(source) as stream, _written(out) as sink:
            return self.stream(stream, sink, str(source), form)

    def printed(self, source: Path, sink: IO[bytes], form: str) -> FileReport:
        """Mask a file into a stream. Raises UsageError."""
        with _opened(source) as stream:
            return self.stream(stream, sink, str(source), form)

    def _masked(self, rows: Sequence[Row], counts: _Counts) -> Iterator[str]:
        texts = [part.text for row in rows for part in row.parts]
        found = iter(self.names.find(texts) if self.names and texts else [[] for _ in texts])
        for row in rows:
            pieces = []
            for part in row.parts:
                findings = self.masker.find(part.text, next(found), part.spans)
                pieces.append(self.masker.pieces(part.text, findings, part.cuts))
                counts.texts += 1
                counts.changed += bool(findings)
                counts.found.update(one.kind for one in findings)
            for name in row.left:
                if len(counts.left) < _FIELDS_TOLD:
                    counts.left.setdefault(name)
            yield row.rewritten(pieces) if any(pieces) else row.raw


def format_of(path: Path, stated: str | None) -> str:
    """Raises UsageError where neither --format nor the suffix tells it."""
    form = stated or path.suffix.removeprefix(".")
    if form not in FORMATS:
        given = f"--format = {stated!r}" if stated else f"{path}: suffix {path.suffix!r}"
        raise UsageError(f"{given}; allowed: {', '.join(FORMATS)}")
    return form


def checked_targets(files: Sequence[Path], out: Path) -> dict[Path, Path]:
    """Where each file goes: under its own name to the folder `out`, which is made. Raises UsageError."""
    for name, times in Counter(file.name for file in files).items():
        if times > 1:
            raise UsageError(f"--out: {times} files are named {name!r}; each name once")
    targets = {file: out / file.name for file in files}
    try:
        out.mkdir(parents=True, exist_ok=True)
        for file, target in targets.items():
            if target.exists() and target.samefile(file):
                raise UsageError(f"--out = {str(out)!r}: {file} lies there; expected another folder")
    except OSError as error:
        raise UsageError(f"{error.filename or out}: {error.strerror or error}") from error
    return targets


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    try:
        stream = path.open("rb")
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from error
    with stream:
        yield stream


@contextmanager
def _written(out: Path) -> Iterator[IO[bytes]]:
    """A file that appears at the end; of a run that fails nothing stays."""
    part = out.with_name(f".{out.name}.part")
    try:
        try:
            with part.open("wb") as sink:
                yield sink
            os.replace(part, out)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise UsageError(f"{error.filename or out}: can't be written ({error.strerror or error})") from error
