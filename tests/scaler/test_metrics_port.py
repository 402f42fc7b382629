"""`minwatt scale`: where replicas are met, and what is said of those that are meant for another fleet."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

import pytest

from minwatt import cli
from scaler import scale
from scaler.scale import tell_of_strays
from tests.eventually import happens


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--fleet", "a/b/c"], "--fleet = 'a/b/c': allowed: NAME or NAMESPACE/NAME of letters"),
        (
            ["--listen", "127.0.0.1:0", "--bus-redis", "redis://h"],
            "--listen and --bus-redis: replicas join by",
        ),
        (["--bus-redis", "redis://:secret@h:x"], "--bus-redis = redis://…: not a host and a port; allowed:"),
        (["--bus-redis-password-file", "f"], "--bus-redis-password-file: needs --bus-redis"),
        (
            ["--bus-redis", "redis://h", "--bus-redis-password-file", "none"],
            "password: 'none': No such",
        ),
        (["--listen", "nonsense"], "--listen = 'nonsense': allowed: HOST:PORT"),
    ],
)
def test_a_mistake_is_one_line(
    flags: list[str], line: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with pytest.raises(SystemExit) as exit_:
        cli.main(["scale", *flags])
    assert exit_.value.code == 2
    said = capsys.readouterr().err
    assert line in said
    assert said.count("\n") == 1
    assert "secret" not in said


class Hub:
    """Of strays alone."""

    def __init__(self, *looks: Mapping[str, int]) -> None:
        self.looks = [*looks]

    async def strays(self) -> Mapping[str, int]:
        return self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]


async def test_replicas_of_another_fleet_are_told_of_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scale, "STRAYS_EVERY_S", 0.001)
    hub, said = Hub({}, {"shop/txt": 2}, {"shop/txt": 2}, {"shop/txt": 3}, {}), list[str]()
    telling = asyncio.create_task(tell_of_strays(hub, "shop/text", said.append))
    await happens(lambda: len(hub.looks) == 1)
    telling.cancel()
    assert said == [
        f"fleet shop/txt: {count} replicas, and no policy here; this one's is fleet shop/text"
        for count in (2, 3)
    ]
