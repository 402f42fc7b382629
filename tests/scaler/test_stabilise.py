"""Up at once, down lazily: laws over whole histories, and joules beside an optimum that knows the future."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaler.latency import Floats
from scaler.profile import StartUp
from scaler.stabilise import (
    Needs,
    Stabilised,
    StabiliseRules,
    StabiliseState,
    break_even_s,
    stabilise,
    start_cost_j,
)
from tests.scaler.made_up import power, profile, variant

START_J = 100.0
RULES = StabiliseRules(START_J)
SIZES = 8  # the most replicas
# The bare algorithm.
FREE = replace(RULES, tolerance=0.0, start_tolerance=0.0, max_step_up_count=SIZES, max_step_down=1.0)


def linear(required: int, idle_w: float = 10.0) -> Floats:
    """Each replica idles away as much; fewer than required are too few."""
    sizes = np.arange(SIZES + 1, dtype=np.float64)
    return np.where(sizes >= required, idle_w * sizes, np.inf)


@st.composite
def convex(draw: st.DrawFn) -> Floats:
    """The first size costs something, each further one more than the one before, or saves less."""
    required = draw(st.integers(1, SIZES))
    steps = sorted(draw(st.lists(st.integers(-40, 60), min_size=SIZES, max_size=SIZES)))
    watts = np.cumsum([draw(st.integers(0, 50)), *steps]).astype(np.float64)
    watts += max(0.0, -watts.min())
    return np.where(np.arange(SIZES + 1) >= required, watts, np.inf)


def needs(now_s: float, watts: Floats, **changes: object) -> Needs:
    required = int(np.argmax(np.isfinite(watts)))
    return replace(Needs(now_s, watts, required, required, affordable=None), **changes)  # type: ignore[arg-type]


def lived(history: Sequence[Needs], current: int, rules: StabiliseRules) -> list[Stabilised]:
    state, made = StabiliseState(), []
    for one in history:
        state, stable = stabilise(state, one, current, rules)
        current = stable.replicas
        made.append(stable)
    return made


def joules(watts: Sequence[Floats], sizes: Sequence[int], current: int) -> float:
    """A second of each, and what the starts cost."""
    run_j = sum(float(one[size]) for one, size in zip(watts, sizes, strict=True))
    starts = np.diff([current, *sizes])
    return run_j + START_J * float(np.maximum(0, starts).sum())


def optimum_j(watts: Sequence[Floats], current: int) -> float:
    """By every size at every second."""
    sizes = np.arange(SIZES + 1)
    spent = np.where(sizes == current, 0.0, np.inf)
    starts_j = START_J * np.maximum(0, sizes[np.newaxis, :] - sizes[:, np.newaxis])
    for one in watts:
        spent = (spent[:, np.newaxis] + starts_j).min(axis=0) + one
    return float(spent.min())


@settings(max_examples=200)
@given(st.lists(convex(), min_size=1, max_size=40))
def test_no_more_than_three_times_the_joules_of_an_optimum_that_knows_the_future(watts: list[Floats]) -> None:
    """The law of lazy capacity provisioning, whatever convex costs come to a fleet that begins at none."""
    # What each second costs is known at its end.
    moment = [needs(0.0, np.where(np.isfinite(watts[0]), 0.0, np.inf))]
    history = moment + [needs(second + 1.0, one) for second, one in enumerate(watts)]
    sizes = [stable.replicas for stable in lived(history, 0, FREE)]
    assert joules(watts, sizes[1:], 0) <= 3 * optimum_j(watts, 0) + 1e-6


@settings(max_examples=100)
@given(convex(), st.integers(1, SIZES), st.sampled_from([RULES, FREE]))
def test_at_constant_costs_it_settles_and_never_turns_back(
    watts: Floats, current: int, rules: StabiliseRules
) -> None:
    sizes = [
        stable.replicas for stable in lived([needs(float(s), watts) for s in range(300)], current, rules)
    ]
    moves = np.sign(np.diff([current, *sizes]))
    assert len(set(moves[moves != 0].tolist())) <= 1
    assert len(set(sizes[-100:])) == 1
    assert watts[sizes[-1]] < math.inf


@given(
    st.lists(st.tuples(st.integers(1, SIZES), st.integers(0, 3)), min_size=1, max_size=60),
    st.integers(1, SIZES),
)
def test_up_at_once_and_never_below_what_is_required_or_calm(
    history: list[tuple[int, int]], current: int
) -> None:
    state = StabiliseState()
    for second, (required, more) in enumerate(history):
        calm = min(SIZES, required + more)
        state, stable = stabilise(
            state, needs(float(second), linear(required), required_calm=calm), current, RULES
        )
        allowed = max(2 * current, current + 4)
        if required > current:
            assert stable.replicas >= min(required, allowed)
        assert stable.replicas <= allowed
        if stable.replicas < current:
            assert stable.replicas >= calm
            assert current - stable.replicas <= max(1, current // 2)
        current = stable.replicas


@given(st.integers(2, SIZES), st.data())
def test_a_replica_goes_once_it_has_idled_away_its_next_start(current: int, data: st.DataObject) -> None:
    required = data.draw(st.integers(1, current - 1))
    idle_w = data.draw(st.floats(1, 50))
    break_even = START_J / idle_w
    state, now_s = StabiliseState(), 0.0
    while True:
        state, stable = stabilise(state, needs(now_s, linear(required, idle_w)), current, RULES)
        if stable.replicas < current:
            break
        assert stable.surplus_for_s == pytest.approx(now_s)
        assert now_s < 2 * break_even + 2
        now_s += 1.0
    assert break_even <= now_s + 1e-6
    assert now_s < break_even + 1 + 1e-6


def test_a_surplus_that_ends_before_it_has_paid_off_lets_nobody_go() -> None:
    """Half of the time two replicas would do, never for as long as a start costs: four stay."""
    history = [needs(float(s), linear(2 if s // 8 % 2 else 4)) for s in range(200)]
    sizes = [stable.replicas for stable in lived(history, 4, RULES)]
    assert set(sizes) == {4}


def test_a_slower_clock_that_needs_more_cards_comes_once_it_would_have_saved_their_starts() -> None:
    sizes = np.arange(SIZES + 1, dtype=np.float64)
    watts = np.where(sizes >= 2, 100 + 10 * np.abs(sizes - 5), np.inf)  # two hold the SLO, five are cheapest
    made = lived([needs(float(s), watts) for s in range(60)], 2, RULES)
    ups = [second for second, stable in enumerate(made) if stable.saves_joules]
    assert ups
    assert 30 * ups[0] >= START_J, "3 × 10 W are saved by all three"
    assert made[-1].replicas == 5


def test_savings_within_the_tolerance_are_not_worth_a_change() -> None:
    sizes = np.arange(SIZES + 1, dtype=np.float64)
    nearly = np.where(sizes >= 2, 1000 + sizes, np.inf)
    assert lived([needs(float(s), nearly) for s in range(500)], 5, RULES)[-1].replicas == 5
    assert lived([needs(float(s), nearly) for s in range(500)], 5, FREE)[-1].replicas == 2


def test_what_was_cheapest_before_says_nothing_once_no_size_will_do() -> None:
    """Over a budget that nothing keeps, past costs must not bring back what was sent away."""
    nothing = needs(0.0, np.full(SIZES + 1, np.inf), required=3, required_calm=3)
    state, current = StabiliseState(), 4
    for second in range(20):
        state, stable = stabilise(state, needs(float(second), linear(7)), current, RULES)
        current = stable.replicas
    for second in range(20, 40):
        over = replace(nothing, now_s=float(second), affordable=3 if current > 3 else None)
        state, stable = stabilise(state, over, current, RULES)
        current = stable.replicas
        assert current == 3


@given(st.integers(1, SIZES), st.integers(1, SIZES))
def test_over_budget_replicas_leave_at_once(current: int, affordable: int) -> None:
    one = needs(0.0, linear(SIZES), affordable=affordable)
    _, stable = stabilise(StabiliseState(), one, current, RULES)
    if affordable < current:
        assert stable.replicas == affordable


def test_a_start_that_costs_nothing_is_no_reason_to_wait() -> None:
    free = replace(RULES, start_j=0.0)
    assert lived([needs(float(s), linear(2)) for s in range(4)], 4, free)[-1].replicas == 2


def test_a_replica_that_saves_nothing_when_it_goes_stays() -> None:
    """Where a parked card draws what an idle one does."""
    flat = np.where(np.arange(SIZES + 1) >= 2, 400.0, np.inf)
    assert {one.replicas for one in lived([needs(float(s), flat) for s in range(300)], 6, RULES)} == {6}


def test_no_size_that_holds_the_slo_is_no_harm() -> None:
    nothing = np.full(SIZES + 1, np.inf)
    history = [needs(float(s), linear(2)) for s in range(5)]
    history += [needs(float(s), nothing, required=7, required_calm=7) for s in range(5, 8)]
    history += [needs(float(s), linear(2)) for s in range(8, 40)]
    sizes = [stable.replicas for stable in lived(history, 2, RULES)]
    assert sizes[5:7] == [6, 7]
    assert sizes[-1] == 2


@given(
    st.lists(st.tuples(st.integers(1, SIZES), st.integers(0, 3)), min_size=1, max_size=60),
    st.integers(1, SIZES),
    st.integers(1, 12),
)
def test_an_explicit_window_is_kept_whatever_it_costs(
    history: list[tuple[int, int]], current: int, window_s: int
) -> None:
    rules = replace(RULES, window_s=float(window_s))
    state, wants = StabiliseState(), list[int]()
    for second, (required, more) in enumerate(history):
        calm = min(SIZES, required + more)
        one = needs(float(second), linear(required), required_calm=calm)
        state, stable = stabilise(state, one, current, rules)
        wants.append(calm)
        most = max(wants[-window_s - 1 :])
        if required > current:
            assert stable.replicas == min(required, max(2 * current, current + 4))
        else:
            assert stable.replicas <= current
        if stable.replicas < current:
            assert second >= window_s, "a first window moves nothing down"
            assert stable.replicas >= most
            assert current - stable.replicas <= max(1, current // 2)
        if second >= window_s and most < current:
            assert stable.replicas < current, "a surplus that has lasted goes"
        current = stable.replicas
    assert len(state.wanted) <= SIZES + 1, "the state stays small"


def test_break_even_is_start_up_joules_over_the_idle_watts_saved() -> None:
    start_up = StartUp(basis="assumed", seconds=45, joules=4050)

    def idling(parked_w: float) -> float:
        made = profile(variant(power=power(idle_w=55, batch_w=81, parked_w=parked_w)), start_up=start_up)
        assert start_cost_j(made) == 4050 - 45 * parked_w
        return break_even_s(made)

    assert idling(0.0) == pytest.approx(4050 / 55)
    assert idling(45.0) == pytest.approx((4050 - 45 * 45) / 10)
    assert idling(55.0) == math.inf
