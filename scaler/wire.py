"""Between the protobuf messages of `fleet.proto` and the scaler's own values. Called by every bus."""

from __future__ import annotations

from minwatt.v1 import fleet_pb2
from scaler.operating_point import OperatingPoint
from scaler.report import Metered, ReplicaState, Report, Unmetered

_STATES = {
    fleet_pb2.REPLICA_STATE_STARTING: ReplicaState.STARTING,
    fleet_pb2.REPLICA_STATE_READY: ReplicaState.READY,
    fleet_pb2.REPLICA_STATE_DRAINING: ReplicaState.DRAINING,
}
_MOST = 1e15  # seconds, joules or watts: beyond what any replica has, and sums of it stay finite
_LONGEST_REASON = 300  # characters: it is shown in one line
_MOST_VERSION = 2**63  # the next one is still to fit the message


def report_from_proto(message: fleet_pb2.ReplicaReport, received_s: float) -> Report:
    """Raises ValueError on a report that can't be meant: no id, no state, a time or version out of bounds."""
    if not message.replica_id:
        raise ValueError("replica_id is empty")
    state = _STATES.get(message.state)
    if state is None:
        raise ValueError(f"state = {message.state}: allowed: 1 (STARTING), 2 (READY), 3 (DRAINING)")
    for name in ("busy_seconds_total", "start_up_seconds", "reflex_seconds_total"):
        value = getattr(message, name)
        if not 0 <= value <= _MOST:
            raise ValueError(f"{name} = {value}: allowed: 0 to {_MOST:g} seconds")
    version = message.operating_point_version
    if version > _MOST_VERSION:
        raise ValueError(f"operating_point_version = {version}: allowed: 0 to {_MOST_VERSION}")
    batches = dict(message.batch_sizes_total)
    return Report(
        replica_id=message.replica_id,
        received_s=received_s,
        state=state,
        power=_power(message),
        host=message.host,
        model=message.model,
        model_version=message.model_version,
        variant=message.variant,
        arrivals_total=message.arrivals_total,
        completions_total=message.completions_total,
        refusals_total=dict(message.refusals_total),
        texts_total=message.texts_total,
        tokens_total=message.tokens_total,
        padded_tokens_total=message.padded_tokens_total,
        batches_total=sum(batches.values()),
        batched_texts_total=sum(size * count for size, count in batches.items()),
        busy_s_total=message.busy_seconds_total,
        queue_depth=message.queue_depth,
        in_flight=message.in_flight,
        latency_sketch=message.latency_sketch,
        start_up_s=message.start_up_seconds or None,
        operating_point_version=message.operating_point_version,
        address=message.address,
        pid=message.pid,
        reflex_s_total=message.reflex_seconds_total,
        sm_clock_mhz=message.sm_clock_mhz,
        sm_clock_refused=message.sm_clock_refused[:_LONGEST_REASON],
    )


def _power(message: fleet_pb2.ReplicaReport) -> Metered | Unmetered:
    if not message.HasField("power"):
        return Unmetered("the report has no power")
    power = message.power
    if power.source in ("", "unknown"):
        return Unmetered(power.unknown_reason or "unknown")
    return Metered(
        source=power.source,
        device=power.device or f"replica:{message.replica_id}",
        joules_total=_measured(power.joules_total) if power.HasField("joules_total") else None,
        watts=_measured(power.watts) if power.HasField("watts") else None,
    )


def _measured(value: float) -> float | None:
    return value if 0 <= value <= _MOST else None


def point_to_proto(point: OperatingPoint) -> fleet_pb2.OperatingPoint:
    return fleet_pb2.OperatingPoint(
        version=point.version,
        max_batch_texts=point.max_batch_texts,
        max_batch_tokens=point.max_batch_tokens,
        max_delay_seconds=point.max_delay_s,
        variant=point.variant,
        slo_latency_seconds=point.slo_latency_s,
        sm_clock_mhz=point.sm_clock_mhz,
        reflex_sm_clock_mhz=point.reflex_sm_clock_mhz,
        shed_low_priority=point.shed_low_priority,
    )
