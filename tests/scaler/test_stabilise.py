"""Up at once, down when the surplus has lasted: laws over whole histories."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from scaler.stabilise import Needs, StabiliseRules, StabiliseState, break_even_s, stabilise
from tests.scaler.fleet_model import profile

histories = st.lists(st.tuples(st.integers(1, 20), st.integers(0, 5)), min_size=1, max_size=80)


@given(histories, st.integers(1, 20), st.integers(0, 12))
def test_no_scale_down_inside_the_window_and_no_scale_up_delayed(
    history: list[tuple[int, int]], current: int, window_s: int
) -> None:
    rules = StabiliseRules(float(window_s))
    state = StabiliseState()
    wants: list[int] = []
    for now_s, (wanted, more) in enumerate(history):
        needs = Needs(float(now_s), wanted, wanted + more, affordable=None)
        state, stable = stabilise(state, needs, current, rules)
        wants.append(max(wanted, wanted + more))
        if wanted > current:
            assert stable.replicas == min(wanted, max(2 * current, current + 4))
        else:
            assert stable.replicas <= current
        if stable.replicas < current:
            assert now_s >= window_s, "a first window moves nothing down"
            assert max(wants[-window_s - 1 :]) < current
            assert stable.replicas >= max(wants[-window_s - 1 :])
            assert current - stable.replicas <= max(1, current // 2)
        if now_s >= window_s and max(wants[-window_s - 1 :]) < current:
            assert stable.replicas < current, "a surplus that has lasted goes"
        current = stable.replicas


@given(histories, st.integers(1, 20))
def test_the_state_stays_small(history: list[tuple[int, int]], current: int) -> None:
    state = StabiliseState()
    for now_s, (wanted, more) in enumerate(history * 5):
        needs = Needs(float(now_s), wanted, wanted + more, affordable=None)
        state, _ = stabilise(state, needs, current, StabiliseRules(1e9))
    assert len(state.wanted) <= 25


def test_over_budget_replicas_leave_at_once() -> None:
    needs = Needs(0.0, wanted=2, wanted_calm=2, affordable=2)
    _, stable = stabilise(StabiliseState(), needs, current=6, rules=StabiliseRules(60.0))
    assert stable.replicas == 2


def test_the_break_even_time_is_start_up_joules_over_the_idle_watts_saved() -> None:
    made = profile()
    assert break_even_s(made) == made.start_up.joules / made.power.idle_w
    parked = made.power.model_copy(update={"parked_w": made.power.idle_w})
    assert break_even_s(profile(power=parked)) == float("inf")
