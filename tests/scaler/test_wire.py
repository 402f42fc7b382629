"""Every field of a point reaches the replica, and every field of a report the scaler."""

from __future__ import annotations

from dataclasses import fields

from hypothesis import given
from hypothesis import strategies as st

from minwatt.v1 import fleet_pb2
from scaler.operating_point import OperatingPoint
from scaler.report import Report
from scaler.wire import point_to_proto, report_from_proto

_SECONDS = {
    "max_delay_s": "max_delay_seconds",
    "slo_latency_s": "slo_latency_seconds",
    "reflex_backlog_s": "reflex_backlog_seconds",
}

points = st.builds(
    OperatingPoint,
    version=st.integers(0, 2**63),
    max_batch_texts=st.integers(1, 4096),
    max_batch_tokens=st.integers(1, 1_000_000),
    max_delay_s=st.floats(0.0, 1.0),
    slo_latency_s=st.floats(0.001, 10.0),
    variant=st.sampled_from(["", "int8"]),
    sm_clock_mhz=st.integers(0, 3000),
    reflex_sm_clock_mhz=st.integers(0, 3000),
    reflex_backlog_s=st.floats(0.0, 1.0),
    shed_low_priority=st.booleans(),
)


@given(points)
def test_a_point_travels_whole(point: OperatingPoint) -> None:
    message = fleet_pb2.OperatingPoint.FromString(point_to_proto(point).SerializeToString())
    for field in fields(point):
        assert getattr(message, _SECONDS.get(field.name, field.name)) == getattr(point, field.name)


def heard(**more: object) -> Report:
    message = fleet_pb2.ReplicaReport(replica_id="a", state=fleet_pb2.REPLICA_STATE_READY, **more)  # type: ignore[arg-type]
    return report_from_proto(message, 5.0)


def test_the_reflex_and_the_clock_are_heard() -> None:
    one = heard(reflex_seconds_total=1.5, sm_clock_mhz=900, sm_clock_refused="x" * 10_000)
    assert (one.reflex_s_total, one.sm_clock_mhz, one.sm_clock_refused) == (1.5, 900, "x" * 300)
    assert (heard().reflex_s_total, heard().sm_clock_mhz, heard().sm_clock_refused) == (0.0, 0, "")


def test_what_was_shed_is_refused_and_no_overload() -> None:
    one = heard(refusals_total={"shed": 5, "queue_full": 2, "invalid": 1, "draining": 3})
    assert (one.refused_total, one.overload_refusals_total, one.turned_away_total) == (8, 2, 3)
