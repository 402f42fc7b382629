"""Laws of a simulation: nothing is lost, joules add up, the same seed is the same run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaler.simulate.outcome import Outcome, Series
from scaler.simulate.run import Detail, simulate
from tests.sim.worlds import NO_DATA, Scripted, point, profile, world

DETAILS: tuple[Detail, ...] = ("binned", "exact")


def same(one: Outcome, other: Outcome) -> bool:
    """All figures and all curves."""
    plain = replace(one, series=other.series) == other
    return plain and all(
        np.array_equal(getattr(one.series, name), getattr(other.series, name), equal_nan=True)
        for name in (field.name for field in fields(Series))
    )


@pytest.mark.parametrize("detail", DETAILS)
@settings(max_examples=12, deadline=None)
@given(
    rates=st.lists(
        st.one_of(st.just(NO_DATA), st.just(0.0), st.floats(1, 30), st.floats(1e4, 3e4)),
        min_size=1,
        max_size=4,
    ),
    sizes=st.lists(st.integers(0, 4), max_size=4),
    crashes=st.booleans(),
    seed=st.integers(0, 99),
)
def test_no_request_and_no_joule_is_lost(
    detail: Detail, rates: Sequence[float], sizes: Sequence[int], crashes: bool, seed: int
) -> None:
    in_world = world(
        rates,
        bin_s=5.0,
        profile=profile(start_up_s=7.0),
        crash_mtbf_s=20.0 if crashes else math.inf,
        pending_s=1.5,
        telemetry_loss=0.2,
        seed=seed,
    )
    script = [(5.0 * (n + 1), size) for n, size in enumerate(sizes)]
    outcome = simulate(in_world, Scripted(point(0.005), script), 1, detail)
    counts = in_world.traffic.drawn(5.0, 1.0, seed)
    assert outcome.requests == np.nansum(counts)
    assert outcome.answered + outcome.refused + outcome.failed == outcome.requests
    assert outcome.answered >= 0
    assert 0 <= outcome.over_slo_fraction <= 1 + 1e-6
    assert outcome.seconds == 5.0 * sum(not math.isnan(rate) for rate in rates)
    assert outcome.energy_j == outcome.idle_j + outcome.busy_j + outcome.startup_j
    assert min(outcome.idle_j, outcome.busy_j, outcome.startup_j) >= 0
    known = ~np.isnan(outcome.series.watts)
    drawn_j = float(np.sum(outcome.series.watts[known]) * 5.0)
    # The curve lacks what was answered after the end, and in times without data.
    # A batch's seconds count where it began: in each step the curve may idle a batch's time longer.
    assert drawn_j <= outcome.energy_j * (1 + 1e-9) + 55.0 * 0.01 * len(rates)
    assert drawn_j >= outcome.energy_j - 4 * 331.0 * 1.0 * (2 + len(rates))


@pytest.mark.parametrize("detail", DETAILS)
def test_the_same_seed_is_the_same_run_and_another_is_not(detail: Detail) -> None:
    base = world([3_000, 6_000], telemetry_loss=0.1, crash_mtbf_s=60.0, arrival_cv=2.0)
    one, again, other = (
        simulate(in_world, Scripted(point()), 2, detail) for in_world in (base, base, replace(base, seed=1))
    )
    assert same(one, again)
    assert not same(one, other)


@pytest.mark.parametrize("detail", DETAILS)
@pytest.mark.parametrize("slow", [False, True])
def test_more_replicas_are_never_more_over_the_slo(detail: Detail, slow: bool) -> None:
    in_world = world([15_000, 40_000, 20_000], bin_s=5.0)
    over = [
        simulate(in_world, Scripted(point(0.01, slow=slow)), replicas, detail).over_slo_fraction
        for replicas in range(1, 5)
    ]
    assert over == sorted(over, reverse=True)
    capacity_rps = 64 / (0.00051 + 64 * 0.0000568)
    refused_rps = sum(max(0.0, rate - capacity_rps) for rate in (15_000, 40_000, 20_000))
    assert over[0] == pytest.approx(refused_rps / 75_000, rel=0.02), "what it can do it answers in time"
    assert over[-1] == 0


def test_all_contenders_get_the_same_requests_whatever_their_period() -> None:
    in_world = world([NO_DATA, 300, 50], bin_s=60.0)
    counts = {
        simulate(in_world, Scripted(point(), period_s=period_s), 1).requests
        for period_s in (1.0, 2.0, 5.0, 15.0)
    }
    assert len(counts) == 1


@pytest.mark.parametrize("detail", DETAILS)
def test_an_idle_fleet_draws_its_idle_and_parked_watts(detail: Detail) -> None:
    """Three replicas of 55 W; one is gone after 20 s and its card stays at 45 W."""
    outcome = simulate(world([0.0, 0.0]), Scripted(point(), [(20.0, 2)]), 3, detail)
    assert outcome.idle_j == pytest.approx(20 * 3 * 55 + 20 * (2 * 55 + 45))
    assert (outcome.busy_j, outcome.startup_j, outcome.requests) == (0, 0, 0)
    assert (outcome.p50_ms, outcome.p99_ms, outcome.batch_mean) == (0, 0, 0)
    assert (outcome.replicas_mean, outcome.replicas_max) == (2.5, 3)
    released = simulate(world([0.0, 0.0], parked_w=0.0), Scripted(point(), [(20.0, 2)]), 3, detail)
    assert outcome.idle_j - released.idle_j == pytest.approx(20 * 45)


@pytest.mark.parametrize("detail", DETAILS)
@pytest.mark.parametrize("pending_s", [0.0, 5.0])
def test_a_start_up_takes_its_time_and_its_joules(detail: Detail, pending_s: float) -> None:
    contender = Scripted(point(), [(5.0, 2)])
    outcome = simulate(world([0.0] * 3, pending_s=pending_s), contender, 1, detail)
    assert outcome.startup_j == pytest.approx(20 * 90)
    ready = {seen.now_s: seen.ready for seen in contender.seen}
    assert ready[25.0 + pending_s] == 1
    assert ready[30.0 + pending_s] == 2
    assert outcome.replicas_mean == pytest.approx((60 + 60 - 25 - pending_s) / 60)


def test_a_start_up_that_is_given_up_costs_what_it_drew() -> None:
    outcome = simulate(world([0.0] * 2), Scripted(point(), [(5.0, 3), (15.0, 1)]), 1)
    assert outcome.startup_j == pytest.approx(2 * 10 * 90)
    assert outcome.replicas_max == 1
    assert outcome.reversals == 1


def test_reversals_are_changes_of_direction() -> None:
    script = [(5.0, 2), (10.0, 4), (15.0, 3), (20.0, 3), (25.0, 2), (30.0, 5)]
    assert simulate(world([0.0] * 3), Scripted(point(), script), 1).reversals == 2


@pytest.mark.parametrize("detail", DETAILS)
def test_requests_fail_while_none_is_ready(detail: Detail) -> None:
    outcome = simulate(world([100.0, 100.0]), Scripted(point(), [(20.0, 0)]), 1, detail)
    assert outcome.failed == pytest.approx(2_000, rel=0.1)
    assert outcome.over_slo_fraction == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("detail", DETAILS)
def test_a_crashed_replica_comes_back_after_a_start_up(detail: Detail) -> None:
    contender = Scripted(point())
    outcome = simulate(world([50.0] * 20, crash_mtbf_s=60.0), contender, 4, detail)
    assert outcome.startup_j > 0
    assert {seen.ready + seen.starting for seen in contender.seen} == {4}
    assert outcome.replicas_mean < 4


def test_times_of_too_few_and_too_many() -> None:
    """One replica does some 15,000 requests/s within the SLO."""
    outcome = simulate(world([20_000.0, 1_000.0, 14_000.0]), Scripted(point(), [(20.0, 2)]), 1)
    assert outcome.underprovisioned_s == 20
    # The second is ready from 40 s on, when 14,000 come, so that one would do.
    assert outcome.overprovisioned_s == 20
    held = simulate(world([1_000.0], policy=world([1.0]).policy.with_fixed_replicas(2)), Scripted(point()), 2)
    assert held.overprovisioned_s == 0


def test_a_time_without_data_counts_for_nothing() -> None:
    contender = Scripted(point())
    outcome = simulate(world([4_000.0, NO_DATA, 4_000.0]), contender, 1)
    whole = simulate(world([4_000.0, 4_000.0]), Scripted(point()), 1)
    assert outcome.energy_j == pytest.approx(whole.energy_j, rel=1e-3)
    assert outcome.seconds == 40
    assert not [seen for seen in contender.seen if 20 < seen.now_s <= 40]
    assert np.isnan(outcome.series.watts).sum() == 4


def test_curves_have_at_most_two_thousand_points() -> None:
    outcome = simulate(world([100.0] * 7_001, bin_s=1.0), Scripted(point(), period_s=1.0), 1)
    assert len(outcome.series.t_s) <= 2_000
    assert outcome.series.t_s[1] == 4.0
    assert outcome.series.arrivals_rps.mean() == pytest.approx(100, rel=0.01)
    assert outcome.series.p99_ms[3] == pytest.approx(outcome.p99_ms, rel=0.2)
