"""Report arithmetic: counts add up, fractions and percentiles are right, joules say what they count."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loadtest.fleet_log import (
    DecisionRow,
    FleetLog,
    FleetRow,
    OperatingPoint,
    UnknownJoules,
    joules_between,
)
from loadtest.outcomes import Outcome, Result
from loadtest.runs import read_run, write_run
from loadtest.summary import summarise
from minwatt.v1.errors import UsageError
from tests.loadtest.runs import START_S, completed, outcome_lists, run

FAILED = Outcome(0.0, 0.0, 1.0, "classify", 1, Result.FAILED, "UNAVAILABLE")
REFUSED = Outcome(0.0, 0.0, 0.001, "classify", 1, Result.REFUSED, "RESOURCE_EXHAUSTED")


def fleet(
    joules: list[float | None], replicas: list[int | None] | None = None, first_s: float = 0.0
) -> FleetLog:
    ready = replicas or [1] * len(joules)
    rows = [
        FleetRow(
            at_s=START_S + first_s + index, replicas_ready=count, joules_total=value, watts_source="modelled"
        )
        for index, (value, count) in enumerate(zip(joules, ready, strict=True))
    ]
    return FleetLog(tuple(rows), ())


@given(outcome_lists, st.none() | st.floats(0.001, 10))
def test_counts_add_up_and_fractions_and_percentiles_are_numpys(
    found: list[Outcome], slo_s: float | None
) -> None:
    report = summarise(run(found, slo_s=slo_s))
    assert report.completed + report.refused + report.failed == report.requests == len(found)
    assert sum(report.statuses.values()) == len(found)
    latencies_s = [outcome.latency_s for outcome in found if outcome.result is Result.COMPLETED]
    if latencies_s:
        assert report.p50_ms == pytest.approx(1e3 * np.percentile(latencies_s, 50))
        assert report.p99_ms == pytest.approx(1e3 * np.percentile(latencies_s, 99))
    else:
        assert report.p50_ms is report.p99_ms is report.joules_per_request is None
    if slo_s is None or not found:
        assert report.over_slo_fraction is report.slo_met is None
    else:
        within = sum(latency_s <= slo_s for latency_s in latencies_s)
        assert report.over_slo_fraction == pytest.approx(1 - within / len(found))
        assert report.goodput_rps == pytest.approx(within / 10.0)


@given(outcome_lists, st.none() | st.floats(0.001, 10))
def test_curves_hold_every_request_once(found: list[Outcome], slo_s: float | None) -> None:
    data = run(found, slo_s=slo_s, duration_s=101.0)
    report = summarise(data)
    series = report.series
    widths_s = np.minimum(series.bucket_s, 101.0 - series.t_s)
    assert np.sum(series.offered_rps * widths_s) == pytest.approx(len(found))
    assert np.sum(series.goodput_rps * widths_s) == pytest.approx(report.goodput_rps * 101.0)


def test_refused_and_failed_requests_are_over_the_slo() -> None:
    good = [completed(0.1, 0.01) for _ in range(98)]
    assert summarise(run([*good, FAILED, REFUSED])).over_slo_fraction == pytest.approx(0.02)
    assert summarise(run([*good, FAILED, REFUSED])).slo_met is False
    assert summarise(run([*good, completed(0.1, 0.01), REFUSED])).slo_met is True


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(outcome_lists)
def test_a_recorded_run_gives_the_same_report_again(tmp_path: Path, found: list[Outcome]) -> None:
    decisions = (DecisionRow(at_s=START_S + 2, action="up", current_replicas=1, desired_replicas=2),)
    data = run(found, fleet=FleetLog(fleet([float(value) for value in range(12)]).fleet, decisions))
    write_run(tmp_path / "run", data)
    again = read_run(tmp_path / "run")
    assert again == data
    assert summarise(again).model_dump() == summarise(data).model_dump()


def test_a_run_without_a_fleet_log_forgets_the_log_of_the_run_before_it(tmp_path: Path) -> None:
    write_run(tmp_path, run([], fleet=fleet([1.0, 2.0])))
    write_run(tmp_path, run([]))
    assert read_run(tmp_path).fleet is None


@pytest.mark.parametrize("cut", ["run.json", "results.csv.gz"])
def test_a_damaged_run_is_one_line(tmp_path: Path, cut: str) -> None:
    write_run(tmp_path, run([completed(0.1, 0.01)]))
    (tmp_path / cut).write_bytes((tmp_path / cut).read_bytes()[:20])
    with pytest.raises(UsageError, match=cut) as caught:
        read_run(tmp_path)
    assert "\n" not in str(caught.value)


@given(
    st.lists(st.floats(0, 50), min_size=12, max_size=12),
    st.floats(0, 10),
    st.floats(0, 10),
    st.floats(0, 10),
)
def test_joules_of_parts_add_up_to_the_whole(steps: list[float], a: float, b: float, c: float) -> None:
    rows = fleet(list(np.cumsum(steps))).fleet
    first_s, middle_s, last_s = (START_S + offset for offset in sorted((a, b, c)))
    parts = [joules_between(rows, first_s, middle_s), joules_between(rows, middle_s, last_s)]
    whole = joules_between(rows, first_s, last_s)
    known = [part for part in parts if not isinstance(part, UnknownJoules)]  # an empty span has none
    if not isinstance(whole, UnknownJoules) and len(known) == 2:
        assert whole >= 0
        assert sum(known) == pytest.approx(whole, abs=1e-5)


def test_fleet_joules_count_the_span_of_the_run_idle_included() -> None:
    log = fleet([100.0 + 2 * index for index in range(16)], first_s=-3.0)
    report = summarise(run([completed(1.0, 0.01), completed(2.0, 0.01)], fleet=log))
    assert report.energy_j == pytest.approx(20.0)
    assert (report.energy_source, report.energy_basis) == ("modelled", "whole fleet, idle included")
    assert report.joules_per_request == pytest.approx(10.0)


def test_missing_joules_are_unknown_not_zero() -> None:
    nothing = summarise(run([completed(1.0, 0.01)], fleet=fleet([None] * 12)))
    cut_short = summarise(run([completed(1.0, 0.01)], fleet=fleet([1.0, 2.0, 3.0])))
    for report, reason in ((nothing, "has no joules"), (cut_short, "for 2.0 of 10.0 s")):
        assert report.energy_j is report.joules_per_request is None
        assert report.energy_source == "unknown"
        assert reason in report.energy_basis


def test_without_a_fleet_log_the_replies_shares_are_summed_and_said_to_be_partial() -> None:
    whole = summarise(run([completed(1.0, 0.01), completed(2.0, 0.01)]))
    assert whole.energy_j == pytest.approx(1.0)
    assert (whole.energy_source, whole.energy_basis) == ("rapl", "the requests' shares, idle not included")
    assert whole.replicas_mean is whole.replicas_max is whole.decisions is None
    partial = summarise(run([completed(1.0, 0.01), completed(2.0, 0.01, energy_j=None)]))
    assert partial.energy_basis == "the requests' shares of 1 of 2 replies, idle not included"
    assert summarise(run([completed(1.0, 0.01, energy_j=None)])).energy_j is None


def test_replicas_and_decisions_are_those_of_the_run() -> None:
    log = fleet(
        [float(value) for value in range(16)], [9, 9, 9, *[1] * 5, *[3] * 5, None, 9, 9], first_s=-3.0
    )
    actions = [(-1, "up"), (2, "up"), (3, "keep"), (4, "hold"), (5, "retune"), (6, "down"), (11, "down")]
    decisions = tuple(
        DecisionRow(at_s=START_S + at_s, action=action, desired_replicas=1 + index)
        for index, (at_s, action) in enumerate(actions)
    )
    report = summarise(run([completed(1.0, 0.01)], fleet=FleetLog(log.fleet, decisions)))
    assert report.replicas_mean == pytest.approx(2.0)
    assert report.replicas_max == 3
    assert report.decisions == 3


def test_asking_again_for_replicas_that_are_still_to_start_is_no_decision() -> None:
    wanted = [("up", 3, 1), ("up", 3, 1), ("up", 3, 2), ("keep", 3, 2), ("down", 2, 2), ("hold", 2, 2)]
    decisions = tuple(
        DecisionRow(
            at_s=START_S + at_s,
            action=action,
            desired_replicas=replicas,
            operating_point=OperatingPoint(version=version),
        )
        for at_s, (action, replicas, version) in enumerate(wanted, start=1)
    )
    report = summarise(run([completed(1.0, 0.01)], fleet=FleetLog(fleet([0.0] * 12).fleet, decisions)))
    assert report.decisions == 3
    assert [marker.t_s for marker in report.series.markers] == [1.0, 3.0, 5.0]


def test_joules_are_unknown_where_the_clock_was_set_back() -> None:
    rows = fleet([float(value) for value in range(12)]).fleet
    jumped = tuple(
        row.model_copy(update={"at_s": row.at_s - 4.0 * (index > 6)}) for index, row in enumerate(rows)
    )
    report = summarise(run([completed(1.0, 0.01)], duration_s=5.0, fleet=FleetLog(jumped, ())))
    assert report.energy_j is None
    assert "clock was set back" in report.energy_basis


def test_a_sender_that_fell_behind_says_by_how_much() -> None:
    late = [
        Outcome(index / 10, index / 10 + 0.2, 0.3, "classify", 1, Result.COMPLETED, "OK")
        for index in range(10)
    ]
    sender = summarise(run(late)).sender
    assert sender.fell_behind
    assert sender.lag_max_ms == pytest.approx(200.0)
    assert not summarise(run([completed(1.0, 0.01)])).sender.fell_behind
