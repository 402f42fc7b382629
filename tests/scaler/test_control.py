"""The whole decision, second by second, over minutes that pass in milliseconds."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from scaler.control import decide, first_point
from scaler.control_state import expecting, start_beside, start_fresh
from scaler.decision import Action, Decision, ReasonCode
from scaler.levers import TableKey
from scaler.profile import Profile, StartUp
from scaler.settings import Settings
from scaler.signals import Missing
from tests.scaler.fleet_model import Run, new_run
from tests.scaler.made_up import card, policy, profile, signals

SETTINGS = Settings(policy(), profile())
# A card with a clock to lower, in a large fleet, decided every five seconds.
CARDS = Settings(
    policy(
        gpu={"clocks": "auto"},
        replicas={"min": 1, "max": 40},
        behavior={"tick": "5s"},
        slo={"latency": "150ms"},
    ),
    card(),
)
NO_SHRINKING = (Phase.explicit, Phase.reuse, Phase.generate)  # an example is a run of minutes
minutes = settings(max_examples=3, phases=NO_SHRINKING)


def codes(decision: Decision) -> set[ReasonCode]:
    return {reason.code for reason in decision.reasons}


def moves(run: Run, since_s: float = 0.0) -> list[Action]:
    return [one.action for one in run.since(since_s) if one.action in (Action.UP, Action.DOWN)]


def reversals(run: Run, since_s: float) -> int:
    made = moves(run, since_s)
    return sum(before is not after for before, after in pairwise(made))


@settings(max_examples=5, phases=NO_SHRINKING)
@given(
    st.lists(st.tuples(st.integers(1, 25), st.floats(0, 1500)), min_size=1, max_size=5),
    st.integers(0, 2**16),
    st.sampled_from([SETTINGS, Settings(policy(gpu={"clocks": "auto"}), card())]),
)
def test_replicas_stay_within_bounds_and_versions_grow_whatever_comes(
    load: list[tuple[int, float]], seed: int, settings: Settings
) -> None:
    run = new_run(settings, seed=seed)
    for seconds, rate in load:
        run.seconds(seconds, rate)
    assert all(1 <= replicas <= 6 for replicas in run.replicas)
    versions = [one.operating_point.version for one in run.decisions if one.operating_point]
    assert versions == sorted(versions)
    assert all(one.reasons for one in run.decisions)
    assert all(one.predicted_watts is None or math.isfinite(one.predicted_watts) for one in run.decisions)


@minutes
@given(st.floats(5, 700), st.integers(0, 2**16), st.floats(0, 0.8))
def test_at_a_steady_load_one_reversal_in_ten_minutes_at_most(rate: float, seed: int, skew: float) -> None:
    """Though the queue model is wrong, and more so at some loads than at others."""
    run = new_run(SETTINGS, seed=seed)
    run.fleet.tail_factor = lambda load: 1 + skew * (load - 0.5)
    run.seconds(660, rate)
    assert reversals(run, since_s=60) <= 1
    assert max(one.tail_s for one in run.fleet.history[60:]) < 0.1


@minutes
@given(st.floats(50, 1500), st.integers(0, 2**16))
def test_so_it_is_with_cards_and_clocks(rate: float, seed: int) -> None:
    run = new_run(CARDS, seed=seed).seconds(760, rate)
    assert reversals(run, since_s=160) <= 1


@pytest.mark.parametrize(("kind", "rate", "seed"), [(SETTINGS, 150, 1), (SETTINGS, 90, 2), (CARDS, 700, 1)])
def test_a_step_of_three_times_is_recovered_in_one_start_up_and_ten_seconds(
    kind: Settings, rate: float, seed: int
) -> None:
    start_up_s = kind.profile.start_up.seconds
    run = new_run(kind, seed=seed).seconds(300, rate)
    run.seconds(150, 3 * rate)
    recovered = [one for one in run.fleet.history if one.at_s > 300 + start_up_s + 10]
    late = [one.at_s for one in recovered if one.tail_s > kind.policy.spec.slo.latency_s]
    assert late == []


def test_a_flash_crowd_is_met_at_once() -> None:
    run = new_run(SETTINGS).seconds(60, 80)
    assert run.replicas[-1] == 1
    run.seconds(30, lambda now_s: 80 + 60 * min(6.0, now_s - 60))  # ×5.5 within six seconds
    ups = [one.at_s for one in run.since(60) if one.action is Action.UP]
    assert ups[0] <= 63
    assert run.replicas[-1] >= 4


def test_replicas_leave_once_the_traffic_is_known_and_they_have_idled_away_a_start() -> None:
    """From a large fleet and a steady load: first it learns, then the surplus pays for its next start."""
    run = new_run(SETTINGS, found_running=6)
    run.seconds(30, 100)
    assert set(run.replicas) == {6}
    young = run.since(SETTINGS.first_window_s)[-1]
    assert ReasonCode.LEARNING in codes(young)
    run.seconds(260, 100)
    assert set(run.replicas) == {6}, "for five minutes no fewer than were found"
    run.seconds(60, 100)
    downs = [one for one in run.decisions if one.action is Action.DOWN]
    assert ReasonCode.SURPLUS_LASTED in codes(downs[0])
    assert downs[0].desired_replicas >= 3, "half at most in a tick"
    assert run.replicas[-1] <= 2
    assert moves(run) == [Action.DOWN] * len(downs)
    assert max(one.tail_s for one in run.fleet.history) < 0.1


def test_missing_reports_hold_and_then_fall_back_and_never_shrink() -> None:
    telemetry = {"staleAfter": "10s", "fallbackReplicas": 4}
    run = new_run(Settings(policy(telemetry=telemetry), profile())).seconds(60, 150)
    before = run.replicas[-1]
    run.fleet.silent = True
    run.seconds(40, 10)
    blind = run.since(64)
    assert all(one.desired_replicas >= before for one in blind)
    assert {one.desired_replicas for one in blind if one.at_s < 70} == {before}
    assert {one.action for one in blind if one.at_s < 70} == {Action.HOLD}
    assert run.replicas[-1] == 4
    assert ReasonCode.FALLBACK in codes(run.decisions[-1])
    run.fleet.silent = False
    run.seconds(3, 10)
    assert run.replicas[-1] == 4, "the surplus begins anew after a blind time"
    run.seconds(60, 10)
    assert run.replicas[-1] < 4


@pytest.mark.parametrize("current", [0, 2, 5])
def test_a_fallback_is_no_fewer_than_what_runs(current: int) -> None:
    telemetry = {"staleAfter": "5s", "fallbackReplicas": 3}
    fallback = Settings(policy(telemetry=telemetry), profile())
    state = expecting(start_fresh(0.0, first_point(fallback)), 0.0, expected=True)
    for at_s, least in ((0.0, 1), (4.9, 1), (5.0, 3), (500.0, 3)):
        state, decision = decide(state, Missing(at_s, "silent"), current, fallback)
        assert decision.desired_replicas == max(current, least)
        assert decision.action is (Action.UP if current < least else Action.HOLD)
        assert (decision.forecast_rps, decision.predicted_watts) == (None, None)


@given(share=st.floats(0.2, 7.0), current=st.integers(1, 6), ready=st.integers(0, 6), told=st.booleans())
@pytest.mark.parametrize("made", [profile(), card()], ids=["cpu", "card"])
def test_a_fallback_draws_no_more_than_the_budget_whatever_the_load_is(
    made: Profile, share: float, current: int, ready: int, told: bool
) -> None:
    """A bus that is away is no leave to break what must never be broken."""
    table = Settings(policy(), made).tables.at(TableKey(made.text_tokens, 1.0, 1.0))
    busiest_w = float(table.watts[0].max())
    telemetry = {"staleAfter": "5s"}
    bound = Settings(policy(power={"budget": f"{share * busiest_w:.3f}W"}, telemetry=telemetry), made)
    state = start_fresh(0.0, first_point(bound)) if told else start_beside(-1000.0)
    state = expecting(state, 0.0, expected=True)
    for at_s in (0.0, 5.0):
        missing = Missing(at_s, "the bus is away", ready=min(ready, current))
        state, decision = decide(state, missing, current, bound)
    assert current <= decision.desired_replicas <= 6
    if decision.desired_replicas > current:
        running = table.index_of(first_point(bound)) or 0 if told else 0
        assert decision.desired_replicas * float(table.watts[running].max()) <= share * busiest_w + 0.001
    roomy = Settings(policy(power={"budget": f"{100 * busiest_w:.3f}W"}, telemetry=telemetry), made)
    assert decide(state, missing, current, roomy)[1].desired_replicas == 6


def test_before_a_first_replica_is_ready_silence_is_no_fault() -> None:
    slow = profile(start_up=StartUp(basis="assumed", seconds=60, joules=5))
    run = new_run(Settings(policy(telemetry={"staleAfter": "5s"}), slow)).seconds(50, 0)
    assert set(run.replicas) == {1}


def test_silence_counts_from_when_a_replica_was_ready_and_not_from_its_start() -> None:
    slow = Settings(policy(telemetry={"staleAfter": "15s", "fallbackReplicas": 6}), profile())
    state = expecting(start_beside(0.0), 0.0, expected=False)
    for at_s in (0.0, 60.0, 600.0):
        state, starting = decide(state, Missing(at_s, "no replica has joined"), 2, slow)
        assert (starting.action, starting.desired_replicas) == (Action.HOLD, 2)
        assert codes(starting) >= {ReasonCode.MISSING_REPORTS, ReasonCode.STARTING}
    state = expecting(state, 601.0, expected=True)
    for at_s, desired in ((601.0, 2), (615.0, 2), (616.0, 6)):
        state = expecting(state, at_s, expected=True)
        state, blind = decide(state, Missing(at_s, "no rate yet"), 2, slow)
        assert blind.desired_replicas == desired
        assert ReasonCode.STARTING not in codes(blind)


def test_a_restarted_scaler_moves_nothing_in_its_first_window() -> None:
    run = new_run(SETTINGS, found_running=4).seconds(int(SETTINGS.first_window_s), 10)
    assert {one.action for one in run.decisions} == {Action.HOLD}
    assert set(run.replicas) == {4}
    assert run.state.point is None


def test_a_restart_in_the_middle_keeps_the_fleet_and_numbers_points_on() -> None:
    run = new_run(SETTINGS).seconds(120, 300)
    replicas, version = run.replicas[-1], run.fleet.point.version
    again = run.restarted().seconds(90, 300)
    window = [one for one in again.decisions if one.at_s < 120 + SETTINGS.first_window_s]
    assert {one.desired_replicas for one in window} == {replicas}
    assert {ReasonCode.RESTARTED} <= codes(window[1])
    assert again.replicas[-1] >= replicas - 1
    assert again.fleet.point.version > version, "the replicas keep the highest that they were told"


def test_a_crash_is_made_good_at_once() -> None:
    run = new_run(SETTINGS).seconds(90, 400)
    replicas = run.replicas[-1]
    run.fleet.crash(2)
    run.seconds(1, 400)
    assert run.decisions[-1].current_replicas == replicas - 2
    assert run.replicas[-1] >= replicas - 1, "what the load needs, and the queue that has gathered"
    run.seconds(12, 400)
    assert run.fleet.history[-1].tail_s < 0.1


def over_budget_s(run: Run, budget_w: float) -> int:
    """The longest time without a break in which the fleet truly drew more than the budget."""
    longest = now = 0
    for second in run.fleet.history:
        now = now + 1 if second.watts > 1.001 * budget_w else 0
        longest = max(longest, now)
    return longest


@minutes
@given(
    st.floats(4, 15),
    st.floats(0.8, 1.6),
    st.lists(st.floats(10, 1500), min_size=1, max_size=3),
    st.integers(0, 2**16),
)
# Three replicas that never rest: four at ease are within the budget, a start beside the three is not.
@example(12.506651026570818, 1.0, [497.5505157522791, 1083.6774963792961, 581.436674343178], 6969)
# Over the budget in a step that the forecast has not caught up with.
@example(
    9.096738124569622, 1.5116335248276298, [119.94607707812693, 433.695432960775, 565.6241365199822], 10033
)
# Over the budget while one starts, and only the others draw more than the profile says.
@example(
    13.420406230364312, 1.5927917158950522, [1046.3924515472236, 1050.937646793946, 496.32152987497363], 13641
)
def test_the_budget_is_never_exceeded_longer_than_a_tick(
    budget_w: float, watts_factor: float, rates: list[float], seed: int
) -> None:
    """Whatever the profile says of the watts. One replica that never rests draws 3.5 W, times that factor."""
    budget_w *= watts_factor
    run = new_run(Settings(policy(power={"budget": f"{budget_w:.3f}W"}), profile()), seed=seed)
    run.fleet.watts_factor = watts_factor
    for rate in rates:
        run.seconds(60, rate)
    assert over_budget_s(run, budget_w) <= 1


@minutes
@given(st.floats(400, 3000), st.floats(50, 3000), st.integers(0, 2**16))
def test_so_it_is_with_cards_that_climb_the_ladder(budget_w: float, rate: float, seed: int) -> None:
    ladder = {"budget": f"{budget_w:.1f}W", "whenOverBudget": ["lowerClocks", "shedLowPriority"]}
    spec = CARDS.policy.spec
    bound = Settings(
        policy(
            power=ladder,
            gpu={"clocks": "auto"},
            replicas={"min": 1, "max": 20},
            behavior={"tick": "5s"},
            slo={"latency": f"{spec.slo.latency_s * 1000:g}ms"},
        ),
        card(),
    )
    run = new_run(bound, seed=seed).seconds(150, rate)
    assert over_budget_s(run, budget_w) <= bound.tick_s
    for decision in run.decisions:
        point = decision.operating_point
        if ReasonCode.BUDGET_LADDER in codes(decision) and point is not None:
            assert point.reflex_sm_clock_mhz == point.sm_clock_mhz
            assert decision.predicted_watts is not None
            assert decision.predicted_watts <= 1.001 * budget_w


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


def test_what_a_warm_up_took_is_never_seen() -> None:
    """Not a decision is another, however many slow samples a replica's first ready report carries."""
    ramp = np.repeat([50.0, 400.0, 800.0, 100.0], 40).tolist()
    runs = []
    for samples in (0, 5000):
        run = new_run(SETTINGS, seed=5)
        run.fleet.warm_up_samples = samples
        for rate in ramp:
            run.seconds(1, rate)
        runs.append(run)
    assert runs[0].decisions == runs[1].decisions
    assert len(runs[0].fleet.replicas) > 1


def test_unknown_watts_are_planned_with_the_profiles_and_said() -> None:
    run = new_run(SETTINGS).seconds(20, 50)
    assert run.decisions[-1].watts_basis == "measured"
    silent_meter = new_run(SETTINGS)
    silent_meter.fleet.watts_factor = float("nan")
    decision = silent_meter.seconds(20, 50).decisions[-1]
    assert decision.watts_basis == "profile"
    assert ReasonCode.WATTS_UNKNOWN in codes(decision)
    assert decision.predicted_watts is not None


def test_slow_clocks_are_set_at_a_calm_load_and_draw_less() -> None:
    fixed = Settings(
        CARDS.policy.model_copy(
            update={"spec": CARDS.policy.spec.model_copy(update={"gpu": policy().spec.gpu})}
        ),
        card(),
    )
    runs = [new_run(kind, seed=3).seconds(300, 600) for kind in (CARDS, fixed)]
    slow, full = (run.fleet for run in runs)
    assert 0 < slow.point.sm_clock_mhz < 1410
    assert slow.point.reflex_sm_clock_mhz == 1410
    assert full.point.sm_clock_mhz == full.point.reflex_sm_clock_mhz == 0
    drawn = [sum(one.watts for one in fleet.history[100:]) for fleet in (slow, full)]
    assert drawn[0] < 0.9 * drawn[1]
    assert max(one.tail_s for one in slow.history[100:]) < 0.15


def test_fields_nobody_acts_on_are_in_every_decision() -> None:
    run = new_run(Settings(policy(carbon={"intensityFile": "grid.csv"}), profile())).seconds(10, 50)
    assert all(ReasonCode.NOT_ACTED_ON in codes(decision) for decision in run.decisions)


def test_the_same_load_gives_the_same_decisions() -> None:
    assert (
        new_run(SETTINGS, seed=3).seconds(60, 200).decisions
        == new_run(SETTINGS, seed=3).seconds(60, 200).decisions
    )


def test_a_backlog_is_to_be_gone_within_a_tick() -> None:
    state = start_fresh(0.0, first_point(SETTINGS))
    calm = signals(at_s=1.0, ready=2)
    _, few = decide(state, calm, 2, SETTINGS)
    _, more = decide(state, replace(calm, queue_depth=600), 2, SETTINGS)
    assert few.desired_replicas == 2
    assert more.desired_replicas > 3
    assert ReasonCode.BACKLOG in codes(more)
