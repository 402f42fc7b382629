"""Traces that others write: access logs, and the traces that Azure has published.

Known by their first line. Owns their errors (file, line, field, value, allowed). Only arrivals are taken from
them: what was asked there is not what an encoder is asked. Pure. Called by `trace`.

Access logs are in NCSA's common log format, or begin with it (`combined`); their clock has whole seconds, so
they become counts a second. Azure: the LLM inference traces of 2023 and 2024 (TIMESTAMP,…; one row a
request), the Functions trace of 2019 (HashOwner,…,1,…,1440: counts a minute, all functions together) and of
2021 (app,func,end_timestamp,duration: one row an invocation); github.com/Azure/AzurePublicDataset.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import numpy as np

from loadtest.trace_kinds import MOST_BINS, BinnedTrace, RequestTrace, Trace
from minwatt.v1.errors import UsageError

_SHOWN_CHARACTERS = 80
_MINUTE_S = 60.0
_LOG_LINE = re.compile(r"\S+ \S+ .*?\[([^\]]+)\] \"")
_FUNCTIONS_2019 = ["HashOwner", "HashApp", "HashFunction", "Trigger"]
_FUNCTIONS_2021 = ["app", "func", "end_timestamp", "duration"]

Rows = Iterator[tuple[int, list[str]]]  # line and cells, without blank lines


def foreign(text: str, where: str) -> Trace | None:
    """The trace, or None where the text is in none of these forms. Raises UsageError."""
    first = text[: text.find("\n")] if "\n" in text else text
    if _LOG_LINE.match(first):
        return _access_log(text, where)
    header = [cell.strip() for cell in first.split(",")]
    readers: dict[str, Callable[[list[str], Rows, str], Trace]] = {
        "TIMESTAMP": _azure_llm,
        "HashOwner": _azure_functions_2019,
        "app": _azure_functions_2021,
    }
    reader = readers.get(header[0])
    return None if reader is None else reader(header, _rows(text, header, where), where)


def _rows(text: str, header: list[str], where: str) -> Rows:
    reader = csv.reader(io.StringIO(text))
    next(reader)
    for line, row in enumerate(reader, start=2):
        if not any(cell.strip() for cell in row):
            continue
        if len(row) != len(header):
            raise _error(where, line, "row", ",".join(row), f"expected {len(header)} columns")
        yield line, row


def _access_log(text: str, where: str) -> Trace:
    seconds = []
    for line, entry in enumerate(text.splitlines(), start=1):
        if not entry.strip():
            continue
        match = _LOG_LINE.match(entry)
        if match is None:
            raise _error(where, line, "line", entry, 'expected the common log format: … [time] "request" …')
        try:
            at = datetime.strptime(match[1], "%d/%b/%Y:%H:%M:%S %z")
        except ValueError:
            allowed = "expected a time such as 10/Oct/2000:13:55:36 -0700"
            raise _error(where, line, "time", match[1], allowed) from None
        seconds.append(round(at.timestamp()))
    # A line is written when its request has ended: times go back now and then.
    return BinnedTrace(1.0, _counts(np.array(seconds), where))


def _azure_llm(header: list[str], rows: Rows, where: str) -> Trace:
    if header[1:] != ["ContextTokens", "GeneratedTokens"]:
        allowed = "allowed: TIMESTAMP,ContextTokens,GeneratedTokens"
        raise _error(where, 1, "header", ",".join(header), allowed)
    return _requests([_timestamp_s(where, line, row[0]) for line, row in rows], where)


def _timestamp_s(where: str, line: int, cell: str) -> float:
    """Of `2023-11-16 18:15:46.6805900`, with or without a zone; without one it is UTC."""
    text = re.sub(r"(\.\d{6})\d+", r"\1", cell.strip())  # Python reads microseconds
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        allowed = "expected a time such as 2023-11-16 18:15:46.6805900"
        raise _error(where, line, "TIMESTAMP", cell, allowed) from None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


def _azure_functions_2019(header: list[str], rows: Rows, where: str) -> Trace:
    minutes = header[4:]
    if header[:4] != _FUNCTIONS_2019 or minutes != [str(number + 1) for number in range(len(minutes))]:
        allowed = "allowed: HashOwner,HashApp,HashFunction,Trigger,1,2,…,1440"
        raise _error(where, 1, "header", ",".join(header), allowed)
    counts = np.zeros(len(minutes))
    for line, row in rows:
        for name, cell in zip(minutes, row[4:], strict=True):
            if not cell.strip().isdecimal():
                raise _error(where, line, name, cell, "expected a whole number")
        counts += np.array(row[4:], dtype=np.float64)
    if not counts.sum():
        raise UsageError(f"{where}: no requests after the header")
    return BinnedTrace(_MINUTE_S, counts)


def _azure_functions_2021(header: list[str], rows: Rows, where: str) -> Trace:
    if header != _FUNCTIONS_2021:
        raise _error(where, 1, "header", ",".join(header), f"allowed: {','.join(_FUNCTIONS_2021)}")
    begun_s = []
    for line, row in rows:
        end_s = _number(where, line, "end_timestamp", row[2])
        begun_s.append(end_s - _number(where, line, "duration", row[3]))
    return _requests(begun_s, where)


def _requests(times_s: list[float], where: str) -> Trace:
    if not times_s:
        raise UsageError(f"{where}: no requests after the header")
    t_s = np.sort(np.array(times_s))
    return RequestTrace(t_s - t_s[0])


def _counts(
    seconds: np.ndarray[tuple[int], np.dtype[np.int64]], where: str
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    span = int(seconds.max() - seconds.min()) + 1
    if span > MOST_BINS:
        raise UsageError(f"{where}: the log is {span} s long: at most {MOST_BINS:,} s can be read")
    return np.bincount(seconds - seconds.min(), minlength=span).astype(np.float64)


def _number(where: str, line: int, name: str, cell: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise _error(where, line, name, cell, "expected a number of 0 or more")
    return value


def _error(where: str, line: int, name: str, value: str, allowed: str) -> UsageError:
    shown = value if len(value) <= _SHOWN_CHARACTERS else value[:_SHOWN_CHARACTERS] + "…"
    return UsageError(f"{where}:{line}: {name} = {shown!r}: {allowed}")
