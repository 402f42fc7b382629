"""Classification as a table: CSV with a header that names `text` and `label` (RFC 4180).

Called by `formats`.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from modelkit.data.lines import characters, content_of, listed, shown
from modelkit.data.rows import LabelRow
from modelkit.data.texts import DataError

LONGEST_CELL = 2**31 - 1  # the library's own limit, 131,072 characters, would refuse a long document


def table_rows(path: Path) -> Iterator[LabelRow]:
    """Rows with the line where they begin; cells may hold line ends. Raises DataError."""
    csv.field_size_limit(LONGEST_CELL)
    reader = csv.reader(io.StringIO(content_of(path), newline=""), strict=True)
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
                characters(path, line, "text", row.get("text")),
                characters(path, line, "label", row.get("label")),
            )
        line = reader.line_num + 1
    if columns is None:
        raise DataError(f"{path}:1: no header; expected one that names text and label")


def _header(path: Path, line: int, cells: list[str]) -> list[str]:
    for name in ("text", "label"):
        if cells.count(name) != 1:
            raise DataError(
                f"{path}:{line}: header {shown(','.join(cells))}; expected one column {name!r}, "
                "one each of text and label"
            )
    return cells
