"""`minwatt profile` with a real replica: stopped by Ctrl-C it keeps its points, and goes on from there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from minwatt.commands.profile_points import Loaded, Rows, parse, points_file
from scaler.profile import Point, load_profile

LIMIT_S = 100.0


def command(model: Path, out: Path) -> list[str]:
    """Three points: idle, and one load at each of two lengths."""
    sweep = ["--batches", "4", "--delays", "0ms", "--tokens", "8,60", "--loads", "0.3", "--point", "3s"]
    return [sys.executable, "-m", "minwatt", "profile", "--model", str(model), "--out", str(out), *sweep]


def rows_in(file: Path) -> Rows:
    return parse(file.read_text(), str(file))[1] if file.exists() else Rows()


def points_of(out: Path) -> list[Point]:
    """Of the profile; of the points where a busy machine's don't carry a line."""
    if out.exists():
        return list(load_profile(out).points)
    heading, rows = parse(points_file(out).read_text(), str(out))
    return rows.points(heading.grid)


@pytest.fixture
def heard_ctrl_c() -> Iterator[None]:
    """What a shell starts in the background ignores Ctrl-C, and so would what the tests start."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.timeout(300)
@pytest.mark.usefixtures("heard_ctrl_c")
def test_a_stopped_measurement_goes_on_where_it_was(tiny_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "profile.yaml"
    file = points_file(out)
    first = subprocess.Popen(
        command(tiny_model, out), stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    deadline_s = time.monotonic() + LIMIT_S
    while len(rows_in(file)) < 2:
        assert first.poll() is None
        assert time.monotonic() < deadline_s
        time.sleep(0.1)
    os.killpg(first.pid, signal.SIGINT)  # to the whole group, as a terminal does
    said, _ = first.communicate(timeout=LIMIT_S)
    assert first.returncode == 1
    assert "2 of 3 points are kept" in " ".join(said.split())
    assert not out.exists()
    kept = rows_in(file)
    assert [row.cell.text_tokens for row in kept.rows if isinstance(row, Loaded)] == [8]

    second = subprocess.run(
        command(tiny_model, out), capture_output=True, text=True, check=False, timeout=LIMIT_S
    )
    assert "going on after 2 of 3 points" in " ".join(second.stdout.split())
    points = points_of(out)
    assert len(points) == 3
    assert points[0] == kept.rows[0].point  # type: ignore[union-attr]
    assert points[1] == kept.rows[1].point  # type: ignore[union-attr]
    assert points[2].text_tokens == 60
    assert file.exists() != out.exists()
