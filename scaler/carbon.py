"""gCO2 from joules: a grid's intensity by the hour, and what a course of joules weighs with it.

Owns the file's format (`t_s,timestamp_utc,gco2_per_kwh`, an empty value means no data) and its errors. Only
`read_intensity` touches the disk. Called by `minwatt backtest`.
"""

from __future__ import annotations

import csv
import gzip
import io
import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from minwatt.v1.errors import UsageError

_HEADER = ["t_s", "timestamp_utc", "gco2_per_kwh"]
_GZIP_MAGIC = b"\x1f\x8b"
_JOULES_PER_KWH = 3.6e6
_Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Intensity:
    """`gco2_per_kwh[i]` holds from i × `step_s` after the first row on; NaN where there is no data."""

    first_utc: str  # the first row's timestamp, as it stands in the file
    step_s: float
    gco2_per_kwh: _Floats


@dataclass(frozen=True, slots=True)
class Emission:
    """`gco2` of the joules with a known intensity; None where none is known. `unknown_share` of the joules
    have none: they are not counted, which is not the same as clean.
    """

    gco2: float | None
    unknown_share: float


def emission(intensity: Intensity, edges_s: _Floats, joules: _Floats) -> Emission:
    """`joules[i]` drawn evenly from `edges_s[i]` to `edges_s[i + 1]`; 0 s is the file's first row.

    After the file's last row there is no data.
    """
    ends_s = np.arange(1, len(intensity.gco2_per_kwh) + 1) * intensity.step_s
    drawn_j = np.concatenate([[0.0], np.cumsum(joules)])
    until_j = np.interp(np.concatenate([[0.0], ends_s]), edges_s, drawn_j)
    by_step_j = np.diff(until_j)
    known = ~np.isnan(intensity.gco2_per_kwh)
    total_j, known_j = float(drawn_j[-1]), float(by_step_j[known].sum())
    if total_j <= 0:
        return Emission(0.0, 0.0)
    if known_j <= 0:
        return Emission(None, 1.0)
    gco2 = float(by_step_j[known] @ intensity.gco2_per_kwh[known]) / _JOULES_PER_KWH
    return Emission(gco2, max(0.0, 1 - known_j / total_j))


def read_intensity(path: Path) -> Intensity:
    """gzip or plain by content. Raises UsageError: file, line, field, value, allowed."""
    try:
        data = path.read_bytes()
        text = (gzip.decompress(data) if data.startswith(_GZIP_MAGIC) else data).decode("utf-8-sig")
        rows = list(csv.reader(io.StringIO(text)))
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path}: not a readable intensity file: {error}") from error
    header = [cell.strip() for cell in rows[0]] if rows else []
    if header != _HEADER:
        raise UsageError(f"{path}:1: header = {','.join(header)[:80]!r}: allowed: {','.join(_HEADER)}")
    times_s, values = _columns(path, rows)
    if len(times_s) < 2:
        raise UsageError(f"{path}: {len(times_s)} rows; at least 2 are needed to know how long one holds")
    step_s = times_s[1] - times_s[0]
    if step_s <= 0:
        raise UsageError(f"{path}:3: t_s = {times_s[1]:.10g}: times must rise (last {times_s[0]:.10g})")
    for line, t_s in enumerate(times_s, start=2):
        expected_s = times_s[0] + (line - 2) * step_s
        if abs(t_s - expected_s) > 1e-3 * step_s:
            allowed = f"expected {expected_s:.10g}: all rows as far apart as the first two"
            raise UsageError(f"{path}:{line}: t_s = {t_s:.10g}: {allowed}")
    return Intensity(rows[1][1], step_s, np.array(values))


def _columns(path: Path, rows: list[list[str]]) -> tuple[list[float], list[float]]:
    found = list(_checked(path, rows))
    return [t_s for t_s, _ in found], [value for _, value in found]


def _checked(path: Path, rows: list[list[str]]) -> Iterator[tuple[float, float]]:
    for line, row in enumerate(rows[1:], start=2):
        if len(row) != len(_HEADER):
            raise UsageError(f"{path}:{line}: row = {','.join(row)[:80]!r}: expected {len(_HEADER)} columns")
        value = row[2].strip()
        yield (
            _number(path, line, "t_s", row[0]),
            (_number(path, line, "gco2_per_kwh", value) if value else math.nan),
        )


def _number(path: Path, line: int, name: str, cell: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise UsageError(f"{path}:{line}: {name} = {cell[:80]!r}: expected a number of 0 or more")
    return value
