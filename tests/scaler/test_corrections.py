"""Measured over predicted: towards what is measured, never beyond it, and not from what can't tell."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaler.candidate import Candidate, Corrections
from scaler.corrections import Running, can_tell, learn_latency, learn_service, learn_watts
from scaler.latency_sketch import encode, merge
from scaler.operating_point import OperatingPoint
from scaler.signals import FleetPower, Signals
from tests.scaler.made_up import TEXT_TOKENS, service_time, signals

LINE = service_time()  # 2 ms and 5 ms a text
PINNED = Running(LINE, slower=1.0, may_be_raised=False)
RAISABLE = Running(LINE, slower=1.5, may_be_raised=True)
LEARNT = Corrections(service=1.2, latency=1.1, watts=0.9)


def computed(ratio: float, texts: float = 4.0, batches: float = 100.0) -> Signals:
    """Signals of batches that took so many times what the line says."""
    took_s = ratio * (0.002 + 0.005 * texts)
    return signals(batch_tokens=TEXT_TOKENS * texts, compute_s_per_batch=took_s, batches=batches)


def candidate(load: float) -> Candidate:
    point = OperatingPoint(1, 8, 2048, 0.01, 0.1)
    return Candidate(2, point, load, watts=4.0, holds_slo=True, within_budget=True)


@given(st.floats(0.3, 3.5), st.floats(1, 8), st.floats(0.5, 2))
def test_a_service_time_is_learnt_at_just_the_tokens_that_batches_had(
    ratio: float, texts: float, before: float
) -> None:
    learnt = Corrections(service=before)
    for _ in range(120):
        moved = learn_service(learnt, computed(ratio, texts), PINNED)
        assert min(learnt.service, ratio) - 1e-9 <= moved.service <= max(learnt.service, ratio) + 1e-9
        learnt = moved
    assert learnt.service == pytest.approx(ratio, rel=0.01)
    assert (learnt.latency, learnt.watts) == (1.0, 1.0)


def test_slower_is_learnt_faster_than_faster() -> None:
    up = learn_service(Corrections(), computed(1.5), PINNED).service - 1
    down = 1 - learn_service(Corrections(), computed(0.5), PINNED).service
    assert up > 2 * down > 0


@given(st.floats(1e-6, 1e6), st.integers(1, 200))
def test_whatever_is_measured_corrections_stay_within_bounds(ratio: float, ticks: int) -> None:
    learnt = Corrections()
    slow = signals(latencies=merge([encode([ratio] * 50)]), power=FleetPower(ratio, "nvml"))
    for _ in range(ticks):
        learnt = learn_service(learnt, computed(ratio), PINNED)
        learnt = learn_latency(learnt, slow, predicted_tail_s=1.0, percentile=99)
        learnt = learn_watts(learnt, slow, predicted_w=1.0, budget_w=None)
    assert 0.25 <= learnt.service <= 4
    assert 0.8 <= learnt.latency <= 2
    assert 0.5 <= learnt.watts <= 2


@pytest.mark.parametrize("missing", ["compute_s_per_batch", "batch_tokens"])
def test_what_is_not_known_or_of_a_few_batches_teaches_nothing(missing: str) -> None:
    assert learn_service(LEARNT, signals(**{missing: None}), PINNED) is LEARNT
    assert learn_service(LEARNT, computed(3.0, batches=5), PINNED) is LEARNT


def test_a_slow_clock_is_no_slow_machine_and_a_raised_one_no_fast_machine() -> None:
    as_set = learn_service(Corrections(), computed(1.5), RAISABLE)
    assert as_set.service == pytest.approx(1)
    raised = learn_service(LEARNT, computed(1.0), RAISABLE)
    assert raised is LEARNT, "at the full clock a batch takes less than at the set one"
    slower = learn_service(Corrections(), computed(3.0), RAISABLE)
    assert slower.service > 1.2


def test_a_tail_tells_at_a_usual_load_from_many_samples() -> None:
    many, few = (signals(latencies=merge([encode([0.02] * count)])) for count in (500, 50))
    assert can_tell(many, candidate(0.5))
    assert not can_tell(few, candidate(0.5))
    assert not can_tell(signals(latencies=None), candidate(0.5))
    assert not can_tell(many, candidate(0.05))
    assert not can_tell(many, candidate(0.95))


@given(st.floats(0.85, 1.9))
def test_a_tail_is_learnt_as_the_percentile_of_the_samples(ratio: float) -> None:
    seen = signals(latencies=merge([encode([0.01] * 950 + [0.05 * ratio] * 50)]))
    learnt = Corrections()
    for _ in range(80):
        learnt = learn_latency(learnt, seen, predicted_tail_s=0.05, percentile=99)
    assert learnt.latency == pytest.approx(ratio, rel=0.03)
    assert learn_latency(LEARNT, signals(latencies=None), 0.05, 99) is LEARNT


def test_watts_over_the_budget_are_believed_at_once_and_unknown_ones_forgotten() -> None:
    seen = signals(power=FleetPower(30.0, "nvml"))
    assert learn_watts(Corrections(), seen, 20.0, budget_w=25.0).watts == 1.5
    assert 1 < learn_watts(Corrections(), seen, 20.0, budget_w=None).watts < 1.5
    assert learn_watts(Corrections(watts=1.8), seen, 20.0, budget_w=25.0).watts == 1.8
    assert learn_watts(LEARNT, signals(), 20.0, budget_w=25.0) == Corrections(1.2, 1.1, 1.0)
