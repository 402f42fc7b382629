"""Flags: defaults, and errors that name flag, value and what is allowed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from minwatt.resources import DEFAULT_MODEL, default_model_dir
from minwatt.v1.errors import UsageError
from service.settings import ServeSettings


def test_a_flag_that_is_off_needs_nothing() -> None:
    assert not ServeSettings.of_flags(capture_texts=False).capture_texts


def test_durations_are_seconds() -> None:
    settings = ServeSettings.of_flags(slo="80ms", max_delay="0", drain_grace="1.5s", default_deadline=None)
    assert (settings.slo_s, settings.max_delay_s, settings.drain_grace_s) == (0.08, 0.0, 1.5)
    assert settings.default_deadline_s == 30.0


def test_a_shipped_model_has_a_name_which_a_folder_here_goes_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name = DEFAULT_MODEL
    assert ServeSettings.of_flags(model=name).model == (default_model_dir(),)
    assert ServeSettings.of_flags(model=f"./x/{name}").model == (Path(f"x/{name}"),)
    assert ServeSettings.of_flags(model="other").model == (Path("other"),)
    (tmp_path / name).mkdir()
    assert ServeSettings.of_flags(model=name).model == (Path(name),)


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (
            {"slo": "50"},
            "options: slo = '50': allowed: a duration such as 50ms, 5s, 2m or 1h (units us, ms, s, m, h)",
        ),
        ({"slo": "0s"}, "options: slo = '0s': allowed: 1ms to 1h"),
        ({"max_connection_age": "1000h"}, "options: max-connection-age = '1000h': allowed: 1s to 24h"),
        (
            {"max_texts": 100, "max_queue_texts": 10},
            "options: max-texts = 100 exceeds max-queue-texts = 10: such a request could never enter",
        ),
        ({"max_batch_texts": 0}, "options: max-batch-texts = 0: Input should be greater than or equal to 1"),
        ({"port": 70000}, "options: port = 70000: Input should be less than or equal to 65535"),
        ({"provider": "tpu"}, "options: provider = 'tpu': Input should be 'cpu', 'cuda' or 'tensorrt'"),
        ({"cache_bytes": 1000}, "options: cache-bytes = 1000: allowed: 0 (off) or 1048576 and more"),
        (
            {"cache_bytes": 1 << 20, "cache_redis": "redis://a", "cache_key_file": "b"},
            "options: cache-bytes and cache-redis: answers are kept in one place: give one of them",
        ),
        (
            {"cache_redis": "redis://:secret@a"},
            "options: cache-redis and cache-key-file go together: the file, the same for all replicas, keeps "
            "others from guessing what was asked; e.g. of: head -c 64 /dev/urandom",
        ),
        ({"capture_share": 0.5}, "options: capture-share: needs capture, the folder"),
        (
            {"capture": "a", "capture_texts": True, "front_ends": 1},
            "options: capture-texts: goes without front-ends: there a text never leaves the process "
            "it came to",
        ),
        (
            {"capture": "a", "capture_bytes": "1Mi"},
            "options: capture-bytes = '1Mi': allowed: 16Mi to 1048576Gi",
        ),
        ({"cache_ttl": "0s"}, "options: cache-ttl = '0s': allowed: 1s to 24h"),
        ({"log_format": "xml"}, "options: log-format = 'xml': Input should be 'text' or 'json'"),
        ({"trace_ratio": 2}, "options: trace-ratio = 2: Input should be less than or equal to 1"),
        (
            {"otlp_endpoint": "collector:4317"},
            "options: otlp-endpoint = 'collector:4317': allowed: http://HOST:PORT or https://HOST:PORT",
        ),
        (
            {"fleet": "a/b/c"},
            "options: fleet = 'a/b/c': allowed: NAME or NAMESPACE/NAME of letters, digits, '.', '_' and '-'",
        ),
        (
            {"scaler": "h:1", "bus_redis": "redis://:secret@h"},
            "options: scaler and bus-redis: the scaler is met in one place: give one of them",
        ),
        (
            {"bus_redis": "redis://:secret@h:x"},
            "options: bus-redis = redis://…: not a host and a port; allowed: redis://HOST:PORT/DB, "
            "unix:///PATH, redis+sentinel://HOST:PORT,HOST:PORT/SERVICE/DB or "
            "redis+cluster://HOST:PORT,HOST:PORT; rediss… for TLS",
        ),
        ({"bus_redis_password_file": "f"}, "options: bus-redis-password-file: needs bus-redis"),
        ({"scaler_token_file": "f"}, "options: scaler-token-file, scaler-ca: need scaler"),
        ({"scaler": "nowhere"}, "options: scaler = 'nowhere': allowed: HOST:PORT, e.g. 127.0.0.1:9000"),
    ],
)
def test_errors_are_one_line(flags: dict[str, Any], line: str) -> None:
    with pytest.raises(UsageError) as raised:
        ServeSettings.of_flags(**flags)
    assert str(raised.value) == line


@pytest.mark.parametrize("good", ["127.0.0.1:80", "[::1]:80", "scaler.minwatt.svc:9000"])
def test_addresses(good: str) -> None:
    assert ServeSettings.of_flags(scaler=good).scaler == good


@pytest.mark.parametrize(
    "bad", ["", ":80", "host", "host:", "host:0", "host:70000", "host:٣", "::1:80", "[::1:80", "a b:80"]
)
def test_what_is_no_address(bad: str) -> None:
    with pytest.raises(UsageError, match="HOST:PORT"):
        ServeSettings.of_flags(scaler=bad)
