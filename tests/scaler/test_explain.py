"""Every rule that had a say is a reason, with a sentence and its numbers."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaler.candidate import Candidate
from scaler.decision import Action, Decision, Reason, ReasonCode
from scaler.explain import Outlook, explain, not_acted_on
from scaler.forecast import Forecast
from scaler.operating_point import OperatingPoint
from scaler.signals import FleetPower
from scaler.stabilise import Stabilised
from scaler.urgency import Urgency
from scaler.variants import Choice
from tests.scaler.made_up import policy, signals

POINT = OperatingPoint(1, 8, 2048, 0.01, 0.1)
BEST = Candidate(2, POINT, load=0.5, watts=4.0, holds_slo=True, within_budget=True)
CALM = Outlook(
    seen=signals(power=FleetPower(4.0, "nvml")),
    ahead=Forecast(100, 110, 150, 3),
    best=BEST,
    urgency=Urgency(0, 0.0, ()),
    stable=Stabilised(2, None, limited=False),
    policy=policy(),
    first_window=False,
    variant=Choice("", ""),
)


def codes(outlook: Outlook, current: int = 2, desired: int = 2) -> list[ReasonCode]:
    return [reason.code for reason in explain(outlook, current, desired)]


def only(outlook: Outlook, code: ReasonCode, current: int = 2, desired: int = 2) -> Reason:
    (reason,) = [one for one in explain(outlook, current, desired) if one.code is code]
    return reason


def test_a_calm_tick_has_one_reason_its_load() -> None:
    assert codes(CALM) == [ReasonCode.LOAD]
    load = only(CALM, ReasonCode.LOAD)
    assert load.message == "100.0 rps now, up to 110.0 in 3.0 s"
    assert load.values["wanted_replicas"] == 2


def test_the_most_telling_comes_first() -> None:
    missed = Reason(ReasonCode.SLO_MISSED, "p99 300 ms over the SLO 100 ms")
    urgent = replace(CALM, first_window=True, urgency=Urgency(3, 0.0, (missed,)))
    assert codes(urgent)[:3] == [ReasonCode.RESTARTED, ReasonCode.SLO_MISSED, ReasonCode.LOAD]


def test_a_surplus_waits_or_has_lasted() -> None:
    waiting = replace(CALM, stable=Stabilised(4, 12.0, limited=False))
    assert only(waiting, ReasonCode.SURPLUS_WAITS, 4, 4).message == "surplus so far 12.0 s"
    assert only(waiting, ReasonCode.SURPLUS_LASTED, 4, 3).values == {"surplus_for_s": 12.0}
    young = replace(waiting, ahead=replace(CALM.ahead, calm_rps=math.inf))
    assert ReasonCode.LEARNING in codes(young, 4, 4)
    assert ReasonCode.LEARNING not in codes(waiting, 4, 4)


def test_more_replicas_for_fewer_joules_are_said_to_be_that() -> None:
    saving = replace(CALM, stable=Stabilised(4, None, limited=False, saves_joules=True))
    assert (
        "4 replicas at a slower clock draw less than 2" in only(saving, ReasonCode.SAVES_JOULES, 2, 4).message
    )
    assert ReasonCode.SAVES_JOULES not in codes(saving, 4, 4)


def test_a_limited_step_says_how_far_it_goes() -> None:
    limited = replace(CALM, stable=Stabilised(6, None, limited=True))
    assert only(limited, ReasonCode.STEP_LIMITED, 2, 6).message == "one tick moves to 6 replicas at most"


@pytest.mark.parametrize(
    ("measured_w", "within", "said"),
    [(3.0, True, None), (6.0, True, "6.0 W over"), (3.0, False, "4.0 W over"), (None, False, "4.0 W over")],
)
def test_a_budget_is_over_by_what_is_measured_or_planned(
    measured_w: float | None, within: bool, said: str | None
) -> None:
    outlook = replace(
        CALM,
        seen=signals(power=FleetPower(measured_w, "nvml")),
        best=replace(BEST, within_budget=within),
        policy=policy(power={"budget": "5W"}),
    )
    if said is None:
        assert ReasonCode.OVER_BUDGET not in codes(outlook)
    else:
        assert only(outlook, ReasonCode.OVER_BUDGET).message == f"{said} the budget 5.0 W"


def test_the_rungs_of_the_ladder_and_a_lost_slo_are_said() -> None:
    climbed = replace(BEST, rungs=("lowerClocks", "shedLowPriority"), holds_slo=False)
    outlook = replace(CALM, best=climbed)
    assert only(outlook, ReasonCode.BUDGET_LADDER).message == "over the budget: lowerClocks, shedLowPriority"
    assert (
        "no plan within bounds and budget holds p99 100 ms"
        in only(outlook, ReasonCode.SLO_UNREACHABLE).message
    )


def test_replicas_outside_of_the_bounds_are_said_but_not_in_a_first_window() -> None:
    assert only(CALM, ReasonCode.OUT_OF_BOUNDS, 9, 6).message == "9 replicas are outside of 1 to 6"
    assert ReasonCode.OUT_OF_BOUNDS not in codes(replace(CALM, first_window=True), 9, 9)


def test_unknown_watts_and_fields_without_effect_are_always_said() -> None:
    assert ReasonCode.WATTS_UNKNOWN in codes(replace(CALM, seen=signals()))
    carbon = policy(carbon={"intensityFile": "grid.csv"})
    assert [one.code for one in not_acted_on(carbon)] == [ReasonCode.NOT_ACTED_ON]
    assert codes(replace(CALM, policy=carbon))[-1] is ReasonCode.NOT_ACTED_ON


@given(
    st.booleans(),
    st.integers(0, 9),
    st.integers(1, 9),
    st.booleans(),
    st.one_of(st.none(), st.floats(0, 500)),
    st.sampled_from([100.0, math.inf]),
)
def test_every_decision_has_a_reason_and_fits_a_line(
    first_window: bool, current: int, desired: int, limited: bool, surplus_s: float | None, calm: float
) -> None:
    outlook = replace(
        CALM,
        first_window=first_window,
        stable=Stabilised(desired, surplus_s, limited),
        ahead=replace(CALM.ahead, calm_rps=calm),
    )
    reasons = explain(outlook, current, desired)
    assert ReasonCode.LOAD in {reason.code for reason in reasons}
    assert all(reason.message and "\n" not in reason.message for reason in reasons)
    decision = Decision(0.0, Action.KEEP, current, desired, POINT, 110.0, 0.05, 4.0, "measured", reasons)
    assert "\n" not in decision.line()
    assert "batch ≤ 8, delay ≤ 10 ms" in decision.line()


def test_another_variant_is_said_with_why_and_until_all_have_it() -> None:
    asked = replace(CALM, variant=Choice("int8", "fp16", True, "fp16", "with fp16 no fleet"))
    reason = only(asked, ReasonCode.VARIANT)
    assert reason.message == "int8 in the place of fp16: with fp16 no fleet"
    assert reason.values == {"variant": "int8", "was": "fp16"}
    loading = replace(
        CALM, variant=Choice("int8", "fp16"), seen=replace(CALM.seen, variants={"fp16": 1, "int8": 1})
    )
    assert only(loading, ReasonCode.VARIANT).values == {"variant": "int8", "others": 1}
    assert codes(replace(loading, variant=Choice("", ""))) == [ReasonCode.LOAD]
