"""The figures of a run, computed from its raw results.

Pure. Latency counts from the planned send time; a request that was refused or failed counts as slower
than any SLO. Joules come from the fleet's log where there is one (idle included), else from the replies'
own shares, and say which. Leaves the curves over time to `series`, files to `runs`. Called by `report`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from loadtest.fleet_log import FleetLog, UnknownJoules, joules_between
from loadtest.outcomes import Outcome, Result
from loadtest.runs import RunData, RunRecord
from loadtest.series import Series, series

UNKNOWN_SOURCE = "unknown"
PERCENTILE = 99.0  # of requests that the SLO asks of a run
# A 99th percentile of lag above this is a sender too weak for the rate: it shows in the latencies.
LAG_TOLERANCE_MS = 20.0


class Sender(BaseModel):
    """Whether the sender kept to the plan; lag is how much later than planned a request was sent."""

    model_config = ConfigDict(frozen=True)

    lag_p99_ms: float
    lag_max_ms: float
    rate_fraction: float  # of the plan's mean rate, that was sent
    fell_behind: bool


class RunReport(BaseModel):
    """One run of `report.json`. None is unknown or does not apply."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    name: str
    started_at: datetime
    duration_s: float
    load: dict[str, str]
    requests: int
    completed: int
    refused: int
    failed: int
    statuses: dict[str, int]  # requests by gRPC status code
    offered_rps: float
    goodput_rps: float  # completed within the SLO, or completed where there is none
    p50_ms: float | None  # of completed requests, from the planned time
    p99_ms: float | None
    server_p50_ms: float | None  # of completed requests, at the server: queue + compute
    server_p99_ms: float | None
    slo_ms: float | None
    over_slo_fraction: float | None  # of all requests: slower than the SLO, refused or failed
    slo_met: bool | None  # at most 1% were over
    energy_j: float | None
    energy_source: str  # nvml, nvml-estimate, rapl, modelled, replayed (several joined by +), or unknown
    energy_basis: str  # what the joules count, or why they are unknown
    joules_per_request: float | None  # over completed requests
    replicas_mean: float | None
    replicas_max: int | None
    decisions: int | None  # of the scaler that changed something
    sender: Sender
    gap_s: float  # of the trace without data
    aborted: str  # why the run was given up; else nothing
    stopped_at_s: float | None
    series: Series = Field(exclude=True, repr=False)


def summarise(run: RunData) -> RunReport:
    """The report of one run."""
    record, outcomes = run.record, run.outcomes
    counts = Counter(outcome.result for outcome in outcomes)
    completed = [outcome for outcome in outcomes if outcome.result is Result.COMPLETED]
    server_s = [seconds for outcome in completed if (seconds := outcome.server_s) is not None]
    latencies_s = [outcome.latency_s for outcome in completed]
    good = sum(is_good(outcome, record.slo_s) for outcome in outcomes)
    over = _fraction(len(outcomes) - good, len(outcomes)) if record.slo_s is not None else None
    energy_j, source, basis = energy(run)
    log = None if run.fleet is None else _within(run.fleet, record)
    ready = [row.replicas_ready for row in log.fleet if row.replicas_ready is not None] if log else []
    curves = series(run)
    return RunReport(
        name=record.name,
        started_at=datetime.fromtimestamp(record.started_unix_s, UTC),
        duration_s=record.span_s,
        load=record.load,
        requests=len(outcomes),
        completed=len(completed),
        refused=counts[Result.REFUSED],
        failed=counts[Result.FAILED],
        statuses=dict(sorted(Counter(outcome.status for outcome in outcomes).items())),
        offered_rps=_rate(len(outcomes), record.span_s),
        goodput_rps=_rate(good, record.span_s),
        p50_ms=percentile_ms(latencies_s, 50.0),
        p99_ms=percentile_ms(latencies_s, 99.0),
        server_p50_ms=percentile_ms(server_s, 50.0),
        server_p99_ms=percentile_ms(server_s, 99.0),
        slo_ms=None if record.slo_s is None else 1e3 * record.slo_s,
        over_slo_fraction=over,
        slo_met=None if over is None else over <= 1 - PERCENTILE / 100 + 1e-12,
        energy_j=energy_j,
        energy_source=source,
        energy_basis=basis,
        joules_per_request=energy_j / len(completed) if energy_j is not None and completed else None,
        replicas_mean=float(np.mean(ready)) if ready else None,
        replicas_max=max(ready, default=None),
        decisions=None if run.fleet is None else len(curves.markers),
        sender=sender_lag(outcomes),
        gap_s=record.gap_s,
        aborted=record.aborted,
        stopped_at_s=record.stopped_at_s,
        series=curves,
    )


def is_good(outcome: Outcome, slo_s: float | None) -> bool:
    """Completed, and within the SLO if there is one."""
    return outcome.result is Result.COMPLETED and (slo_s is None or outcome.latency_s <= slo_s)


def percentile_ms(seconds: Sequence[float], percent: float) -> float | None:
    """In milliseconds; linear between the two nearest values. None of no values."""
    return 1e3 * float(np.percentile(seconds, percent)) if len(seconds) else None


def sender_lag(outcomes: Sequence[Outcome]) -> Sender:
    """Lag over all requests sent."""
    lags_s = [outcome.lag_s for outcome in outcomes]
    p99_ms = percentile_ms(lags_s, 99.0) or 0.0
    lag_max_ms = 1e3 * max(lags_s, default=0.0)
    return Sender(
        lag_p99_ms=p99_ms,
        lag_max_ms=lag_max_ms,
        rate_fraction=rate_fraction(outcomes),
        fell_behind=p99_ms > LAG_TOLERANCE_MS,
    )


def rate_fraction(outcomes: Sequence[Outcome]) -> float:
    """The time that sending was planned to take over what it took; at most 1."""
    if not outcomes:
        return 1.0
    zero_s = min(outcome.planned_s for outcome in outcomes)
    planned_s = max(outcome.planned_s for outcome in outcomes) - zero_s
    sent_s = max(outcome.sent_s for outcome in outcomes) - zero_s
    return min(1.0, planned_s / sent_s) if sent_s > 0 else 1.0


def energy(run: RunData) -> tuple[float | None, str, str]:
    """Joules of the run's span, their source, and what they count."""
    if run.fleet is None:
        return _replies_energy(run.outcomes)
    start_s = run.record.started_unix_s
    joules = joules_between(run.fleet.fleet, start_s, start_s + run.record.span_s)
    if isinstance(joules, UnknownJoules):
        return None, UNKNOWN_SOURCE, joules.reason
    rows = _within(run.fleet, run.record).fleet
    sources = {row.watts_source for row in rows if row.watts_source and row.watts_source != UNKNOWN_SOURCE}
    return joules, _joined(sources), "whole fleet, idle included"


def _replies_energy(outcomes: Sequence[Outcome]) -> tuple[float | None, str, str]:
    completed = sum(outcome.result is Result.COMPLETED for outcome in outcomes)
    metered = [outcome for outcome in outcomes if outcome.energy_j is not None]
    if not metered:
        return None, UNKNOWN_SOURCE, "no reply carried joules"
    partly = "" if len(metered) == completed else f" of {len(metered)} of {completed} replies"
    sources = {outcome.energy_source for outcome in metered if outcome.energy_source}
    joules = sum(outcome.energy_j for outcome in metered if outcome.energy_j is not None)
    return joules, _joined(sources), f"the requests' shares{partly}, idle not included"


def _within(log: FleetLog, record: RunRecord) -> FleetLog:
    return log.between(record.started_unix_s, record.started_unix_s + record.span_s)


def _joined(sources: set[str]) -> str:
    return "+".join(sorted(sources)) or UNKNOWN_SOURCE


def _fraction(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _rate(count: int, span_s: float) -> float:
    return count / span_s if span_s > 0 else 0.0
