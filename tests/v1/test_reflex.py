"""Laws of the reflex: hold, hysteresis, return, monotone in the backlog."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minwatt.v1.reflex import Reflex, ReflexRule

SLO_S = 0.05
RULE = ReflexRule()
STEPS = st.lists(
    st.tuples(st.floats(0.0, 0.4), st.floats(0.0, 0.1)), max_size=40
)  # (seconds since, backlog_s)


def states(steps: list[tuple[float, float]], rule: ReflexRule = RULE) -> list[tuple[float, float, bool]]:
    reflex, now_s, seen = Reflex(rule), 0.0, []
    for after_s, backlog_s in steps:
        now_s += after_s
        seen.append((now_s, backlog_s, reflex.update(now_s, backlog_s, SLO_S)))
        assert reflex.raised == seen[-1][2]
    return seen


def test_it_rises_at_once_and_returns_after_the_hold() -> None:
    reflex = Reflex()
    assert not reflex.update(0.0, 0.019, SLO_S)
    assert reflex.update(1.0, 0.021, SLO_S)
    assert reflex.back_from_s == 1.0 + RULE.hold_s
    assert reflex.update(0.99 * reflex.back_from_s, 0.0, SLO_S)
    assert not reflex.update(reflex.back_from_s, 0.0, SLO_S)


@given(st.floats(1e-4, 0.2))
def test_it_may_be_raised_above_another_backlog(backlog_s: float) -> None:
    rule = ReflexRule.raised_above(backlog_s, SLO_S)
    reflex = Reflex(rule)
    assert not reflex.update(0.0, 0.999 * backlog_s, SLO_S)
    assert reflex.update(1.0, 1.001 * backlog_s, SLO_S)
    assert not reflex.update(1.0 + rule.hold_s, 0.0, SLO_S)


def test_no_other_backlog_is_the_usual_one() -> None:
    assert ReflexRule.raised_above(0.0, SLO_S) == RULE
    assert ReflexRule.raised_above(0.01, 0.0) == RULE


@given(STEPS)
def test_short_slack_always_raises(steps: list[tuple[float, float]]) -> None:
    assert all(raised for _, backlog_s, raised in states(steps) if backlog_s > RULE.short_share * SLO_S)


@given(STEPS)
def test_it_never_lowers_before_the_hold_nor_while_slack_is_short(
    steps: list[tuple[float, float]],
) -> None:
    short_at_s, before = float("-inf"), False
    for now_s, backlog_s, raised in states(steps):
        if before and not raised:
            assert now_s - short_at_s >= RULE.hold_s - 1e-9
            assert backlog_s < RULE.back_share * SLO_S
        if backlog_s > RULE.short_share * SLO_S:
            short_at_s = now_s
        before = raised


@given(STEPS)
def test_between_the_two_shares_it_stays_as_it_is(steps: list[tuple[float, float]]) -> None:
    before = False
    for _, backlog_s, raised in states(steps):
        if RULE.back_share * SLO_S <= backlog_s <= RULE.short_share * SLO_S:
            assert raised == before
        before = raised


@given(STEPS)
def test_without_backlog_it_returns(steps: list[tuple[float, float]]) -> None:
    assert not states([*steps, (RULE.longest_hold_s + 1e-6, 0.0)])[-1][2]


def burst(reflex: Reflex, from_s: float, cycles: int) -> list[float]:
    """Slack short as soon as the clock is back, again and again; returns how long it was held each time."""
    held_s, now_s = [], from_s
    for _ in range(cycles):
        assert reflex.update(now_s, 0.03, SLO_S)
        back_s = reflex.back_from_s
        assert not reflex.update(back_s, 0.0, SLO_S)
        held_s.append(back_s - now_s)
        now_s = back_s + 0.5 * RULE.hold_s
    return held_s


def test_a_burst_that_goes_on_is_held_longer_up_to_the_longest() -> None:
    held_s = burst(Reflex(), 5.0, 8)
    assert held_s[0] == pytest.approx(RULE.hold_s)
    assert held_s == sorted(held_s)
    assert held_s[-1] == pytest.approx(RULE.longest_hold_s)


def test_what_comes_after_a_lull_is_another_burst() -> None:
    reflex = Reflex()
    burst(reflex, 0.0, 8)
    assert burst(reflex, reflex.back_from_s + 2 * RULE.hold_s, 1)[0] == pytest.approx(RULE.hold_s)


@given(st.lists(st.tuples(st.floats(0.0, 0.4), st.floats(0.0, 0.1), st.floats(0.0, 0.1)), max_size=40))
def test_a_larger_backlog_never_leads_to_less(steps: list[tuple[float, float, float]]) -> None:
    less = states([(after_s, backlog_s) for after_s, backlog_s, _ in steps])
    more = states([(after_s, backlog_s + extra_s) for after_s, backlog_s, extra_s in steps])
    assert all(high >= low for (_, _, low), (_, _, high) in zip(less, more, strict=True))


@pytest.mark.parametrize(
    "shares", [(0.1, 0.3, 0.5), (0.3, 0.0, 0.5), (0.3, 0.1, -1.0), (0.3, 0.1, float("nan")), (0.3, 0.1, 1.5)]
)
def test_a_rule_that_can_not_hold_is_refused(shares: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="back_share"):
        ReflexRule(*shares)
