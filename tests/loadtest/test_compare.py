"""Laws of a comparison: a run does not differ from itself, real differences are seen, noise is noise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.compare import Change, compare
from loadtest.outcomes import Outcome, Result
from loadtest.runs import RunData, RunRecord


def run(
    seed: int, latency_s: float = 0.02, joules: float = 0.02, refused: float = 0.0, **load: str
) -> RunData:
    """A minute of some 50 requests/s whose latency moves from second to second, as queues do."""
    draw = np.random.default_rng(seed)
    planned_s = np.sort(draw.uniform(0, 60, 3000))
    of_second = draw.gamma(4.0, latency_s / 4, 60)
    outcomes = [
        Outcome(
            planned_s=at_s,
            sent_s=at_s,
            latency_s=of_second[int(at_s)] * own,
            task="classify",
            texts=1,
            result=Result.REFUSED if out else Result.COMPLETED,
            status="OK",
            server_queue_s=0.0,
            server_compute_s=latency_s / 2,
            energy_j=joules,
            energy_source="modelled",
        )
        for at_s, own, out in zip(
            planned_s, draw.gamma(9.0, 1 / 9, 3000), draw.random(3000) < refused, strict=True
        )
    ]
    record = RunRecord(
        name="run", target="t", started_unix_s=0.0, duration_s=60.0, planned=3000, slo_s=0.05,
        deadline_s=1.0, connections=1, load={"seed": str(seed), **load},
    )  # fmt: skip
    return RunData(record, outcomes)


def named(changes: list[Change]) -> dict[str, Change]:
    return {change.name: change for change in changes}


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 1000))
def test_a_run_does_not_differ_from_itself(seed: int) -> None:
    one = run(seed)
    for change in compare(one, one, draws=100):
        assert change.difference == 0
        assert (change.low, change.high) == (0, 0), "drawn in pairs"
        assert change.verdict == "within noise"


def test_turned_around_a_difference_is_its_opposite() -> None:
    there, back = named(compare(run(1), run(2))), named(compare(run(2), run(1)))
    for name, change in there.items():
        assert change.difference is not None
        assert back[name].difference == pytest.approx(-change.difference)


def test_runs_of_the_same_kind_are_within_noise_about_as_often_as_promised() -> None:
    """19 of 20 in the long run; fewer than 8 of 12 come by chance once in thousands."""
    pairs = [named(compare(run(2 * one), run(2 * one + 1), draws=150)) for one in range(12)]
    for figure in ("p50", "p99", "goodput"):
        assert sum(pair[figure].verdict == "within noise" for pair in pairs) >= 8


def test_what_is_really_other_is_seen() -> None:
    changes = named(compare(run(1), run(2, latency_s=0.06, joules=0.01, refused=0.1)))
    assert {name: change.verdict for name, change in changes.items()} == {
        "p50": "worse",
        "p99": "worse",
        "p99 at the server": "worse",
        "over the SLO": "worse",
        "completed": "worse",
        "goodput": "worse",
        "energy a request": "better",
    }
    assert changes["energy a request"].a == pytest.approx(0.02)
    assert changes["energy a request"].b == pytest.approx(0.01 / 0.9, rel=0.02), "refused ones cost, too"


def test_what_is_not_known_is_not_compared() -> None:
    without = run(1)
    bare = RunData(without.record, [])
    assert all(
        change.verdict in {"unknown", "no spread", "better", "worse"} for change in compare(without, bare)
    )
    assert Change("x", "ms", 1.0, 2.0).verdict == "no spread"
    assert Change("x", "ms", 1.0, 1.0).verdict == "the same"
    assert Change("x", "ms", None, 1.0).verdict == "unknown"
    assert Change("x", "W", 1.0, 2.0, 0.5, 1.5).verdict == "higher"
