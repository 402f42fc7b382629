"""Traces that others write: their arrivals, and the errors of files that are not what they look like."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.trace import parse_trace
from loadtest.trace_kinds import BinnedTrace, RequestTrace
from minwatt.v1.errors import UsageError

zones = st.integers(-12, 14).map(lambda hours: timezone(timedelta(hours=hours)))
START = datetime(2024, 2, 28, 23, 59, 50, tzinfo=UTC)


@given(st.lists(st.tuples(st.integers(0, 30), zones), min_size=1, max_size=20))
def test_an_access_log_is_counts_a_second_in_any_order(
    lines: list[tuple[int, timezone]],
) -> None:
    text = "".join(
        f"10.0.0.1 - - [{(START + timedelta(seconds=second)).astimezone(zone):%d/%b/%Y:%H:%M:%S %z}] "
        f'"GET /a HTTP/1.1" 200 17 "-" "curl [x]"\n'
        for second, zone in lines
    )
    trace = parse_trace(text, "access.log")
    assert isinstance(trace, BinnedTrace)
    seconds = [second for second, _ in lines]
    expected = [seconds.count(second) for second in range(min(seconds), max(seconds) + 1)]
    assert (trace.bin_s, trace.counts.tolist()) == (1.0, expected)


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=20))
def test_an_azure_llm_trace_is_the_time_of_each_request(microseconds: list[int]) -> None:
    times = [START + timedelta(microseconds=one) for one in sorted(microseconds)]
    rows = "".join(f"{at:%Y-%m-%d %H:%M:%S.%f}0,374,44\n" for at in times)  # seven digits, as published
    trace = parse_trace("TIMESTAMP,ContextTokens,GeneratedTokens\n" + rows, "azure.csv")
    assert isinstance(trace, RequestTrace)
    expected = (np.sort(microseconds) - min(microseconds)) / 1e6
    assert np.allclose(trace.t_s, expected, atol=2e-6)


@given(st.lists(st.lists(st.integers(0, 9), min_size=3, max_size=3), min_size=1, max_size=5))
def test_azure_functions_of_2019_are_summed_over_functions(counts: list[list[int]]) -> None:
    counts[0][0] += 1
    rows = "".join(f"o,a,f{number},http,{','.join(map(str, row))}\n" for number, row in enumerate(counts))
    trace = parse_trace("HashOwner,HashApp,HashFunction,Trigger,1,2,3\n" + rows, "day.csv")
    assert isinstance(trace, BinnedTrace)
    assert (trace.bin_s, trace.counts.tolist()) == (60.0, np.sum(counts, axis=0).tolist())


def test_azure_functions_of_2021_begin_a_duration_before_their_end() -> None:
    trace = parse_trace("app,func,end_timestamp,duration\na,f,10.5,8.5\na,g,9.0,1.0\n", "f.csv")
    assert isinstance(trace, RequestTrace)
    assert trace.t_s.tolist() == [0.0, 6.0]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("TIMESTAMP,Tokens\n", "f:1: header = 'TIMESTAMP,Tokens': allowed: TIMESTAMP,Con"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\nnoon,1,1\n", "f:2: TIMESTAMP = 'noon': expected a time"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\n", "f: no requests"),
        ("app,func,end_timestamp,duration\na,f,1,x\n", "f:2: duration = 'x': expected a number"),
        ("app,func,end_timestamp,duration\na,f\n", "f:2: row = 'a,f': expected 4 columns"),
        ("HashOwner,HashApp,HashFunction,Trigger,1\no,a,f,t,-1\n", "f:2: 1 = '-1': expected a whole"),
        ('h - - [10/Oct/2000:13:55:36 -0700] "GET /"\nx\n', "f:2: line = 'x': expected the common log"),
        ('h - - [yesterday] "GET /"\n', "f:1: time = 'yesterday': expected a time such as"),
    ],
)
def test_what_is_wrong_is_one_line(text: str, line: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse_trace(text, "f")
    assert str(raised.value).startswith(line)
