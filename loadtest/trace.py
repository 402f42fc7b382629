"""Recorded traffic: reading a trace file, fitting it to a run, and drawing its arrivals.

Two forms of our own, both with a header: `t_s,count` (requests from t_s until the next bin; an empty count
means that no data was collected) and `t_s[,…]` (one row a request). Times count from the first row. Owns
their errors (file, line, field, value, allowed). The arithmetic is pure; `read_trace` alone touches the disk.
Leaves the forms of others to `trace_formats`, drawing inside bins to `arrivals`. Called by `cli`.
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

from loadtest.arrivals import POISSON_CV, Floats, draw, place_counts
from loadtest.trace_formats import foreign
from loadtest.trace_kinds import MOST_BINS, REBIN_S, BinnedTrace, RequestTrace, Trace
from minwatt.v1.errors import UsageError

_GZIP_MAGIC = b"\x1f\x8b"
_MOST_A_BIN = 1_000_000_000
_REQUEST_COLUMNS = ("input_tokens", "output_tokens")
_SHOWN_CHARACTERS = 80  # of a wrong value, in an error


@dataclass(frozen=True, slots=True)
class Fit:
    """How a trace becomes a run. Nothing is thinned: a scaled rate is drawn anew, as bursty as asked for.

    Give `rate_scale` or `peak_rps` (what the busiest bin is scaled to), not both; neither leaves the rate be.
    """

    time_scale: float = 1.0  # 60 plays an hour in a minute, and 60 times the rate
    rate_scale: float | None = None
    peak_rps: float | None = None
    duration_s: float | None = None  # the run's first seconds, after time was scaled
    cv: float | None = None  # of the gaps inside bins; None: the counts as they are, or Poisson when scaled


@dataclass(frozen=True, slots=True)
class Arrivals:
    """A run's arrivals and what to know about them."""

    planned_s: Floats
    duration_s: float
    gap_s: float = 0.0  # of the run without data, hence without arrivals


def arrivals(trace: Trace, fit: Fit, rng: np.random.Generator) -> Arrivals:
    """The trace's own arrivals, or arrivals drawn from its scaled rate."""
    compressed = _compress(trace, fit.time_scale)
    scaled = fit.rate_scale is not None or fit.peak_rps is not None or fit.cv is not None
    duration_s = min(compressed.duration_s, fit.duration_s or math.inf)
    if isinstance(compressed, RequestTrace) and not scaled:
        planned_s = compressed.t_s
        return Arrivals(planned_s[planned_s < duration_s], duration_s)
    whole = (
        compressed.binned(REBIN_S / fit.time_scale) if isinstance(compressed, RequestTrace) else compressed
    )
    binned = whole.first(duration_s)
    gap_s = _gap_before(binned, duration_s)
    if scaled:
        curve = binned.curve().scaled(_rate_scale(whole, fit)).first(duration_s)
        return Arrivals(draw(curve, rng, POISSON_CV if fit.cv is None else fit.cv), duration_s, gap_s)
    planned_s = place_counts(binned.edges_s(), np.nan_to_num(binned.counts, nan=0.0).astype(np.int64), rng)
    return Arrivals(planned_s[planned_s < duration_s], duration_s, gap_s)


def _compress(trace: Trace, time_scale: float) -> Trace:
    if isinstance(trace, RequestTrace):
        return RequestTrace(trace.t_s / time_scale)
    return BinnedTrace(trace.bin_s / time_scale, trace.counts)


def _rate_scale(trace: BinnedTrace, fit: Fit) -> float:
    if fit.peak_rps is None:
        return 1.0 if fit.rate_scale is None else fit.rate_scale
    highest_rps = float(trace.curve().rates_rps.max())
    return fit.peak_rps / highest_rps if highest_rps > 0 else 1.0


def _gap_before(trace: BinnedTrace, duration_s: float) -> float:
    edges_s = np.minimum(trace.edges_s(), duration_s)
    return float(np.diff(edges_s)[np.isnan(trace.counts)].sum())


def read_trace(path: Path, *, strict: bool = False) -> Trace:
    """Reads any form, gzip or plain by content. Raises UsageError: file, line, field, value, allowed.

    `strict`: no other columns than `t_s,count` or `t_s,input_tokens,output_tokens`, and a row for each bin,
    its count empty where there is no data. Otherwise a row left out is a bin without data, and any columns
    may stand beside `t_s`.
    """
    try:
        data = path.read_bytes()
        text = (gzip.decompress(data) if data.startswith(_GZIP_MAGIC) else data).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not a readable trace: not UTF-8 text") from error
    except (OSError, EOFError, zlib.error) as error:
        said = getattr(error, "strerror", None) or error
        raise UsageError(f"{path}: not a readable trace: {said}") from error
    return parse_trace(text, str(path), strict=strict)


def parse_trace(text: str, where: str, *, strict: bool = False) -> Trace:
    """As `read_trace`, of the file's text; `where` names it in errors."""
    found = foreign(text, where)
    if found is not None:
        return found
    try:
        return _parsed(csv.reader(io.StringIO(text)), where, strict)
    except csv.Error as error:
        raise UsageError(f"{where}: not a readable trace: {error}") from error


def _parsed(reader: Iterator[list[str]], where: str, strict: bool) -> Trace:
    header = [cell.strip() for cell in next(reader, [])]
    if not header:
        raise UsageError(f"{where}: empty file; expected a header `t_s,count` or `t_s,…` and rows")
    if header[0] != "t_s":
        shown = _shortened(",".join(header))
        raise UsageError(f"{where}:1: header = {shown!r}: the first column must be t_s (seconds)")
    if strict and header[1:] != ["count"] and not set(header[1:]) <= set(_REQUEST_COLUMNS):
        shown, columns = _shortened(",".join(header)), ",".join(_REQUEST_COLUMNS)
        allowed = f"allowed: t_s,count (bins) or t_s,{columns} (one row a request; t_s alone will do)"
        raise UsageError(f"{where}:1: header = {shown!r}: {allowed}")
    rows = _Rows(where, header, reader)
    return _binned(rows, strict) if "count" in header else _requests(rows)


@dataclass(frozen=True, slots=True)
class _Rows:
    """Rows with their times checked: numbers, not negative, sorted."""

    where: str
    header: list[str]
    reader: Iterator[list[str]]

    def __iter__(self) -> Iterator[tuple[int, float, list[str]]]:
        previous_s = 0.0
        for line, row in enumerate(self.reader, start=2):
            if not any(cell.strip() for cell in row):
                continue
            if len(row) != len(self.header):
                raise self.error(line, "row", ",".join(row), f"expected {len(self.header)} columns")
            t_s = self.number(line, "t_s", row[0])
            if t_s < previous_s:
                raise self.error(line, "t_s", row[0], f"times must not go back (last {previous_s:g})")
            previous_s = t_s
            yield line, t_s, row

    def number(self, line: int, name: str, cell: str) -> float:
        try:
            value = float(cell)
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and value >= 0):
            raise self.error(line, name, cell, "expected a number of 0 or more")
        return value

    def error(self, line: int, name: str, value: str, allowed: str) -> UsageError:
        return UsageError(f"{self.where}:{line}: {name} = {_shortened(value)!r}: {allowed}")


def _shortened(value: str) -> str:
    return value if len(value) <= _SHOWN_CHARACTERS else value[:_SHOWN_CHARACTERS] + "…"


def _requests(rows: _Rows) -> RequestTrace:
    t_s = np.array([time_s for _, time_s, _ in rows])
    if not len(t_s):
        raise UsageError(f"{rows.where}: no requests after the header")
    return RequestTrace(t_s - t_s[0])


def _binned(rows: _Rows, strict: bool) -> BinnedTrace:
    column = rows.header.index("count")
    found: list[tuple[int, float, float]] = []
    for line, t_s, row in rows:
        cell = row[column].strip()
        count = rows.number(line, "count", cell) if cell else math.nan
        if not math.isnan(count) and count != int(count):
            raise rows.error(line, "count", cell, "expected a whole number, or nothing for no data")
        if count > _MOST_A_BIN:
            raise rows.error(line, "count", cell, f"a bin has at most {_MOST_A_BIN:,} requests")
        found.append((line, t_s, count))
    if len(found) < 2:
        raise UsageError(f"{rows.where}: {len(found)} bins; at least 2 are needed to know how long a bin is")
    return _fill(rows, found, strict)


def _fill(rows: _Rows, found: list[tuple[int, float, float]], strict: bool) -> BinnedTrace:
    """Bins at their places; rows left out are bins without data."""
    start_s, bin_s = found[0][1], found[1][1] - found[0][1]
    if bin_s <= 0:
        raise rows.error(found[1][0], "t_s", f"{found[1][1]:g}", "two bins start at the same time")
    places: list[int] = []
    for line, t_s, _ in found:
        if t_s - start_s > MOST_BINS * bin_s:
            raise rows.error(line, "t_s", f"{t_s:g}", f"a trace has at most {MOST_BINS:,} bins")
        place = round((t_s - start_s) / bin_s)
        if abs(t_s - start_s - place * bin_s) > 1e-3 * bin_s:
            allowed = f"expected a multiple of the first bin's width, {bin_s:g} s, after {start_s:g}"
            raise rows.error(line, "t_s", f"{t_s:g}", allowed)
        if places and place == places[-1]:
            raise rows.error(line, "t_s", f"{t_s:g}", "two bins start at the same time")
        if strict and places and place != places[-1] + 1:
            allowed = (
                f"expected {start_s + bin_s * (places[-1] + 1):.10g}, the next bin; without data: no count"
            )
            raise rows.error(line, "t_s", f"{t_s:.10g}", allowed)
        places.append(place)
    counts = np.full(places[-1] + 1, np.nan)
    counts[places] = [count for _, _, count in found]
    return BinnedTrace(bin_s, counts)
