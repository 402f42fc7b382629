"""The worked examples of Kubernetes' documentation and of its own tests, and laws."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaler.policy_sections import Replicas
from scaler.simulate.baselines.hpa_law import (
    Behavior,
    ScalingPolicy,
    Steadied,
    pods_for_average,
    pods_for_total,
)

BOUNDS = Replicas(min=1, max=100)


@pytest.mark.parametrize(
    ("current", "average", "target", "pods"),
    [
        (1, 200, 100, 2),  # the documentation: 200m where 100m are wanted doubles
        (2, 50, 100, 1),  # and 50m halves
        (5, 50, 100, 3),  # rounded up
        (10, 109, 100, 10),  # within the tolerance
        (10, 91, 100, 10),
        (10, 111, 100, 12),
        (3, 300 * 3 / 3, 300, 3),
    ],
)
def test_average(current, average, target, pods):
    assert pods_for_average(current, current, 0, average, target) == pods


def test_pods_not_ready_count_as_idle_on_the_way_up():
    # 3 at 3 × the target; 1 of 4 not ready: 3 × 3 / 4 = 2.25 of 4
    assert pods_for_average(4, 3, 1, 3.0, 1.0) == 9
    # what 2 starting pods will take over is waited for
    assert pods_for_average(4, 2, 2, 2.0, 1.0) == 4
    # and they never turn a scale-up into a scale-down
    assert pods_for_average(10, 2, 8, 1.5, 1.0) == 10


def test_pods_not_ready_are_left_out_on_the_way_down():
    assert pods_for_average(4, 2, 2, 0.5, 1.0) == 1


@pytest.mark.parametrize(
    ("current", "total", "target", "pods"),
    [(4, 1000, 100, 10), (10, 1050, 100, 10), (10, 850, 100, 9), (2, 0, 100, 0)],
)
def test_total(current, total, target, pods):
    assert pods_for_total(current, total, target) == pods


def test_default_policies_add_four_pods_or_double():
    steadied = Steadied(Behavior(), BOUNDS, 1)
    pods, steps = 1, []
    for sync in range(1, 5):
        pods = steadied.settle(15.0 * sync, pods, 100)
        steps.append(pods)
    assert steps == [5, 10, 20, 40]


def test_policy_with_a_longer_period_waits_for_it_to_end():
    behavior = Behavior(up=(ScalingPolicy("pods", 4, 60.0),))
    steadied = Steadied(behavior, BOUNDS, 1)
    pods, steps = 1, []
    for sync in range(1, 11):
        pods = steadied.settle(15.0 * sync, pods, 100)
        steps.append(pods)
    assert steps == [5, 5, 5, 5, 9, 9, 9, 9, 13, 13]


def test_one_pod_less_per_period():
    behavior = Behavior(down_window_s=0.0, down=(ScalingPolicy("pods", 1, 30.0),))
    steadied = Steadied(behavior, BOUNDS, 10)
    pods, steps = 10, []
    for sync in range(1, 6):
        pods = steadied.settle(15.0 * sync, pods, 1)
        steps.append(pods)
    assert steps == [9, 9, 8, 8, 7]


def test_down_to_the_highest_recommendation_of_the_window():
    steadied = Steadied(Behavior(), BOUNDS, 10)
    pods = 10
    for sync in range(1, 40):
        now_s = 15.0 * sync
        pods = steadied.settle(now_s, pods, 8 if now_s == 150.0 else 2)
        # The ten that it began with count for 300 s, then the eight of 150 s do.
        expected = 10 if now_s < 300.0 else 8 if now_s < 450.0 else 2
        assert pods == expected, now_s


proposals = st.lists(st.integers(0, 200), min_size=1, max_size=60)


@given(proposals, st.integers(1, 20), st.integers(0, 40), st.integers(1, 60))
def test_never_outside_min_and_max(proposed, least, more, first):
    bounds = Replicas(min=least, max=least + more)
    steadied = Steadied(Behavior(), bounds, first)
    pods = first
    for sync, proposal in enumerate(proposed, 1):
        pods = steadied.settle(15.0 * sync, pods, proposal)
        assert bounds.min <= pods <= bounds.max


@given(proposals)
def test_never_down_while_a_higher_recommendation_is_in_the_window(proposed):
    steadied = Steadied(Behavior(), BOUNDS, 1)
    pods, history = 1, [(0.0, 1)]
    for sync, proposal in enumerate(proposed, 1):
        now_s = 15.0 * sync
        before, pods = pods, steadied.settle(now_s, pods, proposal)
        history.append((now_s, proposal))
        highest = max(value for at_s, value in history if at_s > now_s - 300)
        if pods < before:
            assert pods >= min(highest, before)
            assert pods == max(1, min(highest, before))


@given(proposals)
def test_never_up_by_more_than_the_policies_allow(proposed):
    steadied = Steadied(Behavior(), BOUNDS, 3)
    pods = 3
    for sync, proposal in enumerate(proposed, 1):
        before, pods = pods, steadied.settle(15.0 * sync, pods, proposal)
        assert pods <= max(before + 4, 2 * before)
        assert pods <= max(before, proposal)


@given(st.integers(1, 50), st.integers(0, 20), st.floats(0, 1), st.floats(0.2, 1))
def test_starting_pods_never_raise_the_proposal(ready, starting, average, target):
    with_them = pods_for_average(ready + starting, ready, starting, average, target)
    alone = pods_for_average(ready, ready, 0, average, target)
    assert with_them <= max(alone, ready + starting)
    assert math.isfinite(with_them)
