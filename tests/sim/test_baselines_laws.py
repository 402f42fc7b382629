"""Knative's, Ray's, KEDA's and llm-d's laws, stepped by hand."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaler.operating_point import OperatingPoint
from scaler.policy_sections import Replicas
from scaler.simulate.baselines.hpa import Hpa
from scaler.simulate.baselines.keda_rate import KedaRate
from scaler.simulate.baselines.kpa import Kpa
from scaler.simulate.baselines.latency_ratio import LatencyRatio, desired_replicas
from scaler.simulate.baselines.ray_serve import RayServe
from tests.sim.seen import seen

BOUNDS = Replicas(min=1, max=50)
POINT = OperatingPoint(
    version=1, max_batch_texts=64, max_batch_tokens=8192, max_delay_s=0.0, slo_latency_s=0.05
)


def kpa_run(first, requests_by_tick, *, ready=None):
    kpa = Kpa("kpa", BOUNDS, POINT)
    pods = kpa.start(first).replicas
    seconds = []
    for tick, requests in enumerate(requests_by_tick, 1):
        look = seen(2.0 * tick, span_s=2.0, ready=ready or pods, in_flight=requests)
        pods = kpa.decide(look).replicas
        seconds.append(pods)
    return seconds


def test_kpa_follows_the_stable_minute():
    # 140 requests at 70 in a pod are two pods; the panic of a new autoscaler with one pod never begins
    assert kpa_run(1, [70] * 40)[-1] == 1
    assert kpa_run(2, [140] * 40)[-1] == 2


def test_kpa_panics_when_six_seconds_need_twice_the_ready_pods():
    pods = kpa_run(2, [140] * 40 + [700] * 4)
    # After one tick of 700 the six seconds hold 140, 140, 700: 326.7, 4.67 pods, 2.3 × 2: panic.
    assert pods[39] == 2
    assert pods[40] == 5
    # The minute still means 4 pods: only the panic's window sees ten.
    assert pods[42] == 10


def test_kpa_in_panic_never_lets_pods_go_and_leaves_it_a_minute_after():
    pods = kpa_run(2, [140] * 40 + [700] * 4 + [140] * 60)
    first_fall = next(tick for tick, (a, b) in enumerate(pairwise(pods), 2) if b < a)
    # Ready at once, ten pods are no panic any more: last renewed at tick 41, 82 s, it ends after 142 s.
    assert first_fall == 72
    assert pods[-1] == 2


def test_kpa_goes_down_by_half_at_most():
    pods = kpa_run(40, [0] * 60)
    falls = [(a, b) for a, b in pairwise(pods) if b < a]
    assert falls == [(40, 20), (20, 10), (10, 5), (5, 2), (2, 1)]


def ray_run(first, requests_by_look):
    ray = RayServe("ray-serve", BOUNDS, POINT)
    pods = ray.start(first).replicas
    history = []
    for look, requests in enumerate(requests_by_look, 1):
        pods = ray.decide(seen(10.0 * look, span_s=10.0, ready=pods, in_flight=requests)).replicas
        history.append(pods)
    return history


def test_ray_goes_up_after_thirty_seconds_in_a_row():
    # 20 requests at 2 in each: ten replicas, at the fourth look, 30 s after the first that said so
    assert ray_run(4, [20] * 6) == [4, 4, 4, 10, 10, 10]


def test_ray_starts_over_when_the_direction_breaks():
    # The third look brings the mean of 30 s to 7.3, four replicas; it stays there until the sixth.
    assert ray_run(4, [10, 10, 2, 10, 10, 10, 10, 10, 10]) == [4] * 8 + [5]


def test_ray_goes_down_after_ten_minutes():
    pods = ray_run(10, [8] * 70)
    assert pods[:60] == [10] * 60
    assert pods[60] == 4


def keda_run(first, rates):
    keda = KedaRate("keda-rate", BOUNDS, POINT, target_rps=70.0)
    pods = keda.start(first).replicas
    history = []
    for sync, rate in enumerate(rates, 1):
        pods = keda.decide(seen(15.0 * sync, ready=pods, arrivals_rps=rate)).replicas
        history.append(pods)
    return history


def test_keda_divides_the_minute_s_rate_by_the_target():
    assert keda_run(10, [700] * 8)[-1] == 10
    assert keda_run(10, [700] * 4 + [1400] * 4) == [10, 10, 10, 10, 13, 15, 18, 20]


def test_keda_holds_for_five_minutes_before_it_goes_down():
    pods = keda_run(10, [350] * 30)
    assert pods[19] == 5
    assert pods[18] == 10


@pytest.mark.parametrize(
    ("ratio", "replicas", "ready", "desired"),
    [
        (0.5, 10, 10, 10),  # between the thresholds
        (0.55, 10, 10, 10),
        (1.1, 10, 10, 20),  # 1.1 / 0.55 = 2
        (1.1, 10, 5, 10),  # half of them still start
        (2.0, 3, 3, 11),  # 3 × 3.64, rounded up
        (0.2, 10, 10, 5),
        (0.3, 10, 10, 8),  # 10 × 0.25, rounded down
        (0.0, 10, 10, 0),
    ],
)
def test_latency_ratio_formula(ratio, replicas, ready, desired):
    assert desired_replicas(ratio, replicas, ready) == desired


def test_latency_ratio_caps_before_it_smooths():
    law = LatencyRatio("latency-ratio", BOUNDS, POINT)
    law.start(10)
    calm, wild = (lambda _: 0.024), (lambda _: 100.0)  # 0.48 of the SLO; 2,000 ×
    pods = [
        law.decide(seen(15.0 * sync, latency_quantile_s=wild if sync == 4 else calm)).replicas
        for sync in range(1, 8)
    ]
    # (0.48 + 0.48 + 2) / 3 = 0.99: 10 × 1.79; and from 18 on the 10 ready are counted as such
    assert pods[:3] == [10, 10, 10]
    assert pods[3] == 18
    assert max(pods) == 18


def test_an_hpa_sees_a_busy_gpu_as_a_full_one():
    hpa = Hpa("hpa", BOUNDS, POINT)
    hpa.start(10)
    assert hpa.decide(seen(15.0, busy_fraction=1.0)).replicas == 15


def test_all_hold_without_telemetry():
    for law in laws():
        law.start(7)
        assert law.decide(seen(15.0, data=False)).replicas == 7


def laws():
    return [
        Hpa("hpa", BOUNDS, POINT),
        Kpa("kpa", BOUNDS, POINT),
        KedaRate("keda-rate", BOUNDS, POINT, 70.0),
        RayServe("ray-serve", BOUNDS, POINT),
        LatencyRatio("latency-ratio", BOUNDS, POINT),
    ]


looks = st.lists(
    st.tuples(st.floats(0, 1), st.floats(0, 5000), st.floats(0, 1), st.booleans(), st.integers(0, 60)),
    min_size=1,
    max_size=40,
)


@given(looks, st.integers(1, 50), st.integers(0, 4))
def test_never_outside_min_and_max(history, first, which):
    law = laws()[which]
    assert BOUNDS.min <= law.start(first).replicas <= BOUNDS.max
    for tick, (busy, load, latency_s, data, ready) in enumerate(history, 1):
        look = seen(
            law.period_s * tick,
            span_s=law.period_s,
            ready=ready,
            busy_fraction=busy,
            arrivals_rps=load,
            in_flight=load,
            latency_quantile_s=lambda _, latency_s=latency_s: latency_s,
            data=data,
        )
        assert BOUNDS.min <= law.decide(look).replicas <= BOUNDS.max
