"""gCO2: joules by the hour times the grid's intensity; what has none is unknown, not clean."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minwatt.v1.errors import UsageError
from scaler.carbon import Emission, Intensity, emission, read_intensity

HEADER = "t_s,timestamp_utc,gco2_per_kwh\n"
drawn = st.lists(st.floats(0, 1e6), min_size=1, max_size=30)
by_hour = st.lists(st.none() | st.floats(0, 1000), min_size=2, max_size=12)


def intensity(values: list[float | None]) -> Intensity:
    return Intensity("2022-01-01T00:00:00Z", 3600.0, np.array([np.nan if v is None else v for v in values]))


def edges(count: int, width_s: float) -> np.ndarray:
    return np.arange(count + 1) * width_s


def test_each_hour_has_its_own_intensity() -> None:
    found = emission(intensity([100.0, 400.0]), edges(2, 3600.0), np.array([3.6e6, 7.2e6]))
    assert found == Emission(pytest.approx(1 * 100 + 2 * 400), 0.0)


def test_joules_that_span_hours_are_shared_by_time() -> None:
    found = emission(intensity([100.0, 400.0]), np.array([0.0, 1800.0, 5400.0]), np.array([0.0, 3.6e6]))
    assert found.gco2 == pytest.approx((100 + 400) / 2)


def test_hours_without_data_are_unknown_and_not_clean() -> None:
    found = emission(intensity([100.0, None]), edges(2, 3600.0), np.array([3.6e6, 10.8e6]))
    assert found.gco2 == pytest.approx(100)
    assert found.unknown_share == pytest.approx(0.75)
    nothing = emission(intensity([None, None]), edges(2, 3600.0), np.array([3.6e6, 1.0]))
    assert nothing == Emission(None, 1.0)


def test_after_the_files_end_there_is_no_data() -> None:
    found = emission(intensity([100.0, 100.0]), edges(4, 3600.0), np.full(4, 3.6e6))
    assert found.gco2 == pytest.approx(200)
    assert found.unknown_share == pytest.approx(0.5)


@given(drawn, by_hour, st.floats(1, 10_000))
def test_known_and_unknown_joules_are_all_joules(
    joules: list[float], values: list[float | None], width_s: float
) -> None:
    one = intensity([None if value is None else 360.0 for value in values])
    found = emission(one, edges(len(joules), width_s), np.array(joules))
    known_j = (found.gco2 or 0.0) / 360.0 * 3.6e6
    assert 0 <= found.unknown_share <= 1
    assert known_j == pytest.approx(sum(joules) * (1 - found.unknown_share), abs=1e-6 * (1 + sum(joules)))


def test_a_file_is_read_gzip_or_plain(tmp_path: Path) -> None:
    text = HEADER + "0,2022-01-01T00:00:00Z,222.3\n3600,2022-01-01T01:00:00Z,\n"
    plain, packed = tmp_path / "a.csv", tmp_path / "b.csv.gz"
    plain.write_text(text)
    packed.write_bytes(gzip.compress(text.encode()))
    for path in (plain, packed):
        found = read_intensity(path)
        assert (found.step_s, found.first_utc) == (3600.0, "2022-01-01T00:00:00Z")
        assert np.array_equal(found.gco2_per_kwh, [222.3, np.nan], equal_nan=True)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", ":1: header = '': allowed: t_s,timestamp_utc,gco2_per_kwh"),
        ("t_s,count\n0,1\n", ":1: header = 't_s,count': allowed"),
        (HEADER + "0,x,1\n", "1 rows; at least 2"),
        (HEADER + "0,x,1\n3600,x,-2\n", ":3: gco2_per_kwh = '-2': expected a number of 0 or more"),
        (HEADER + "0,x,1\n3600,x,1\n10800,x,1\n", ":4: t_s = 10800: expected 7200"),
        (HEADER + "3600,x,1\n0,x,1\n", ":3: t_s = 0: times must rise (last 3600)"),
        (HEADER + "0,x\n", ":2: row = '0,x': expected 3 columns"),
    ],
)
def test_a_bad_file_is_one_line(tmp_path: Path, text: str, named: str) -> None:
    path = tmp_path / "grid.csv"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        read_intensity(path)
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)
