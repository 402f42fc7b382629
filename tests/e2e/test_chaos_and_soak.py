"""`make chaos` and `make soak`, for seconds: that they run, find nothing, and would find something."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from bench import chaos, soak
from bench.working_copy import WorkingCopy


@pytest.mark.parametrize(("addresses", "front_ends"), [(False, 0), (True, 0), (False, 2)])
def test_chaos(tmp_path: Path, addresses: bool, front_ends: int) -> None:
    stops = 4 if front_ends else 2  # each kind of process is to be killed once
    plan = chaos.Plan(
        stops=stops,
        replicas=3,
        addresses=addresses,
        front_ends=front_ends,
        kill_share=0.5 if front_ends else 0.3,
        rate_rps=30,
        deadline_s=60,
        seed=2,
    )
    outcome = asyncio.run(chaos.run(plan, WorkingCopy.of(None, tmp_path)))
    assert outcome.good, (outcome.failures, outcome.faults)
    assert outcome.stops.total() == stops
    assert set(outcome.processes_killed) == ({"minwatt-engine", "minwatt-front"} if front_ends else set())
    assert outcome.requests == len(outcome.latencies_s) > 0
    chaos.write(plan, outcome, 1.0, tmp_path / "chaos.json")
    chaos.show(outcome, 1.0)
    assert json.loads((tmp_path / "chaos.json").read_text())["failures"] == {}
    assert not replace(outcome, failures=Counter(["UNAVAILABLE"])).good
    assert not replace(outcome, faults=Counter(["exit code 1"])).good


@pytest.mark.parametrize("front_ends", [0, 2])
def test_soak(tmp_path: Path, front_ends: int) -> None:
    plan = soak.Plan(minutes=0.1, warm_up_minutes=0.02, scale=2.0, front_ends=front_ends, seed=3)
    done = asyncio.run(soak.run(WorkingCopy.of(None, tmp_path), plan))
    assert (done.lost, done.left_in_flight) == ({}, 0)
    assert set(done.asked) == {
        "unary", "extract", "many", "stream", "health", "reflection", "cancel", "hurry", "bad_request",
        "bad_bytes", "reconnect", "no_http", "reload", "load", "damaged_reload", "damaged_load",
    }  # fmt: skip
    assert len(done.samples) > 10
    soak.write(done, tmp_path / "soak.json")
    soak.show(done)
    leaking = [
        replace(sample, rss_mib=sample.rss_mib + 10 * index) for index, sample in enumerate(done.samples)
    ]
    assert "rss_mib" in replace(done, samples=leaking).grown
    assert not replace(done, lost={"unary: TimeoutError": 1}).good
