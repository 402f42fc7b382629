"""`minwatt scale`: where replicas are met."""

from __future__ import annotations

from pathlib import Path

import pytest

from minwatt import cli


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
