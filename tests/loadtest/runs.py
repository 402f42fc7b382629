"""Outcomes and runs as the tests of the report need them."""

from __future__ import annotations

from hypothesis import strategies as st

from loadtest.fleet_log import FleetLog
from loadtest.outcomes import Outcome, Result
from loadtest.runs import RunData, RunRecord

START_S = 1_700_000_000.0  # unix time of every run's zero

seconds = st.floats(0, 100, allow_nan=False).map(lambda value: round(value, 6))
optional_seconds = st.none() | seconds


@st.composite
def outcomes(draw: st.DrawFn) -> Outcome:
    planned_s, lag_s, latency_s = draw(seconds), draw(seconds), draw(seconds)
    result = draw(st.sampled_from(Result))
    return Outcome(
        planned_s=planned_s,
        sent_s=round(planned_s + lag_s, 6),
        latency_s=round(lag_s + latency_s, 6),
        task=draw(st.sampled_from(["classify", "extract"])),
        texts=draw(st.integers(1, 5)),
        result=result,
        status="OK" if result is Result.COMPLETED else "UNAVAILABLE",
        detail=draw(st.text(st.characters(exclude_categories=["C"]), max_size=20)),
        server_queue_s=draw(optional_seconds),
        server_compute_s=draw(optional_seconds),
        batch_size=draw(st.none() | st.integers(1, 64)),
        tokens=draw(st.none() | st.integers(1, 512)),
        energy_j=draw(optional_seconds),
        energy_source=draw(st.sampled_from(["", "modelled"])),
    )


outcome_lists = st.lists(outcomes(), max_size=40).map(
    lambda found: sorted(found, key=lambda outcome: outcome.planned_s)
)


def completed(planned_s: float, latency_s: float, energy_j: float | None = 0.5) -> Outcome:
    return Outcome(
        planned_s,
        planned_s,
        latency_s,
        "classify",
        1,
        Result.COMPLETED,
        "OK",
        energy_j=energy_j,
        energy_source="rapl",
    )


def run(
    found: list[Outcome],
    *,
    slo_s: float | None = 0.05,
    duration_s: float = 10.0,
    fleet: FleetLog | None = None,
) -> RunData:
    record = RunRecord(
        name="minwatt",
        target="127.0.0.1:8500",
        started_unix_s=START_S,
        duration_s=duration_s,
        planned=len(found),
        slo_s=slo_s,
        deadline_s=1.0,
        connections=1,
        load={"generate": "poisson"},
    )
    return RunData(record, found, fleet)
