"""What `minwatt profile` finds out before it measures for minutes."""

from __future__ import annotations

from pathlib import Path

import pytest

from minwatt import cli


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--out", "DIR"], "is a directory"),
        (["--out", "DIR/file/below.yaml"], "can't be written"),
        (["--out", "DIR/p.yaml", "--loads", "nan"], "--loads = 'nan': allowed: comma-separated numbers"),
        (["--out", "DIR/p.yaml", "--batches", "1.5"], "--batches = '1.5': allowed"),
        (["--out", "DIR/p.yaml", "--delays", "5"], "--delays = '5': allowed: a duration"),
    ],
)
def test_a_mistake_is_one_line_before_anything_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], named: str
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit) as ended:
        cli.main(["profile", *(flag.replace("DIR", str(tmp_path)) for flag in flags)])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert named in said
    assert not (tmp_path / "p.yaml").exists()
