"""What can't wait: only what chance does not explain."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaler.decision import ReasonCode
from scaler.latency_sketch import encode, merge
from scaler.levers import Limits
from scaler.urgency import judge, missed_tail_s
from tests.scaler.made_up import signals

LIMITS = Limits(
    min_replicas=1,
    max_replicas=8,
    slo_latency_s=0.1,
    percentile=99.0,
    miss=0.0005,
    budget_w=None,
    max_batch_texts=8,
    max_delay_s=0.01,
)
SLOW = merge([encode([0.3] * 50)])


@pytest.mark.parametrize(("slow", "missed"), [(0, False), (1, False), (3, False), (8, True), (60, True)])
def test_a_few_slow_requests_of_a_hundred_are_chance(slow: int, missed: bool) -> None:
    samples = merge([encode([0.01] * (100 - slow) + [0.3] * slow)])
    assert (missed_tail_s(samples, LIMITS) is not None) == missed


def test_no_samples_and_too_few_to_tell_are_no_miss() -> None:
    assert missed_tail_s(None, LIMITS) is None
    assert missed_tail_s(merge([encode([0.5])]), LIMITS) is None


def test_a_fleet_that_just_holds_its_percentile_is_almost_never_urgent() -> None:
    rng = np.random.default_rng(2)
    alarms = 0
    for _ in range(300):
        slow = int(rng.binomial(100, 0.01))
        alarms += missed_tail_s(merge([encode([0.01] * (100 - slow) + [0.2] * slow)]), LIMITS) is not None
    assert alarms <= 2


def test_one_replica_more_unless_one_is_on_its_way() -> None:
    missed = judge(signals(recent_latencies=SLOW), 2, LIMITS, 0.001)
    assert (missed.at_least, [one.code for one in missed.reasons]) == (3, [ReasonCode.SLO_MISSED])
    assert judge(signals(recent_latencies=SLOW), 3, LIMITS, 0.001).at_least == 3


def test_refusals_count_beyond_the_error_budget_and_a_queue_beyond_a_batch_each() -> None:
    assert judge(signals(overload_refusals_rps=0.05), 2, LIMITS, 0.001).at_least == 0
    spent = judge(signals(overload_refusals_rps=1.0), 2, LIMITS, 0.001)
    assert (spent.at_least, spent.reasons[0].code) == (3, ReasonCode.ERROR_BUDGET_SPENT)
    assert judge(signals(arrivals_rps=0.0), 2, LIMITS, 0.001).at_least == 0
    assert judge(signals(queue_depth=16), 2, LIMITS, 0.001).backlog_texts == 0
    assert judge(signals(queue_depth=40), 2, LIMITS, 0.001).backlog_texts == 24


@given(
    st.integers(0, 200), st.integers(1, 20), st.integers(0, 5), st.floats(0, 5), st.sampled_from([None, SLOW])
)
def test_it_asks_for_one_more_at_most_and_says_why(
    queue: int, ready: int, starting: int, refused: float, samples: object
) -> None:
    seen = signals(
        ready=ready,
        starting=starting,
        queue_depth=queue,
        overload_refusals_rps=refused,
        recent_latencies=samples,
    )
    urgency = judge(seen, ready + starting, LIMITS, 0.001)
    assert urgency.at_least in (0, ready + starting + (starting == 0))
    assert urgency.backlog_texts == max(0, queue - 8 * ready)
    codes = {reason.code for reason in urgency.reasons}
    assert (ReasonCode.BACKLOG in codes) == (urgency.backlog_texts > 0)
    assert bool(codes - {ReasonCode.BACKLOG}) == (urgency.at_least > 0)
    assert all(reason.message and reason.values for reason in urgency.reasons)
