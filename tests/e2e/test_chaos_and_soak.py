"""`make chaos` and `make soak`, for seconds: that they run, find nothing, and would find something."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from bench import chaos, soak
from tests.tiny_model import write_tiny_model


@pytest.mark.parametrize("addresses", [False, True])
def test_chaos(tiny_model: Path, tmp_path: Path, addresses: bool) -> None:
    plan = chaos.Plan(
        stops=4, replicas=3, addresses=addresses, kill_share=0.3, rate_rps=30, deadline_s=60, seed=2
    )
    outcome = asyncio.run(chaos.run(plan, tiny_model))
    assert outcome.good, (outcome.failures, outcome.faults)
    assert outcome.stops.total() == 4
    assert outcome.requests == len(outcome.latencies_s) > 0
    chaos.write(plan, outcome, 1.0, tmp_path / "chaos.json")
    chaos.show(outcome, 1.0)
    assert json.loads((tmp_path / "chaos.json").read_text())["failures"] == {}
    assert not replace(outcome, failures=Counter(["UNAVAILABLE"])).good
    assert not replace(outcome, faults=Counter(["exit code 1"])).good


def test_soak(tmp_path: Path) -> None:
    model = write_tiny_model(tmp_path / "tiny-text")
    done = asyncio.run(soak.run(model, minutes=0.1, warm_up_minutes=0.02, scale=2.0, seed=3))
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
