"""Captured traffic as a load: its arrivals, its mix of tasks, lengths and classes, each one's deadline.

Owns the merging of files and what stands in for what was not kept. The arithmetic is pure; `read_captures`
alone touches the disk. Leaves the files' form to `minwatt.v1.capture_file`, the fitting of a rate to `trace`.
Called by `load`.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from loadtest.arrivals import Floats
from loadtest.plan import Payload, Plan, Task, payload
from loadtest.synthetic import texts_of
from loadtest.trace import Fit, arrivals
from loadtest.trace_kinds import RequestTrace
from minwatt.v1.capture_file import DONE, OPEN, Captured, Row, parse
from minwatt.v1.errors import UsageError

_GZIP_MAGIC = b"\x1f\x8b"
TOKENS_A_BYTE = 0.25  # of a request of which nobody counted any, in a capture that has counted none
VARIANTS = 16  # different texts of one length: answers that are known cost a server nothing


@dataclass(frozen=True, slots=True)
class CapturedLoad:
    """Requests of one capture or more, in the order of their arrival."""

    t_s: Floats  # [requests], from 0
    rows: Sequence[Row]  # [requests]
    share: float  # of the requests there were; the least of all files
    cut_files: int  # whose last line was not whole


def read_captures(path: Path) -> CapturedLoad:
    """A file, or all files of a folder. Raises UsageError: file, line, field, value, allowed."""
    files = [path]
    if path.is_dir():
        files = sorted(one for one in path.iterdir() if one.name.endswith((DONE, OPEN, f"{DONE}.gz")))
        if not files:
            raise UsageError(f"--capture = {str(path)!r}: no capture files; expected …{DONE} or …{OPEN}")
    return merged([parse(_bytes_of(one), str(one)) for one in files if _begun(one, path)], str(path))


def _begun(file: Path, asked: Path) -> bool:
    """In a folder a file may have been made and not yet written."""
    return file == asked or file.stat().st_size > 0


def _bytes_of(path: Path) -> bytes:
    try:
        data = path.read_bytes()
        return gzip.decompress(data) if data.startswith(_GZIP_MAGIC) else data
    except (OSError, EOFError, zlib.error) as error:
        said = getattr(error, "strerror", None) or error
        raise UsageError(f"--capture = {str(path)!r}: can't be read ({said})") from error


def merged(captures: Sequence[Captured], where: str) -> CapturedLoad:
    """All requests on one clock. Raises UsageError where there are none."""
    rows = [row for one in captures for row in one.rows]
    if not rows:
        raise UsageError(f"--capture = {where!r}: no requests in it")
    # The least first: a difference of two Unix times would cost microseconds of their precision.
    zero_s = min(one.header.started_unix_s for one in captures)
    starts_s = np.repeat(
        [one.header.started_unix_s - zero_s for one in captures], [len(one.rows) for one in captures]
    )
    at_s = starts_s + np.array([row.at_s for row in rows])
    order = np.argsort(at_s, kind="stable")
    return CapturedLoad(
        at_s[order] - at_s[order[0]],
        [rows[index] for index in order.tolist()],
        min(one.header.share for one in captures),
        sum(one.cut for one in captures),
    )


def captured_plan(load: CapturedLoad, fit: Fit, rng: np.random.Generator) -> Plan:
    """The requests as they came; at another rate each arrival is a request like the one before it in time."""
    found = arrivals(RequestTrace(load.t_s), fit, rng)
    sources = np.searchsorted(load.t_s / fit.time_scale, found.planned_s, side="right") - 1
    if fit.rate_scale is None and fit.peak_rps is None and fit.cv is None:
        sources = np.arange(len(found.planned_s))  # requests of one instant are not one another
    sources = np.clip(sources, 0, None)
    asked = _Asked(load.rows, rng)
    numbers: dict[Payload, int] = {}
    choices = np.empty(len(sources), np.intp)
    for place, source in enumerate(sources.tolist()):
        choices[place] = numbers.setdefault(asked.payload_of(load.rows[source]), len(numbers))
    deadlines_s = np.array([row.deadline_s for row in load.rows])[sources]
    return Plan(found.planned_s, choices, list(numbers), found.duration_s, deadlines_s)


class _Asked:
    """What rows ask again."""

    def __init__(self, rows: Sequence[Row], rng: np.random.Generator) -> None:
        known = [(row.tokens, row.size_bytes) for row in rows if row.tokens is not None and row.size_bytes]
        tokens, size_bytes = (sum(column) for column in zip(*known, strict=True)) if known else (0, 0)
        self._tokens_a_byte = tokens / size_bytes if known else TOKENS_A_BYTE
        self._rng = rng
        self._synthetic = cache(self._made)

    def payload_of(self, row: Row) -> Payload:
        how = _How(Task(row.task), row.model, row.priority == "batch", row.no_cache, row.truncate)
        if row.masked:
            return how.asking(row.masked)
        tokens = row.tokens
        if tokens is None:
            tokens = round(self._tokens_a_byte * row.size_bytes)
        return self._synthetic(how, row.texts, tokens, int(self._rng.integers(VARIANTS)))

    def _made(self, how: _How, texts: int, tokens: int, _variant: int) -> Payload:
        return how.asking(texts_of(texts, tokens, self._rng))


class _How(NamedTuple):
    """All of a request but its texts."""

    task: Task
    model: str
    batch: bool
    no_cache: bool
    truncate: bool

    def asking(self, texts: Sequence[str]) -> Payload:
        return payload(self.task, texts, self.model, self.batch, self.no_cache, self.truncate)
