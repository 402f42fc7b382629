"""Traffic of a real server, captured, replayed to a real server that captures it again: both are alike."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from loadtest.capture import CapturedLoad, captured_plan, read_captures
from loadtest.plan import Plan, Task, payload
from loadtest.sender import SendOptions, send
from loadtest.trace import Fit
from minwatt.v1.capture_file import DONE, OPEN, UNKNOWN_MODEL
from tests.e2e.replica_process import ReplicaProcess
from tests.eventually import happens
from tests.tiny_model import write_tiny_model

REQUESTS = 32
OTHER, CANARY = "other", "kestrel-4711"


def traffic() -> Plan:
    """Bursts of four every 60 ms, of two tasks, two lengths, two models and three deadlines; each fourth for
    a model that is not there."""
    asked = [
        payload(Task.CLASSIFY, ["my card"], model=OTHER, no_cache=True),
        payload(Task.EXTRACT, ["hello my card is here"], batch=True),
        payload(Task.CLASSIFY, ["hello", "where is my card"]),
        payload(Task.CLASSIFY, [CANARY], model=CANARY),
    ]
    planned_s = np.repeat(np.arange(8) * 0.06, 4)
    choices = np.tile(np.arange(4), 8).astype(np.intp)
    deadlines_s = np.tile([1.0, 5.0, 9.0, 9.0], 8)
    return Plan(planned_s, choices, asked, 0.5, deadlines_s)


def of(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def lines_of(folder: Path) -> int:
    return sum(path.read_bytes().count(b"\n") for path in folder.iterdir())


def mix(load: CapturedLoad) -> Counter[tuple[object, ...]]:
    return Counter(
        (row.task, row.texts, row.priority, round(row.deadline_s), row.model, row.no_cache, row.outcome)
        for row in load.rows
    )


@pytest.mark.both_modes
async def test_a_replay_of_a_capture_is_captured_alike(tiny_model: Path, tmp_path: Path) -> None:
    """The first replica is killed: what it has written is whole. The second one ends, and names its file."""
    first_folder, second_folder = tmp_path / "first", tmp_path / "second"
    write_tiny_model(tmp_path / OTHER, name=OTHER)
    flags = ("--model", str(tmp_path / OTHER), "--cache-bytes", "1048576", "--capture")
    with ReplicaProcess(tiny_model, *flags, str(first_folder)) as replica:
        await send(traffic(), replica.target, SendOptions(connections=2))
        await happens(lambda: lines_of(first_folder) == 1 + REQUESTS)
        assert [name.endswith(OPEN) for name in of(first_folder)] == [True]
    first = read_captures(first_folder)
    plan = captured_plan(first, Fit(), np.random.default_rng(1))

    with ReplicaProcess(tiny_model, *flags, str(second_folder)) as replica:
        await send(plan, replica.target, SendOptions(connections=2))
        replica.terminate()
        assert replica.wait() == 0
    second = read_captures(second_folder)
    assert [name.endswith(DONE) for name in of(second_folder)] == [True]

    assert mix(first) == mix(second)
    asked = {(row.model, row.no_cache): row.outcome for row in (*first.rows, *second.rows)}
    assert asked == {("", False): "OK", (OTHER, True): "OK", (UNKNOWN_MODEL, False): "NOT_FOUND"}
    assert all(row.tokens for row in first.rows if row.no_cache)  # of what was known nothing is counted
    for folder in (first_folder, second_folder):
        assert not any(CANARY.encode() in path.read_bytes() for path in folder.iterdir())
    lag_s = np.abs(second.t_s - first.t_s)
    assert np.median(lag_s) < 0.03  # gaps are 60 ms; a busy machine delays single ones
