"""What can't wait: only what chance does not explain."""

from __future__ import annotations

import numpy as np
import pytest

from scaler.decision import ReasonCode
from scaler.latency_sketch import encode, merge
from scaler.plan import Limits
from scaler.signals import FleetPower, Signals
from scaler.urgency import judge, missed_tail_s

LIMITS = Limits(1, 8, 0.1, 99.0, None, 8, 0.01)


def seen(**changes: object) -> Signals:
    base: dict[str, object] = {
        "at_s": 0.0,
        "ready": 2,
        "starting": 0,
        "draining": 0,
        "arrivals_rps": 100.0,
        "completions_rps": 100.0,
        "refusals_rps": 0.0,
        "overload_refusals_rps": 0.0,
        "queue_depth": 0,
        "in_flight": {},
        "power": FleetPower(None, "unknown"),
        "latencies": None,
        "recent_latencies": None,
        "texts_per_request": 1.0,
        "text_tokens": 16.0,
        "batch_mean_texts": 1.0,
        "batch_tokens": 16.0,
        "compute_s_per_batch": 0.01,
        "batches": 100.0,
        "padding_fraction": 0.0,
        "start_up_s": 2.0,
        "highest_point_version": 1,
    }
    return Signals(**{**base, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(("slow", "missed"), [(0, False), (1, False), (3, False), (8, True), (60, True)])
def test_a_few_slow_requests_of_a_hundred_are_chance(slow: int, missed: bool) -> None:
    samples = merge([encode([0.01] * (100 - slow) + [0.3] * slow)])
    assert (missed_tail_s(samples, LIMITS) is not None) == missed


def test_a_fleet_that_just_holds_its_percentile_is_almost_never_urgent() -> None:
    rng = np.random.default_rng(2)
    alarms = 0
    for _ in range(300):
        slow = int(rng.binomial(100, 0.01))
        alarms += missed_tail_s(merge([encode([0.01] * (100 - slow) + [0.2] * slow)]), LIMITS) is not None
    assert alarms <= 2


def test_one_replica_more_unless_one_is_on_its_way() -> None:
    slow = merge([encode([0.3] * 50)])
    missed = judge(seen(recent_latencies=slow), 2, LIMITS, 0.001)
    assert (missed.at_least, [one.code for one in missed.reasons]) == (3, [ReasonCode.SLO_MISSED])
    assert judge(seen(recent_latencies=slow), 3, LIMITS, 0.001).at_least == 3


def test_refusals_count_beyond_the_error_budget_and_a_queue_beyond_a_batch_each() -> None:
    assert judge(seen(overload_refusals_rps=0.05), 2, LIMITS, 0.001).at_least == 0
    spent = judge(seen(overload_refusals_rps=1.0), 2, LIMITS, 0.001)
    assert (spent.at_least, spent.reasons[0].code) == (3, ReasonCode.ERROR_BUDGET_SPENT)
    assert judge(seen(queue_depth=16), 2, LIMITS, 0.001).backlog_texts == 0
    assert judge(seen(queue_depth=40), 2, LIMITS, 0.001).backlog_texts == 24
