"""Which variant is asked for: laws of the choice by itself, and of the control functions beside a fleet."""

from __future__ import annotations

import math

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from scaler.decision import Decision, ReasonCode
from scaler.settings import Settings
from scaler.variants import Choice, Offer, SwitchRules, VariantState, choose
from tests.scaler.fleet_model import new_run
from tests.scaler.made_up import TEXT_TOKENS, policy, power, profile, service_time, variant

RULES = SwitchRules(switch_j=10.0, start_j=10.0, switch_s=2.0)
INF = math.inf


def offers(**watts: float) -> dict[str, Offer]:
    """Of variants that need two replicas each."""
    return {name: Offer(value, 2) for name, value in watts.items()}


class Ticks:
    """`choose` once a second; every replica has the variant that was asked for a second ago."""

    def __init__(self, begin: str, rules: SwitchRules = RULES, replicas: int = 2) -> None:
        self.state = VariantState(begin)
        self.asked = [begin]
        self.rules = rules
        self.replicas = replicas
        self.joules = 0.0
        self.now_s = 0.0

    @property
    def switches(self) -> int:
        return sum(a != b for a, b in zip(self.asked, self.asked[1:], strict=False))

    def tick(self, offered: dict[str, Offer]) -> Choice:
        self.now_s += 1.0
        before = self.asked[-1]
        self.state, choice = choose(
            self.state, offered, {before: self.replicas}, self.replicas, self.now_s, self.rules
        )
        if choice.asked != before:
            self.joules += self.rules.switch_j * self.replicas
        self.joules += offered[choice.asked].watts
        self.asked.append(choice.asked)
        return choice


@given(st.floats(1, 1000), st.floats(1, 1000), st.integers(20, 400))
def test_at_constant_watts_there_is_at_most_one_switch_and_only_to_fewer(
    a: float, b: float, ticks: int
) -> None:
    run = Ticks("a")
    for _ in range(ticks):
        run.tick(offers(a=a, b=b))
    assert run.switches == (run.asked[-1] == "b")
    if run.asked[-1] == "b":
        assert b < (1 - RULES.tolerance) * a
    elif b < (1 - RULES.tolerance) * a:
        assert (a - b) * (ticks - 2) < 2 * RULES.switch_j * run.replicas, (
            "it would have paid for itself twice"
        )


@given(st.lists(st.floats(-1, 1), min_size=50, max_size=300), st.floats(5, 50))
def test_watts_that_scatter_about_one_another_move_nothing(noise: list[float], base: float) -> None:
    """Within the tolerance no switch is worth its joules, however long it goes on."""
    run = Ticks("a")
    for one in noise:
        run.tick(offers(a=base, b=base * (1 + 0.029 * one)))
    assert run.switches == 0


@given(st.lists(st.tuples(st.floats(1, 100), st.floats(1, 100)), min_size=1, max_size=200))
def test_the_joules_are_at_most_thrice_those_of_who_knows_what_comes(
    watts: list[tuple[float, float]],
) -> None:
    """Up to a constant: the work function's bound. The tolerance adds to it."""
    run = Ticks("a")
    best = {"a": 0.0, "b": 20.0}
    for a, b in watts:
        run.tick(offers(a=a, b=b))
        best = {"a": min(best["a"], best["b"] + 20) + a, "b": min(best["b"], best["a"] + 20) + b}
    assert run.joules <= (3 + RULES.tolerance) * min(best.values()) + 40


@given(st.lists(st.sampled_from([(5.0, 9.0), (INF, 9.0), (9.0, 5.0), (INF, INF)]), max_size=120))
def test_nobody_stays_with_a_variant_that_does_not_hold_where_another_does(
    watts: list[tuple[float, float]],
) -> None:
    run = Ticks("a")
    for a, b in watts:
        under_way = run.tick(offers(a=a, b=b))
        if math.isfinite(min(a, b)):
            assert math.isfinite({"a": a, "b": b}[under_way.asked])


def test_who_comes_back_has_saved_two_switches_since() -> None:
    """Forced away, it pays to return only after the way there and back."""
    run = Ticks("a")
    run.tick(offers(a=10, b=20))
    run.tick(offers(a=INF, b=20))
    assert run.asked[-1] == "b"
    ticks = 0
    while run.asked[-1] == "b":
        run.tick(offers(a=10, b=20))
        ticks += 1
    assert ticks * 10 >= 2 * RULES.switch_j * run.replicas


def test_a_variant_that_holds_by_a_hair_is_not_returned_to() -> None:
    run = Ticks("b")
    for _ in range(100):
        run.tick({"a": Offer(10.0, 2, calm=False), "b": Offer(20.0, 2)})
    assert run.switches == 0


def test_a_switch_under_way_ends_before_the_next_and_is_planned_as_the_weaker() -> None:
    offered = {"a": Offer(INF, 4, overload=2.0), "b": Offer(9.0, 2)}
    state, choice = choose(VariantState("a"), offered, {"a": 3}, 3, 1.0, RULES)
    assert (choice.asked, choice.running, choice.instead_of) == ("b", "a", "a")
    back = {"a": Offer(1.0, 1), "b": Offer(INF, 4)}
    state, choice = choose(state, back, {"a": 2, "b": 1}, 3, 2.0, RULES)
    assert (choice.asked, choice.running, choice.instead_of) == ("b", "b", "")
    state, choice = choose(state, offered, {"b": 3}, 3, 3.0, RULES)
    assert (choice.asked, choice.running) == ("b", "b")
    _, choice = choose(state, back, {"b": 3}, 3, 4.0, RULES)
    assert choice.asked == "a"


def test_replicas_that_never_take_it_do_not_hold_the_others_up() -> None:
    offered = offers(a=INF, b=9)
    state, _ = choose(VariantState("a"), offered, {"a": 3}, 3, 0.0, RULES)
    for now_s, running in ((1.0, {"a", "b"}), (21.0, {"b"})):
        state, choice = choose(
            state, {"a": Offer(INF, 5), "b": Offer(9.0, 2)}, {"a": 1, "b": 2}, 3, now_s, RULES
        )
        assert choice.asked == "b"
        assert choice.running in running


def test_a_scaler_beside_a_fleet_goes_on_with_what_most_answer_with() -> None:
    for answering, asked in (
        ({"a": 1, "b": 2}, "b"),
        ({"older": 9, "a": 1}, "a"),
        ({}, "b"),
        ({"older": 2}, "b"),
    ):
        _, choice = choose(VariantState(), offers(a=9, b=5), answering, 3, 0.0, RULES)
        assert (choice.asked, choice.instead_of) == (asked, "")


@pytest.mark.parametrize(
    ("rungs_before", "own", "other", "asked"),
    [
        (None, Offer(INF, 2, overload=2.0), Offer(INF, 2), "a"),  # not in whenOverBudget
        (0, Offer(INF, 2, overload=2.0), Offer(INF, 2), "b"),
        (0, Offer(INF, 2, overload=2.0), Offer(INF, 2, overload=1.99), "a"),
        (0, Offer(INF, 2), Offer(INF, 2), "a"),
        (0, Offer(INF, 2, within_budget=False), Offer(INF, 2, overload=3.0), "b"),
        (0, Offer(INF, 2, rungs=1), Offer(INF, 2), "b"),  # rather another variant than slower clocks
        (1, Offer(INF, 2, rungs=1), Offer(INF, 2), "a"),  # rather slower clocks
    ],
)
def test_over_the_budget_the_ladder_decides(
    rungs_before: int | None, own: Offer, other: Offer, asked: str
) -> None:
    rules = SwitchRules(10.0, 10.0, 2.0, rungs_before=rungs_before)
    state, choice = choose(VariantState("a"), {"a": own, "b": other}, {"a": 2}, 2, 0.0, rules)
    assert choice.asked == asked
    assert bool(choice.why) == (asked == "b")
    for now_s in range(1, 30):
        state, choice = choose(state, {"a": own, "b": other}, {asked: 2}, 2, float(now_s), rules)
        assert choice.asked == asked, "and it stays"


# Beside a fleet: `slow` draws less while little comes, `fast` less per text.
SLOW = variant(
    name="slow", accuracy=0.95, service_time=service_time(alpha_s=0.002, beta_s_per_token=0.008 / TEXT_TOKENS)
)
FAST = variant(
    name="fast",
    accuracy=0.90,
    service_time=service_time(alpha_s=0.001, beta_s_per_token=0.002 / TEXT_TOKENS),
    power=power(idle_w=1.1),
)
TWO = profile(SLOW, FAST)
LADDER = {"whenOverBudget": ["cheaperVariant"]}
FREE, TIGHT, FLOOR = (
    Settings(policy(**spec), TWO)
    for spec in (
        {},
        {"power": {"budget": "4W", **LADDER}},
        {"power": {"budget": "3W", **LADDER}, "variants": {"minAccuracy": 0.94}},
    )
)
minutes = settings(max_examples=3, phases=(Phase.explicit, Phase.reuse, Phase.generate))


def asked(decisions: list[Decision]) -> list[str]:
    """One after another."""
    names = [one.operating_point.variant for one in decisions if one.operating_point is not None]
    return [name for before, name in zip(["", *names], names, strict=False) if name != before]


@minutes
@given(st.sampled_from([5.0, 40.0, 90.0, 110.0, 160.0, 300.0]), st.integers(0, 2**16))
def test_at_a_steady_load_variants_do_not_flap(rate_rps: float, seed: int) -> None:
    run = new_run(FREE, seed=seed).seconds(300, rate_rps)
    assert len(asked(run.decisions)) <= 2
    assert len(asked(run.since(150.0))) <= 1


@minutes
@given(st.sampled_from([5.0, 90.0, 300.0]), st.integers(0, 2**16))
def test_a_budget_at_its_edge_makes_no_variant_flap(rate_rps: float, seed: int) -> None:
    run = new_run(TIGHT, seed=seed).seconds(300, rate_rps)
    assert len(asked(run.decisions)) <= 3
    assert len(asked(run.since(150.0))) <= 1


def test_a_budget_asks_for_the_cheaper_variant_and_says_why() -> None:
    tight = policy(power={"budget": "6W", **LADDER})
    run = new_run(Settings(tight, TWO)).seconds(60, 5.0).seconds(60, 200.0)
    assert asked(run.decisions) == ["slow", "fast"]
    reasons = [why for one in run.decisions for why in one.reasons if why.code is ReasonCode.VARIANT]
    assert reasons[0].message.startswith(
        "fast in the place of slow: with slow no fleet within bounds and budget"
    )
    assert all(second.watts <= 6.05 for second in run.fleet.history[90:])


@minutes
@given(
    st.lists(st.sampled_from([2.0, 50.0, 150.0, 400.0, 900.0]), min_size=1, max_size=8), st.integers(0, 2**16)
)
def test_no_load_and_no_budget_asks_for_less_accuracy_than_the_floor(rates: list[float], seed: int) -> None:
    run = new_run(FLOOR, seed=seed)
    for rate in rates:
        run.seconds(20, rate)
    assert asked(run.decisions) == ["slow"]
