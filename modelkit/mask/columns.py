"""Rows of CSV and of CoNLL, as `rows` has them of JSONL. Called by `run`."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence

from modelkit.data.conll import cells_of
from modelkit.data.lines import is_blank
from modelkit.data.table import LONGEST_CELL
from modelkit.data.texts import DataError
from modelkit.mask.masking import replaced
from modelkit.mask.rows import Line, Part, Pieces, Row, is_bio, passed, replaced_tokens, token_part

_NOT_KNOWN = "_"  # CoNLL's own sign


class _Recorded:
    """Lines for the CSV reader, which takes as many as a record has, and what they were."""

    def __init__(self, source: Iterator[Line]) -> None:
        self._source = source
        self.taken: list[str] = []

    def __iter__(self) -> Iterator[str]:
        for line in self._source:
            for part in io.StringIO(line.body + line.end, newline=""):  # a lone CR ends a line too
                self.taken.append(part)
                yield part

    def record(self) -> str:
        raw = "".join(self.taken)
        self.taken.clear()
        return raw


def csv_rows(source: Iterator[Line], name: str, fields: Sequence[str]) -> Iterator[Row]:
    """Records below a header that names `fields`. Raises DataError."""
    csv.field_size_limit(LONGEST_CELL)
    recorded = _Recorded(source)
    reader = csv.reader(recorded, strict=True)
    columns: list[str] | None = None
    while True:
        where = f"{name}:{reader.line_num + 1}"
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise DataError(f"{where}: not CSV ({error}); a quote inside quotes is doubled") from error
        raw = recorded.record()
        if cells is None:
            break
        if columns is None:
            columns = cells
            for field in fields:
                if cells.count(field) != 1:
                    raise DataError(f"{where}: header: {cells.count(field)} columns {field!r}; expected one")
        elif cells:
            if len(cells) != len(columns):
                raise DataError(f"{where}: {len(cells)} columns; expected {len(columns)}")
            yield _csv_row(raw, columns, cells, fields)
            continue
        yield passed(raw)
    if columns is None:
        raise DataError(f"{name}:1: no header; expected one that names {' and '.join(fields)}")


def _csv_row(raw: str, columns: list[str], cells: list[str], fields: Sequence[str]) -> Row:
    places = [columns.index(field) for field in fields]

    def rewritten(pieces: Pieces) -> str:
        new = list(cells)
        for place, mine in zip(places, pieces, strict=True):
            new[place] = replaced(cells[place], mine)
        stream = io.StringIO(newline="")
        csv.writer(stream).writerow(new)
        return stream.getvalue().removesuffix("\r\n") + raw[len(raw.rstrip("\r\n")) :]

    left = tuple(column for column in columns if column not in (*fields, "label"))
    return Row(raw, tuple(Part(cells[place]) for place in places), rewritten, left)


def conll_rows(source: Iterator[Line], name: str, _fields: Sequence[str]) -> Iterator[Row]:
    """Sentences of token, other columns, tag; its columns have no names. Raises DataError."""
    sentence: list[tuple[Line, list[str]]] = []
    for line in source:
        cells, blank = cells_of(line.body), is_blank(line.body)
        if blank or cells[0] == "-DOCSTART-":
            if sentence and blank:
                yield _conll_row(sentence)
                sentence = []
            elif sentence:  # a mark amid a sentence does not part it
                sentence.append((line, []))
                continue
            yield passed(line.body + line.end)
            continue
        where = f"{name}:{line.number}"
        if len(cells) < 2 or not cells[0]:
            raise DataError(f"{where}: {len(cells)} columns; expected token TAB tag")
        if not is_bio(cells[-1]):
            raise DataError(f"{where}: tag; allowed: O, B-X and I-X of an entity X")
        sentence.append((line, cells))
    if sentence:
        yield _conll_row(sentence)


def _conll_row(sentence: list[tuple[Line, list[str]]]) -> Row:
    tokens = [cells[0] for _, cells in sentence if cells]
    part = token_part(tokens, [cells[-1] for _, cells in sentence if cells])

    def rewritten(pieces: Pieces) -> str:
        new = iter(zip(tokens, replaced_tokens(tokens, pieces[0]), strict=True))
        written = []
        for line, cells in sentence:
            body = line.body
            if cells:
                was, now = next(new)
                if now != was:
                    # A lemma between token and tag would tell the token.
                    between = [_NOT_KNOWN] * (len(cells) - 2)
                    body = ("\t" if "\t" in body else " ").join([now, *between, cells[-1]])
            written.append(body + line.end)
        return "".join(written)

    return Row("".join(line.body + line.end for line, _ in sentence), (part,), rewritten)
