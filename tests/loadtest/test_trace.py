"""Traces: both forms and their errors; what scaling keeps and what it changes; gaps."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.trace import Fit, arrivals, parse_trace, read_trace
from loadtest.trace_kinds import BinnedTrace, RequestTrace
from minwatt.v1.errors import UsageError

SHARED = Path(__file__).resolve().parents[3] / "shared" / "traces"

bins = st.lists(st.none() | st.integers(0, 30), min_size=2, max_size=30)
seeds = st.integers(0, 2**32)


def trace_of(counts: list[int | None], bin_s: float = 60.0) -> BinnedTrace:
    return BinnedTrace(bin_s, np.array([np.nan if count is None else count for count in counts], dtype=float))


def text_of(counts: list[int | None], bin_s: int) -> str:
    lines = [f"{index * bin_s},{'' if count is None else count}" for index, count in enumerate(counts)]
    return "\n".join(["t_s,count", *lines]) + "\n"


@given(bins, st.integers(1, 600))
def test_bins_are_read_as_written(counts: list[int | None], bin_s: int) -> None:
    trace = parse_trace(text_of(counts, bin_s), "trace.csv")
    assert isinstance(trace, BinnedTrace)
    assert trace.bin_s == bin_s
    assert np.array_equal(trace.counts, trace_of(counts).counts, equal_nan=True)
    assert trace.gap_s == bin_s * counts.count(None)


@given(bins, st.floats(0.5, 3600), seeds)
def test_compressing_time_keeps_every_request(counts: list[int | None], time_scale: float, seed: int) -> None:
    found = arrivals(trace_of(counts), Fit(time_scale=time_scale), np.random.default_rng(seed))
    assert len(found.planned_s) == sum(count or 0 for count in counts)
    assert found.duration_s == pytest.approx(60.0 * len(counts) / time_scale)
    assert found.gap_s == pytest.approx(60.0 * counts.count(None) / time_scale)


@given(bins, st.sampled_from([None, 0.5, 3.0]), st.sampled_from([None, 0.0, 2.0]), seeds)
def test_gaps_get_no_requests(
    counts: list[int | None], rate_scale: float | None, cv: float | None, seed: int
) -> None:
    fit = Fit(rate_scale=rate_scale, cv=cv, time_scale=60.0)
    found = arrivals(trace_of(counts), fit, np.random.default_rng(seed))
    assert all(counts[int(planned_s)] for planned_s in found.planned_s)
    assert np.all(np.diff(found.planned_s) >= 0)


def test_scaling_the_rate_scales_each_bin_and_keeps_the_shape() -> None:
    trace = trace_of([100, None, 400, 0], bin_s=1.0)
    rng = np.random.default_rng(5)
    runs = [arrivals(trace, Fit(rate_scale=0.1), rng).planned_s for _ in range(2000)]
    per_bin = np.mean([np.histogram(run, bins=4, range=(0, 4))[0] for run in runs], axis=0)
    assert per_bin == pytest.approx([10.0, 0.0, 40.0, 0.0], rel=0.05)


def test_a_peak_scales_the_busiest_bin_of_the_whole_trace() -> None:
    trace = trace_of([1, 1, 10], bin_s=1.0)
    rng = np.random.default_rng(5)
    runs = [len(arrivals(trace, Fit(peak_rps=100.0, duration_s=2.0), rng).planned_s) for _ in range(2000)]
    assert np.mean(runs) == pytest.approx(20.0, rel=0.05)


@given(st.lists(st.floats(0, 1000), min_size=1, max_size=30), st.floats(0.5, 100), st.floats(1, 500))
def test_one_row_a_request_is_replayed_as_it_was(
    times: list[float], time_scale: float, duration_s: float
) -> None:
    times = sorted(times)
    text = "\n".join(["t_s,input_tokens", *(f"{t_s!r},7" for t_s in times)])
    trace = parse_trace(text, "trace.csv")
    assert isinstance(trace, RequestTrace)
    found = arrivals(trace, Fit(time_scale=time_scale, duration_s=duration_s), np.random.default_rng(0))
    expected = (np.array(times) - times[0]) / time_scale
    assert np.allclose(found.planned_s, expected[expected < found.duration_s])


def test_rows_left_out_are_bins_without_data() -> None:
    trace = parse_trace("t_s,count\n0,1\n60,2\n240,5\n", "trace.csv")
    assert isinstance(trace, BinnedTrace)
    assert np.array_equal(trace.counts, [1, 2, np.nan, np.nan, 5], equal_nan=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("t_s,count\n0,1\n60,\n240,5\n", "trace.csv:4: t_s = '240': expected 120, the next bin"),
        ("t_s,requests\n0,1\n60,2\n", "trace.csv:1: header = 't_s,requests': allowed: t_s,count (bins) or"),
    ],
)
def test_what_may_be_a_slip_is_an_error_where_strictness_is_asked_for(text: str, message: str) -> None:
    parse_trace(text, "trace.csv")
    with pytest.raises(UsageError) as caught:
        parse_trace(text, "trace.csv", strict=True)
    assert str(caught.value).startswith(message)


def test_gzip_is_known_by_its_content(tmp_path: Path) -> None:
    plain, packed = tmp_path / "plain.gz", tmp_path / "packed.csv"
    plain.write_text(text_of([1, 2], 60))
    packed.write_bytes(gzip.compress(text_of([1, 2], 60).encode()))
    for path in (plain, packed):
        trace = read_trace(path)
        assert isinstance(trace, BinnedTrace)
        assert trace.counts.tolist() == [1, 2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "trace.csv: empty file; expected a header"),
        ("time,count\n0,1\n", "trace.csv:1: header = 'time,count': the first column must be t_s"),
        ("t_s,count\n0,1\n60,-2\n", "trace.csv:3: count = '-2': expected a number of 0 or more"),
        ("t_s,count\n0,1\n60,2.5\n", "trace.csv:3: count = '2.5': expected a whole number, or nothing"),
        ("t_s,count\n0,1\n60,nan\n", "trace.csv:3: count = 'nan': expected a number of 0 or more"),
        ("t_s,count\n60,1\n0,2\n", "trace.csv:3: t_s = '0': times must not go back (last 60)"),
        (
            "t_s,count\n0,1\n60,2\n70,2\n",
            "trace.csv:4: t_s = '70': expected a multiple of the first bin's width",
        ),
        ("t_s,count\n0,1\n0,2\n", "trace.csv:3: t_s = '0': two bins start at the same time"),
        ("t_s,count\n0,1\n", "trace.csv: 1 bins; at least 2 are needed"),
        ("t_s,count\n0,1\n60\n", "trace.csv:3: row = '60': expected 2 columns"),
        ("t_s,count\n0,1\n1e-3,1\n1e9,1\n", "trace.csv:4: t_s = '1e+09': a trace has at most"),
        ("t_s,count\n0,1\n60,1e300\n", "trace.csv:3: count = '1e300': a bin has at most"),
        ("t_s,count\n0,1\n1e-300,1\n1e300,1\n", "trace.csv:4: t_s = '1e+300': a trace has at most"),
        ("x" * 200_000, "trace.csv: not a readable trace: field larger than"),
        ("x" * 1000, "trace.csv:1: header = '" + "x" * 80 + "…': the first column"),
        ("t_s\nx\n", "trace.csv:2: t_s = 'x': expected a number of 0 or more"),
        ("t_s,tokens\n", "trace.csv: no requests after the header"),
    ],
)
def test_a_bad_trace_is_named_by_line_field_value_and_what_is_allowed(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_trace(text, "trace.csv")
    assert str(caught.value).startswith(message)


def test_a_trace_too_long_to_scale_is_one_line() -> None:
    trace = parse_trace("t_s\n0\n1e12\n", "trace.csv")
    with pytest.raises(UsageError, match="at most 10,000,000 s can be scaled"):
        arrivals(trace, Fit(time_scale=1e3, rate_scale=2.0), np.random.default_rng(0))


def test_unreadable_files_are_one_line(tmp_path: Path) -> None:
    cut_off = tmp_path / "cut.gz"
    cut_off.write_bytes(gzip.compress(b"t_s,count\n" * 100)[:30])
    damaged = tmp_path / "damaged.gz"
    packed = gzip.compress(b"t_s,count\n" * 100)
    damaged.write_bytes(packed[:10] + b"\xff" * 10 + packed[20:])
    for path in (tmp_path / "missing.csv", cut_off, damaged, tmp_path):
        with pytest.raises(UsageError, match="not a readable trace") as caught:
            read_trace(path)
        assert "\n" not in str(caught.value)


@pytest.mark.skipif(not SHARED.exists(), reason="recorded traces are not here")
@pytest.mark.parametrize("name", ["servegen_deepseek_r1_24h", "azure_llm_code_2023_part1.requests"])
def test_recorded_traffic_fits_a_run(name: str) -> None:
    found = arrivals(
        read_trace(SHARED / f"{name}.csv.gz"),
        Fit(time_scale=100.0, peak_rps=50.0, duration_s=15.0),
        np.random.default_rng(0),
    )
    assert found.duration_s == 15.0
    assert 0 < len(found.planned_s) < 900
