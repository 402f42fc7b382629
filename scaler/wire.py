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
_LONGEST_START_S = 86_400.0  # the fleet's forecasts look ahead by it
_LONGEST_REASON = 300  # characters: it is shown in one line
_NO_POWER = Unmetered("the report has no power")
_MOST_VERSION = 2**63  # the next one is still to fit the message


def report_from_proto(message: fleet_pb2.ReplicaReport, received_s: float) -> Report:
    """Raises ValueError on a report that can't be meant: no id, no state, a time or version out of bounds.

    Written for 10,000 a second: each field is read once, as each reading of one costs.
    """
    replica_id, version = message.replica_id, message.operating_point_version
    busy_s, start_up_s = message.busy_seconds_total, message.start_up_seconds
    reflex_s = message.reflex_seconds_total
    if not replica_id:
        raise ValueError("replica_id is empty")
    state = _STATES.get(message.state)
    if state is None:
        raise ValueError(f"state = {message.state}: allowed: 1 (STARTING), 2 (READY), 3 (DRAINING)")
    if not (0 <= busy_s <= _MOST and 0 <= start_up_s <= _LONGEST_START_S and 0 <= reflex_s <= _MOST):
        raise ValueError(_out_of_bounds(message))
    if version > _MOST_VERSION:
        raise ValueError(f"operating_point_version = {version}: allowed: 0 to {_MOST_VERSION}")
    batches = batched_texts = 0
    sizes, refusals = message.batch_sizes_total, message.refusals_total
    for size in sizes:  # `items` is written in Python
        count = sizes[size]
        batches += count
        batched_texts += size * count
    return Report(
        replica_id=replica_id,
        received_s=received_s,
        state=state,
        power=_power(message.power, replica_id) if message.HasField("power") else _NO_POWER,
        host=message.host,
        model=message.model,
        model_version=message.model_version,
        variant=message.variant,
        arrivals_total=message.arrivals_total,
        completions_total=message.completions_total,
        refusals_total={reason: refusals[reason] for reason in refusals} if refusals else {},
        texts_total=message.texts_total,
        tokens_total=message.tokens_total,
        padded_tokens_total=message.padded_tokens_total,
        batches_total=batches,
        batched_texts_total=batched_texts,
        busy_s_total=busy_s,
        queue_depth=message.queue_depth,
        in_flight=message.in_flight,
        latency_sketch=message.latency_sketch,
        start_up_s=start_up_s or None,
        operating_point_version=version,
        address=message.address,
        pid=message.pid,
        reflex_s_total=reflex_s,
        sm_clock_mhz=message.sm_clock_mhz,
        sm_clock_refused=message.sm_clock_refused[:_LONGEST_REASON],
    )


def _out_of_bounds(message: fleet_pb2.ReplicaReport) -> str:
    for name, most_s in (
        ("busy_seconds_total", _MOST),
        ("start_up_seconds", _LONGEST_START_S),
        ("reflex_seconds_total", _MOST),
    ):
        value = getattr(message, name)
        if not 0 <= value <= most_s:
            return f"{name} = {value}: allowed: 0 to {most_s:g} seconds"
    raise AssertionError("called for what is within bounds")


def _power(power: fleet_pb2.Power, replica_id: str) -> Metered | Unmetered:
    source = power.source
    if source in ("", "unknown"):
        return Unmetered(power.unknown_reason or "unknown")
    return Metered(
        source,
        power.device or f"replica:{replica_id}",
        _measured(power.joules_total) if power.HasField("joules_total") else None,
        _measured(power.watts) if power.HasField("watts") else None,
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
        reflex_backlog_seconds=point.reflex_backlog_s,
        shed_low_priority=point.shed_low_priority,
    )
