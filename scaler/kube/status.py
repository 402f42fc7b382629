"""A policy's `status`: why the fleet has the size it has, as `kubectl describe` shows it.

Pure: the time is in the moment. Owns what is told, and how it is rounded; what it is made of is
`status_moment`, when it is worth a write `status_changes`, the conditions are `conditions`, the schema
`status_fields`. Called by the controller of each policy it leads.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from minwatt.v1.quantities import format_duration, format_power
from scaler.decision import Decision, Reason
from scaler.kube import spelling
from scaler.kube import status_fields as fields
from scaler.kube.conditions import Circumstances, conditions_of
from scaler.kube.spelling import rfc3339, shortened
from scaler.kube.status_moment import Fence, ReplicaCounts, StatusMoment
from scaler.operating_point import OperatingPoint
from scaler.record import FleetRow


def status_of(before: Mapping[str, Any] | None, moment: StatusMoment) -> dict[str, Any]:
    """The whole status. `before` is what the object carries: what has not changed keeps its times."""
    known = _known(before)
    now = Circumstances(
        at_s=moment.at_s,
        generation=moment.generation,
        in_force=moment.in_force,
        problem=moment.problem,
        obstacle=moment.obstacle,
        decision=moment.decision,
        row=moment.row,
        coming=_coming(moment.replicas),
    )
    replicas = _replicas(moment)
    latency, power, point = _latency(moment.row), _power(moment), _point(moment.decision)
    status = fields.Status(
        observed_generation=moment.generation,
        generation_in_force=None if moment.in_force is None else moment.in_force.generation,
        last_good=_last_good(known, moment),
        updated=rfc3339(moment.at_s),
        replicas=replicas,
        latency=latency,
        power=power,
        traffic=_traffic(moment),
        operating_point=point,
        decision=_decision(known, moment),
        last_scaling=_last_scaling(known, moment),
        fence=None if moment.fence is None else _fence(moment.fence),
        columns=_columns(replicas, latency, power, point),
        conditions=conditions_of(() if known is None else known.conditions, now),
    )
    return status.model_dump(mode="json", by_alias=True, exclude_none=True)


def _known(before: Mapping[str, Any] | None) -> fields.Status | None:
    """None too where another version, or a hand, left what can't be read."""
    try:
        return fields.Status.model_validate(before) if before else None
    except ValidationError:
        return None


def _last_good(known: fields.Status | None, moment: StatusMoment) -> fields.LastGood | None:
    """Kept even where this controller can't use it: the next one may have a profile for it."""
    good = moment.in_force
    if good is None or not good.written:
        return None if known is None else known.last_good
    return fields.LastGood(
        generation=good.generation,
        replicas="external" if good.external else None,
        profile=None if good.profile is None else good.profile[:253],
        spec=dict(good.written),
    )


def _replicas(moment: StatusMoment) -> fields.ReplicaStatus:
    counts, row, decision = moment.replicas, moment.row, moment.decision
    desired = None if decision is None else decision.desired_replicas
    if counts is None:
        if row is None:
            return fields.ReplicaStatus(desired=desired)
        return fields.ReplicaStatus(
            desired=desired,
            ready=row.replicas_ready,
            starting=row.replicas_starting,
            terminating=row.replicas_draining,
        )
    return fields.ReplicaStatus(
        desired=desired,
        current=counts.current,
        ready=counts.ready,
        starting=counts.starting,
        pending=counts.pending,
        unschedulable=counts.unschedulable,
        terminating=counts.terminating,
    )


def _coming(counts: ReplicaCounts | None) -> str:
    if counts is None:
        return ""
    parts = [f"{counts.starting} starting"] if counts.starting else []
    if counts.pending:
        no_room = f" ({counts.unschedulable} unschedulable)" if counts.unschedulable else ""
        parts.append(f"{counts.pending} pending{no_room}")
    return f"pods: {', '.join(parts)}" if parts else ""


def _latency(row: FleetRow | None) -> fields.LatencyStatus | None:
    if row is None or row.p99_s is None:
        return None
    return fields.LatencyStatus(
        p50=None if row.p50_s is None else spelling.duration(row.p50_s), p99=spelling.duration(row.p99_s)
    )


def _power(moment: StatusMoment) -> fields.PowerStatus | None:
    row = moment.row
    budget_w = None if moment.in_force is None else moment.in_force.policy.spec.power.budget_w
    budget = None if budget_w is None else format_power(budget_w)
    if row is None:
        return None if budget is None else fields.PowerStatus(budget=budget)
    joules = None if row.joules_total is None else round(row.joules_total)
    return fields.PowerStatus(
        drawn=None if row.watts is None else spelling.watts(row.watts),
        source=row.watts_source[:64],
        budget=budget,
        joules=joules,
    )


def _traffic(moment: StatusMoment) -> fields.TrafficStatus | None:
    row, decision = moment.row, moment.decision
    arrivals_rps = None if row is None else row.arrivals_rps
    forecast_rps = None if decision is None else decision.forecast_rps
    if arrivals_rps is None and forecast_rps is None:
        return None
    return fields.TrafficStatus(
        arrivals=None if arrivals_rps is None else spelling.rate(arrivals_rps),
        forecast=None if forecast_rps is None else spelling.rate(forecast_rps),
    )


def _point(decision: Decision | None) -> fields.PointStatus | None:
    point = None if decision is None else decision.operating_point
    if point is None:
        return None
    return fields.PointStatus(
        version=point.version,
        max_size=point.max_batch_texts,
        max_tokens=point.max_batch_tokens,
        max_delay=format_duration(point.max_delay_s),
        variant=point.variant[:63] or None,
        sm_clock=_clock(point),
        sheds_low_priority=point.shed_low_priority,
    )


def _decision(known: fields.Status | None, moment: StatusMoment) -> fields.DecisionStatus | None:
    decision = moment.decision
    if decision is None:
        return None
    at = rfc3339(moment.at_s if moment.decided_at_s is None else moment.decided_at_s)
    told = fields.DecisionStatus(
        since=at,
        action=decision.action,
        current=decision.current_replicas,
        desired=decision.desired_replicas,
        message=shortened(decision.line()),
        predicted=_predicted(decision),
        reasons=tuple(_reason(one) for one in decision.reasons[: fields.REASONS]),
    )
    earlier = None if known is None else known.decision
    if earlier is None or known is None or not _same(earlier, told, known, decision):
        return told
    return told.model_copy(update={"since": earlier.since})


def _same(
    earlier: fields.DecisionStatus, told: fields.DecisionStatus, known: fields.Status, decision: Decision
) -> bool:
    """Whether it was decided so before, whatever its numbers were."""
    point, before = decision.operating_point, known.operating_point
    versions = (point.version if point else None, before.version if before else None)
    return versions[0] == versions[1] and (
        (earlier.action, earlier.current, earlier.desired) == (told.action, told.current, told.desired)
    )


def _last_scaling(known: fields.Status | None, moment: StatusMoment) -> fields.ScalingStatus | None:
    """What the target's scale tells, whoever wrote it: a decision may be held back, or a hand be quicker."""
    earlier = None if known is None else known.last_scaling
    was = None if known is None else known.replicas.current
    if moment.replicas is None or was is None or moment.replicas.current == was:
        return earlier
    now = moment.replicas.current
    return fields.ScalingStatus(
        at=rfc3339(moment.at_s), current=was, desired=now, message=_why_scaled(was, now, moment.decision)
    )


def _why_scaled(was: int, now: int, decision: Decision | None) -> str:
    if decision is None:
        return f"{was} → {now} replicas, before minwatt decided anything"
    if decision.desired_replicas == now:
        return shortened(decision.line())
    return shortened(f"{was} → {now} replicas; {decision.desired_replicas} are wanted: {decision.line()}")


def _predicted(decision: Decision) -> fields.PredictionStatus | None:
    p99_s, power_w = decision.predicted_p99_s, decision.predicted_watts
    if p99_s is None and power_w is None:
        return None
    return fields.PredictionStatus(
        p99=None if p99_s is None else spelling.duration(p99_s),
        watts=None if power_w is None else spelling.watts(power_w),
        basis=decision.watts_basis,
    )


def _reason(reason: Reason) -> fields.ReasonStatus:
    values = [(name, value) for name, value in reason.values.items() if value is not None]
    return fields.ReasonStatus(
        code=reason.code.value,
        message=shortened(reason.message),
        values={name: shortened(spelling.plain(value), 128) for name, value in values[: fields.VALUES]},
    )


def _fence(fence: Fence) -> fields.FenceStatus:
    return fields.FenceStatus(holder=fence.holder[:253], transitions=fence.transitions)


def _columns(
    replicas: fields.ReplicaStatus,
    latency: fields.LatencyStatus | None,
    power: fields.PowerStatus | None,
    point: fields.PointStatus | None,
) -> fields.ColumnsStatus:
    return fields.ColumnsStatus(
        p99=None if latency is None else latency.p99,
        watts=None if power is None else _watts_column(power),
        replicas=f"{'?' if replicas.ready is None else replicas.ready}"
        f"/{'?' if replicas.desired is None else replicas.desired}",
        point=None if point is None else _point_column(point),
    )


def _watts_column(power: fields.PowerStatus) -> str:
    drawn = "?" if power.drawn is None else f"{power.drawn} {power.source}"
    return f"{drawn} / {power.budget or 'no budget'}"


def _point_column(point: fields.PointStatus) -> str:
    parts = (
        f"{point.max_size} texts",
        point.max_delay,
        point.variant,
        point.sm_clock,
        "sheds" if point.sheds_low_priority else None,
    )
    return " ".join(part for part in parts if part)


def _clock(point: OperatingPoint) -> str | None:
    return f"{point.sm_clock_mhz}MHz" if point.sm_clock_mhz else None
