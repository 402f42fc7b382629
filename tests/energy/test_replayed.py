"""Recordings: their integral, their gaps, and what a broken file is told."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from energy.reading import MeterSpecError, Reading, Unknown
from energy.replayed import Recording, ReplayedMeter, parse_recording

DAY = "t_s,watts\n0,60\n1,240\n2,\n5,60\n7,60\n"

recordings = st.lists(
    st.tuples(st.floats(0.01, 100), st.none() | st.floats(0, 700)), min_size=1, max_size=20
).map(
    lambda rows: Recording(
        times_s=tuple(math.fsum(step for step, _ in rows[: n + 1]) for n in range(len(rows))),
        watts=tuple(watts for _, watts in rows),
    )
)


def test_watts_hold_until_the_next_row_and_gaps_are_unknown() -> None:
    now_s = 1000.0
    meter = ReplayedMeter(parse_recording(DAY, "day.csv"), "recording:day.csv", lambda: now_s)
    outcomes = []
    for t_s in (0.0, 0.5, 1.5, 2.0, 4.9, 6.0, 7.0, 7.1):
        now_s = 1000.0 + t_s
        outcomes.append(meter.read())
    assert outcomes == [
        Reading(0.0, 60.0, "replayed", 1000.0),
        Reading(30.0, 60.0, "replayed", 1000.5),
        Reading(180.0, 240.0, "replayed", 1001.5),
        Unknown("a gap in the recording", 1002.0),
        Unknown("a gap in the recording", 1004.9),
        Reading(360.0, 60.0, "replayed", 1006.0),
        Reading(420.0, 60.0, "replayed", 1007.0),
        Unknown("the recording is over", 1007.1),
    ]


@given(recordings, st.floats(0, 3000), st.floats(0, 3000))
def test_joules_grow_no_faster_than_the_highest_watts(recording: Recording, a_s: float, b_s: float) -> None:
    since_s, until_s = sorted((a_s, b_s))
    joules = recording.joules_until(until_s) - recording.joules_until(since_s)
    highest_w = max((watts for watts in recording.watts if watts is not None), default=0.0)
    assert -1e-6 <= joules <= highest_w * (until_s - since_s) + 1e-6


@given(recordings)
def test_written_and_parsed_again_it_is_the_same(recording: Recording) -> None:
    rows = zip(recording.times_s, recording.watts, strict=True)
    text = "t_s,watts\n" + "".join(f"{t_s},{'' if watts is None else watts}\n" for t_s, watts in rows)
    assert parse_recording(text, "again.csv") == recording


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "f.csv:1: the header must be t_s,watts"),
        ("time,watts\n0,1\n", "f.csv:1: the header must be t_s,watts"),
        ("t_s,watts\n", "f.csv: no rows after the header; at least one is needed"),
        ("t_s,watts\n0,60\n0,70\n", "f.csv:3: t_s = '0': must be more than the row before's"),
        ("t_s,watts\n0,-1\n", "f.csv:2: watts = '-1': allowed: a number, at least 0"),
        ("t_s,watts\nnan,1\n", "f.csv:2: t_s = 'nan': allowed: a number, at least 0"),
        ("t_s,watts\n1,2,3\n", "f.csv:2: 3 fields; allowed: 2 (t_s,watts)"),
    ],
)
def test_broken_recording_is_told_its_line(text: str, line: str) -> None:
    with pytest.raises(MeterSpecError) as refused:
        parse_recording(text, "f.csv")
    assert str(refused.value) == line
