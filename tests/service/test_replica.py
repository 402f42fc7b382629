"""Operating points: followed, or refused with a reason and nothing moved."""

from __future__ import annotations

import math
from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minwatt.v1.fleet_pb2 import OperatingPoint
from service.dispatch import Dispatcher
from service.queue import MOST_PADDED_TOKENS, MOST_TEXTS, BatchLimits
from service.replica import Identity, Replica
from service.service_time import ServiceTimeEstimate

LIMITS = BatchLimits(max_texts=16, max_padded_tokens=2048, max_delay_s=0.005)


def replica() -> Replica:
    dispatcher = Dispatcher(LIMITS, ServiceTimeEstimate(), 0.05)
    return Replica(Identity("one", "m", "1", "int8", "h", 1), dispatcher)


def test_zero_bounds_stay_and_a_zero_delay_is_meant() -> None:
    moved = replica()
    assert moved.operate_at(OperatingPoint(version=3, max_batch_texts=4)) is None
    assert moved.dispatcher.limits == BatchLimits(4, 2048, 0.0)
    assert (moved.dispatcher.slo_s, moved.operating_point_version) == (0.05, 3)


def test_an_older_point_moves_nothing() -> None:
    kept = replica()
    assert kept.operate_at(OperatingPoint(version=7, max_batch_texts=4)) is None
    assert kept.operate_at(OperatingPoint(version=6, max_batch_texts=8)) is not None
    assert (kept.dispatcher.limits.max_texts, kept.operating_point_version) == (4, 7)
    assert kept.operate_at(OperatingPoint(version=7, max_batch_texts=4)) is None, "told again on joining anew"


@pytest.mark.parametrize(
    ("point", "reason"),
    [
        (OperatingPoint(max_delay_seconds=-1), "delay and SLO"),
        (OperatingPoint(max_delay_seconds=math.nan), "delay and SLO"),
        (OperatingPoint(slo_latency_seconds=math.inf), "delay and SLO"),
        (OperatingPoint(variant="fp4"), "variant 'fp4': this replica serves 'int8'"),
        (OperatingPoint(max_batch_texts=2**32 - 1), "allowed: 4096, 1000000"),
        (OperatingPoint(max_batch_tokens=2**32 - 1), "allowed: 4096, 1000000"),
        (OperatingPoint(sm_clock_mhz=2**32 - 1), "clocks of 4294967295 and 0 MHz: allowed: 100000"),
        (OperatingPoint(reflex_sm_clock_mhz=2**32 - 1), "clocks of 0 and 4294967295 MHz"),
    ],
)
def test_nonsense_moves_nothing(point: OperatingPoint, reason: str) -> None:
    kept = replica()
    point.version = 9
    problem = kept.operate_at(point)
    assert problem is not None
    assert problem.startswith("operating point 9: ")
    assert reason in problem
    assert (kept.dispatcher.limits, kept.dispatcher.slo_s, kept.operating_point_version) == (LIMITS, 0.05, 0)


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.floats(), st.floats())
def test_limits_are_always_usable(texts: int, tokens: int, delay_s: float, slo_s: float) -> None:
    moved = replica()
    moved.operate_at(
        OperatingPoint(
            max_batch_texts=texts,
            max_batch_tokens=tokens,
            max_delay_seconds=delay_s,
            slo_latency_seconds=slo_s,
        )
    )
    limits = moved.dispatcher.limits
    assert 0 < limits.max_texts <= MOST_TEXTS, asdict(limits)
    assert 0 < limits.max_padded_tokens <= MOST_PADDED_TOKENS
    assert 0 <= limits.max_delay_s < math.inf
    assert 0 < moved.dispatcher.slo_s < math.inf
