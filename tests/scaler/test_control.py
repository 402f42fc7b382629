"""The whole decision, second by second, over minutes that pass in milliseconds."""

from __future__ import annotations

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from scaler.control import Settings
from scaler.decision import Action, Decision, ReasonCode
from tests.scaler.fleet_model import Run, new_run, policy, profile

SETTINGS = Settings(policy(), profile())
NO_SHRINKING = (Phase.explicit, Phase.reuse, Phase.generate)  # an example is a run of minutes


def codes(decision: Decision) -> set[ReasonCode]:
    return {reason.code for reason in decision.reasons}


def changes(run: Run, since: int = 0) -> list[Action]:
    return [one.action for one in run.decisions[since:] if one.action in (Action.UP, Action.DOWN)]


@settings(max_examples=10, phases=NO_SHRINKING)
@given(
    st.lists(st.tuples(st.integers(1, 25), st.floats(0, 1500)), min_size=1, max_size=5),
    st.integers(0, 2**16),
)
def test_replicas_stay_within_bounds_whatever_comes(load: list[tuple[int, float]], seed: int) -> None:
    run = new_run(SETTINGS, seed=seed)
    for seconds, rate in load:
        run.seconds(seconds, rate)
    assert all(1 <= replicas <= 6 for replicas in run.replicas)
    versions = [one.operating_point.version for one in run.decisions if one.operating_point]
    assert versions == sorted(versions)


@settings(max_examples=8, phases=NO_SHRINKING)
@given(st.floats(5, 600), st.integers(0, 2**16))
def test_no_reversal_at_a_constant_load(rate: float, seed: int) -> None:
    run = new_run(SETTINGS, seed=seed).seconds(150, rate)
    settled = changes(run, since=30)
    assert settled in ([], [Action.UP], [Action.DOWN]), settled


def test_a_flash_crowd_is_met_at_once_and_its_replicas_leave_after_the_break_even_time() -> None:
    run = new_run(SETTINGS).seconds(60, 80)
    assert run.replicas[-1] == 1
    run.seconds(30, lambda now_s: 80 + 60 * min(6.0, now_s - 60))  # ×5.5 within six seconds
    ups = [one.at_s for one in run.decisions if one.action is Action.UP and one.at_s > 60]
    assert ups[0] <= 63
    assert run.replicas[-1] >= 4
    run.seconds(60, 80)
    needed = run.decisions[85].desired_replicas - 1  # one may have been for the rise that did not go on
    fewer = [one.at_s for one in run.decisions if one.at_s > 90 and one.desired_replicas < needed]
    assert fewer[0] - 90 >= SETTINGS.scale_down_window_s - SETTINGS.tick_s
    assert run.replicas[-1] == 1


def test_missing_reports_hold_and_then_fall_back_and_never_shrink() -> None:
    telemetry = {"staleAfter": "10s", "fallbackReplicas": 4}
    run = new_run(Settings(policy(telemetry=telemetry), profile())).seconds(60, 150)
    before = run.replicas[-1]
    run.fleet.silent = True
    run.seconds(40, 10)
    blind = run.decisions[64:]
    assert all(one.desired_replicas >= before for one in blind)
    assert {one.desired_replicas for one in blind if one.at_s < 70} == {before}
    assert run.replicas[-1] == 4
    assert ReasonCode.FALLBACK in codes(run.decisions[-1])
    run.fleet.silent = False
    run.seconds(3, 10)
    assert run.replicas[-1] == 4, "the window begins anew after a blind time"
    run.seconds(30, 10)
    assert run.replicas[-1] == 1


def test_before_a_first_replica_is_ready_silence_is_no_fault() -> None:
    slow = profile(start_up=profile().start_up.model_copy(update={"seconds": 60.0}))
    run = new_run(Settings(policy(telemetry={"staleAfter": "5s"}), slow)).seconds(50, 0)
    assert set(run.replicas) == {1}


def test_a_restarted_scaler_moves_nothing_in_its_first_window() -> None:
    run = new_run(SETTINGS, found_running=4).seconds(int(SETTINGS.first_window_s), 10)
    assert {one.action for one in run.decisions} == {Action.HOLD}
    assert set(run.replicas) == {4}
    assert run.state.point is None
    assert run.seconds(30, 10).replicas[-1] == 1


@settings(max_examples=8, phases=NO_SHRINKING)
@given(st.floats(3, 20), st.floats(10, 1500), st.integers(0, 2**16))
def test_the_plan_stays_within_the_budget_or_runs_the_fewest(budget_w: float, rate: float, seed: int) -> None:
    run = new_run(Settings(policy(power={"budget": f"{budget_w:.3f}W"}), profile()), seed=seed)
    run.seconds(60, rate)
    for decision in run.decisions:
        if decision.predicted_watts is not None and decision.predicted_watts > budget_w * 1.001:
            assert decision.desired_replicas == 1
            assert ReasonCode.OVER_BUDGET in codes(decision)


def test_measured_watts_over_the_budget_count_at_once() -> None:
    run = new_run(Settings(policy(power={"budget": "12W"}), profile())).seconds(60, 450)
    before = run.replicas[-1]
    run.fleet.watts_factor = 1.8
    run.seconds(2, 450)
    assert ReasonCode.OVER_BUDGET in codes(run.decisions[-2])
    assert run.replicas[-2] < before


def test_a_machine_slower_than_its_profile_is_learnt() -> None:
    quick, slow = new_run(SETTINGS).seconds(90, 150), new_run(SETTINGS)
    slow.fleet.slower = 2.0
    slow.seconds(90, 150)
    assert slow.state.corrections.service == pytest.approx(2.0, rel=0.1)
    assert slow.replicas[-1] > quick.replicas[-1]


def test_unknown_watts_are_planned_with_the_profiles_and_said() -> None:
    run = new_run(SETTINGS).seconds(20, 50)
    assert run.decisions[-1].watts_basis == "measured"
    silent_meter = new_run(SETTINGS)
    silent_meter.fleet.watts_factor = float("nan")
    decision = silent_meter.seconds(20, 50).decisions[-1]
    assert decision.watts_basis == "profile"
    assert ReasonCode.WATTS_UNKNOWN in codes(decision)
    assert decision.predicted_watts is not None


def test_fields_nobody_acts_on_are_in_every_decision() -> None:
    run = new_run(Settings(policy(gpu={"clocks": "auto"}), profile())).seconds(10, 50)
    assert all(ReasonCode.NOT_ACTED_ON in codes(decision) for decision in run.decisions)


def test_the_same_load_gives_the_same_decisions() -> None:
    assert (
        new_run(SETTINGS, seed=3).seconds(60, 200).decisions
        == new_run(SETTINGS, seed=3).seconds(60, 200).decisions
    )
