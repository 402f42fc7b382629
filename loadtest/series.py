"""A run over time: the curves that the report's plots show.

Pure. Requests are counted in the bucket they were planned for, so that offered load and goodput of the
same requests stand above one another. Missing is NaN and leaves a hole in a curve. Called by `summary`,
read by `document`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loadtest.fleet_log import DecisionRow, FleetLog, FleetRow, Floats, UnknownJoules, joules_over_time
from loadtest.outcomes import Result
from loadtest.runs import RunData, RunRecord

_MOST_BUCKETS = 240
_ENERGY_WINDOW_S = 5.0  # a meter's windows are seconds long: joules a request is a mean over this much


@dataclass(frozen=True, slots=True)
class Marker:
    """A decision that changed something."""

    t_s: float
    text: str


@dataclass(frozen=True, slots=True)
class Series:
    """Curves over the seconds of a run. [buckets] on `t_s`, the buckets' starts; [rows] on `fleet_t_s`."""

    bucket_s: float
    t_s: Floats
    offered_rps: Floats
    goodput_rps: Floats
    p50_ms: Floats
    p99_ms: Floats
    batch_texts: Floats  # mean over replies of the batch each rode in
    joules_per_request: Floats
    fleet_t_s: Floats  # empty without a fleet log
    replicas_ready: Floats
    watts: Floats
    markers: tuple[Marker, ...]


def series(run: RunData) -> Series:
    """All curves of a run."""
    record, outcomes = run.record, run.outcomes
    span_s = max([record.span_s, *(outcome.planned_s for outcome in outcomes[-1:])], default=0.0)
    bucket_s = float(max(1, math.ceil(span_s / _MOST_BUCKETS)))
    buckets = max(1, math.ceil(span_s / bucket_s))
    place = np.array([min(buckets - 1, int(outcome.planned_s / bucket_s)) for outcome in outcomes], dtype=int)
    done = np.array([outcome.result is Result.COMPLETED for outcome in outcomes], dtype=bool)
    latency_ms = np.array([1e3 * outcome.latency_s for outcome in outcomes])
    good = done & (latency_ms <= 1e3 * (math.inf if record.slo_s is None else record.slo_s))
    groups = [latency_ms[done & (place == bucket)] for bucket in range(buckets)]
    # The last bucket may be cut short by the end of the run.
    widths_s = np.minimum(bucket_s, np.maximum(1e-9, span_s - np.arange(buckets) * bucket_s))
    log = run.fleet.between(record.started_unix_s, record.started_unix_s + span_s) if run.fleet else None
    rows: Sequence[FleetRow] = log.fleet if log else ()
    return Series(
        bucket_s=bucket_s,
        t_s=np.arange(buckets, dtype=np.float64) * bucket_s,
        offered_rps=np.bincount(place, minlength=buckets) / widths_s,
        goodput_rps=np.bincount(place[good], minlength=buckets) / widths_s,
        p50_ms=np.array([np.percentile(group, 50) if len(group) else np.nan for group in groups]),
        p99_ms=np.array([np.percentile(group, 99) if len(group) else np.nan for group in groups]),
        batch_texts=_bucket_means([outcome.batch_size for outcome in outcomes], place, buckets),
        joules_per_request=_joules_per_request(run, place, done, buckets, bucket_s),
        fleet_t_s=np.array([row.at_s - record.started_unix_s for row in rows]),
        replicas_ready=_column([row.replicas_ready for row in rows]),
        watts=_column([row.watts for row in rows]),
        markers=_markers(run.fleet, record),
    )


def _bucket_means(values: Sequence[float | None], place: NDArray[np.int_], buckets: int) -> Floats:
    numbers = _column(values)
    known = ~np.isnan(numbers)
    counts = np.bincount(place[known], minlength=buckets)
    sums = np.bincount(place[known], weights=numbers[known], minlength=buckets).astype(np.float64)
    return _ratio(sums, counts)


def _joules_per_request(
    run: RunData, place: NDArray[np.int_], done: NDArray[np.bool_], buckets: int, bucket_s: float
) -> Floats:
    """From the fleet's joules around each bucket, or from the replies' shares."""
    if run.fleet is None:
        return _bucket_means([outcome.energy_j for outcome in run.outcomes], place, buckets)
    read = joules_over_time(run.fleet.fleet)
    if isinstance(read, UnknownJoules):
        return np.full(buckets, np.nan)
    at_s, joules = read
    half_s = max(_ENERGY_WINDOW_S, bucket_s) / 2
    middle_s = (np.arange(buckets) + 0.5) * bucket_s
    first_s, last_s = middle_s - half_s, middle_s + half_s
    start_s = run.record.started_unix_s
    used_j = np.interp(last_s + start_s, at_s, joules) - np.interp(first_s + start_s, at_s, joules)
    planned_s = np.array([outcome.planned_s for outcome in run.outcomes])[done]
    counts = np.searchsorted(planned_s, last_s) - np.searchsorted(planned_s, first_s)
    inside = (first_s + start_s >= at_s[0]) & (last_s + start_s <= at_s[-1])
    return np.where(inside, _ratio(used_j, counts), np.nan)


def _markers(log: FleetLog | None, record: RunRecord) -> tuple[Marker, ...]:
    rows = log.moves() if log else ()
    placed = [(row.at_s - record.started_unix_s, row) for row in rows]
    return tuple(Marker(t_s, _describe(row)) for t_s, row in placed if 0 <= t_s <= record.span_s)


def _describe(row: DecisionRow) -> str:
    change = f"{row.action}: {row.current_replicas} → {row.desired_replicas} replicas"
    return "; ".join([change, *(reason.message for reason in row.reasons[:1])])


def _ratio(sums: Floats, counts: NDArray[np.int_]) -> Floats:
    means = np.full(len(sums), np.nan)
    np.divide(sums, counts, out=means, where=counts > 0)
    return means


def _column(values: Sequence[float | None]) -> Floats:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)
