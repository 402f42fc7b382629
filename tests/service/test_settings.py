"""Flags: defaults, and errors that name flag, value and what is allowed."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minwatt.v1.errors import UsageError
from service.settings import ServeSettings, parse_address, parse_duration


def test_durations_are_seconds() -> None:
    settings = ServeSettings.of_flags(slo="80ms", max_delay="0", drain_grace="1.5s", default_deadline=None)
    assert (settings.slo, settings.max_delay, settings.drain_grace) == (0.08, 0.0, 1.5)
    assert settings.default_deadline == 30.0


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        ({"slo": "50"}, "options: slo = '50': allowed: a number with a unit, e.g. 5ms, 1.5s, 2m"),
        ({"slo": "0s"}, "options: slo = '0s': Input should be greater than 0"),
        ({"max_batch_texts": 0}, "options: max-batch-texts = 0: Input should be greater than or equal to 1"),
        ({"port": 70000}, "options: port = 70000: Input should be less than or equal to 65535"),
        ({"provider": "tpu"}, "options: provider = 'tpu': Input should be 'cpu', 'cuda' or 'tensorrt'"),
        ({"scaler": "nowhere"}, "options: scaler = 'nowhere': allowed: HOST:PORT, e.g. 127.0.0.1:9000"),
    ],
)
def test_errors_are_one_line(flags: dict[str, Any], line: str) -> None:
    with pytest.raises(UsageError) as raised:
        ServeSettings.of_flags(**flags)
    assert str(raised.value) == line


def test_a_request_that_could_never_enter_is_no_setting() -> None:
    with pytest.raises(UsageError, match="max-texts = 100 exceeds max-queue-texts = 10"):
        ServeSettings.of_flags(max_texts=100, max_queue_texts=10)


@given(st.text(max_size=8))
def test_any_duration_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert parse_duration(text) >= 0


def test_addresses() -> None:
    assert parse_address("127.0.0.1:80") == ("127.0.0.1", 80)
    assert parse_address("[::1]:80") == ("[::1]", 80)
    for bad in ("", ":80", "host", "host:", "host:0", "host:70000", "host:٣"):
        with pytest.raises(ValueError, match="HOST:PORT"):
            parse_address(bad)
