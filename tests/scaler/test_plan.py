"""The plan against every candidate there is, and its laws."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from scaler.candidate import Candidate, Corrections, Demand, Present
from scaler.lever import Lever
from scaler.levers import LeverTables, Limits, PlanRules, TableKey
from scaler.operating_point import OperatingPoint
from scaler.plan import Planner
from scaler.profile import Profile, StartUp
from tests.scaler.made_up import TEXT_TOKENS, card, profile, service_time, variant

LADDER = ("lowerClocks", "cheaperVariant", "shedLowPriority")
LIMITS = Limits(
    min_replicas=1,
    max_replicas=8,
    slo_latency_s=0.1,
    percentile=99.0,
    miss=0.0005,
    budget_w=None,
    max_batch_texts=8,
    max_delay_s=0.01,
    clocks=True,
)
CARD = card()
RULES = PlanRules()


def planner(device: Profile = CARD, rules: PlanRules = RULES, **changes: object) -> Planner:
    return Planner(LeverTables(device, replace(LIMITS, **changes), rules))  # type: ignore[arg-type]


def load(expected_tps: float, upper: float = 1.0) -> Demand:
    return Demand(expected_tps, upper * expected_tps, TEXT_TOKENS)


# Hypothesis draws from a few planners, so that their tables are made once.
PLANNERS = [
    planner(rules=rules, slo_latency_s=slo_s, min_replicas=least, max_replicas=most, clocks=clocks)
    for rules in (RULES, PlanRules(imbalance=1.25))
    for slo_s, least, most, clocks in ((0.1, 1, 8, True), (0.05, 3, 12, True), (0.3, 1, 5, False))
]
planners = st.integers(0, len(PLANNERS) - 1).map(PLANNERS.__getitem__)
demands = st.builds(load, st.floats(0.01, 2500), st.floats(1, 3))
presents = st.builds(Present, ready=st.integers(0, 12), devices=st.integers(0, 12))
learnt = st.builds(
    Corrections,
    service=st.sampled_from([0.7, 1.0, 1.9]),
    latency=st.sampled_from([0.8, 1.0, 1.5]),
    watts=st.floats(0.5, 2),
)


def with_budget(one: Planner, budget_w: float | None, ladder: Sequence[str] = ()) -> Planner:
    """The same, and of its tables those that are made already."""
    tables = one.tables
    limits = replace(one.limits, budget_w=budget_w, when_over_budget=tuple(ladder))
    return replace(one, tables=replace(tables, limits=limits, _made=tables._made))


def levers(one: Planner) -> tuple[Lever, ...]:
    return one.tables.at(TableKey(TEXT_TOKENS, one.corrections.service, one.corrections.latency)).levers


def every(one: Planner, demand: Demand, present: Present) -> list[Candidate]:
    return [
        one.predict(replicas, lever.point, demand, present)
        for lever in levers(one)
        for replicas in range(one.limits.min_replicas, one.limits.max_replicas + 1)
    ]


@settings(max_examples=40)
@given(planners, demands, presents, learnt)
def test_without_a_budget_the_plan_is_the_best_of_all_candidates(
    bare: Planner, demand: Demand, present: Present, learnt: Corrections
) -> None:
    one = replace(bare, corrections=learnt)
    holding = [each for each in every(one, demand, present) if each.holds_slo]
    costs = one.costs(demand, present)
    assert one.limits.min_replicas <= costs.best.replicas <= one.limits.max_replicas
    assert costs.best.holds_slo == bool(holding)
    if not holding:
        assert not np.isfinite(costs.watts).any()
        return
    assert costs.best.replicas == min(each.replicas for each in holding)
    assert costs.best.replicas == one.required(demand)
    for replicas in range(one.limits.max_replicas + 1):
        same = [each.watts for each in holding if each.replicas == replicas]
        # A look-up between two rates of a table is off by a little.
        assert costs.watts[replicas] == pytest.approx(min(same, default=math.inf), rel=0.02)
        if same and replicas > 0:
            chosen = one.at(replicas, demand, present)
            assert chosen.holds_slo
            assert chosen.watts <= 1.02 * min(same)


@settings(max_examples=60)
@given(planners, demands, st.floats(1, 4), st.floats(1, 2))
def test_more_demand_never_takes_fewer_replicas(
    one: Planner, demand: Demand, more: float, wider: float
) -> None:
    higher = Demand(more * demand.expected_tps, more * wider * demand.upper_tps, demand.text_tokens)
    assert one.required(demand) <= one.required(higher)
    assert one.costs(demand).best.replicas <= one.costs(higher).best.replicas


@settings(max_examples=60)
@given(planners, demands)
def test_where_the_slo_is_held_the_predicted_tail_is_within_it(one: Planner, demand: Demand) -> None:
    best = one.costs(demand).best
    assume(best.holds_slo)
    assert one.tail_s(best.replicas, best.point, demand, 99.0) <= one.limits.slo_latency_s


@settings(max_examples=60)
@given(planners, demands, presents, st.floats(0.3, 2), st.permutations(LADDER), st.integers(0, 3))
def test_it_is_within_the_budget_whenever_anything_is(
    bare: Planner, demand: Demand, present: Present, share: float, order: list[str], rungs: int
) -> None:
    """But for a hundredth: a look-up between two rates of a table is off by a little."""
    present = replace(present, ready=0)  # start-up watts come and go
    budget_w = share * bare.costs(demand, present).best.watts
    one = with_budget(bare, budget_w, order[:rungs])
    costs = one.costs(demand, present)
    assert one.limits.min_replicas <= costs.best.replicas <= one.limits.max_replicas
    assert costs.best.rungs == tuple(order[: len(costs.best.rungs)])
    affordable = [
        each for each in every(with_budget(bare, 0.99 * budget_w), demand, present) if each.within_budget
    ]
    if any(each.holds_slo for each in affordable):
        assert costs.best.within_budget
        assert costs.best.holds_slo
        assert not costs.best.rungs
        assert np.isfinite(costs.watts).any()
    elif any(each.point.sm_clock_mhz == each.point.reflex_sm_clock_mhz for each in affordable):
        assert costs.best.within_budget
    looser = with_budget(bare, 1.01 * budget_w)
    for replicas in np.flatnonzero(np.isfinite(costs.watts)).tolist():
        assert looser.at(replicas, demand, present).within_budget
        assert looser.at(replicas, demand, present).holds_slo


def fleet_w(one: Planner, candidate: Candidate, demand: Demand) -> float:
    """What the replicas draw at the upper rate at just that point, by the levers themselves."""
    point = candidate.point
    setting = replace(point, shed_low_priority=False)
    lever = next(
        each
        for each in levers(one)
        if replace(each.point, reflex_sm_clock_mhz=point.reflex_sm_clock_mhz) == setting
    )
    if point.reflex_sm_clock_mhz == point.sm_clock_mhz:
        lever = replace(lever, raised=lever.engine)
    rate_tps = min(demand.upper_tps / candidate.replicas, lever.capacity_tps)
    return candidate.replicas * float(lever.watts(np.array([rate_tps]), one.limits.slo_latency_s)[0])


@settings(max_examples=80)
@given(demands, st.floats(0.1, 2), st.permutations(LADDER))
def test_the_budget_is_kept_by_what_the_replicas_may_draw(
    demand: Demand, share: float, order: list[str]
) -> None:
    """Not only by what is predicted: at the upper rate, with all that the point allows."""
    budget_w = share * PLANNERS[0].costs(demand).best.watts
    one = with_budget(PLANNERS[0], budget_w, order)
    best = one.costs(demand).best
    drawn_w = fleet_w(one, best, demand)
    if best.within_budget:
        assert drawn_w <= budget_w * 1.02
    else:
        assert drawn_w >= budget_w * 0.98
        assert (best.replicas, best.rungs) == (one.limits.min_replicas, tuple(order))


def test_the_ladder_is_climbed_in_the_given_order_and_no_further_than_it_takes() -> None:
    demand, one = load(1000), PLANNERS[0]
    free = one.costs(demand).best
    assert free.holds_slo
    climbed, carried = [], []
    for budget_w in np.linspace(2 * free.watts, 150, 60):
        best = with_budget(one, float(budget_w), LADDER).costs(demand).best
        assert best.within_budget
        climbed.append(best.rungs)
        carried.append(best.replicas)
    assert climbed[0] == ()
    assert LADDER[:1] in climbed, "slow clocks carry it all, though slower than the SLO"
    assert climbed[-1] == LADDER
    assert [len(rungs) for rungs in climbed] == sorted(len(rungs) for rungs in climbed)


VARIANTS = profile(
    variant(name="fp16", accuracy=0.95),
    variant(name="int8", accuracy=0.93, service_time=service_time(beta_s_per_token=0.002 / TEXT_TOKENS)),
    clock_sets=CARD.clock_sets,
)


@pytest.mark.parametrize(
    "order", [LADDER, LADDER[::-1], ("cheaperVariant", "shedLowPriority", "lowerClocks")]
)
def test_each_rung_adds_its_own_and_keeps_what_was_climbed_before(order: tuple[str, ...]) -> None:
    """Of two variants, at a load that no rung can carry: what each rung allowed is in the points."""
    for rungs in range(len(order) + 1):
        one = planner(
            VARIANTS,
            budget_w=2.0,
            when_over_budget=order[:rungs],
            max_replicas=3,
        )
        best = one.costs(load(5000)).best
        assert best.within_budget == ("lowerClocks" in order[:rungs])
        assert best.rungs in [order[:few] for few in range(rungs + 1)]
        assert best.point.shed_low_priority == ("shedLowPriority" in best.rungs)
        if "lowerClocks" not in best.rungs:
            assert best.point.sm_clock_mhz == 1410
        if "cheaperVariant" not in best.rungs:
            assert best.point.variant == "fp16"
        if best.rungs:
            assert best.point.reflex_sm_clock_mhz == best.point.sm_clock_mhz


def test_replicas_that_start_over_the_budget_count_with_their_start_up() -> None:
    slow = card(start_up=StartUp(basis="assumed", seconds=2, joules=2000))
    bound = planner(slow, budget_w=900.0, when_over_budget=LADDER)
    settled, growing = (bound.costs(load(2000), Present(ready=ready, devices=8)).best for ready in (8, 1))
    assert settled.within_budget
    assert growing.within_budget
    assert growing.replicas == 1 < settled.replicas


@settings(max_examples=60)
@given(planners, st.floats(200, 1500), st.integers(1, 6), st.floats(1, 1.5), st.integers(0, len(LADDER)))
def test_while_some_start_the_others_carry_the_whole_load_within_the_budget(
    bare: Planner, rate: float, ready: int, room: float, rungs: int
) -> None:
    """Budgets at which all of them answering would be fine."""
    demand, start_up = load(rate), bare.profile.start_up
    one = with_budget(bare, room * bare.costs(demand).best.watts, LADDER[:rungs])
    best = one.costs(demand, Present(ready=ready, devices=ready)).best
    assume(best.within_budget and best.replicas > ready)
    alone_w = one.predict(ready, best.point, demand).watts
    starting_w = (best.replicas - ready) * start_up.joules / start_up.seconds
    assert one.limits.budget_w is not None
    assert alone_w + starting_w <= 1.01 * one.limits.budget_w


def test_a_budget_that_nothing_keeps_takes_the_whole_ladder_and_the_fewest_watts() -> None:
    demand = load(150)
    bound = planner(budget_w=60.0, when_over_budget=LADDER)
    best = bound.costs(demand).best
    assert (best.replicas, best.rungs, best.within_budget) == (1, LADDER, False)
    for lever in levers(bound):
        pinned = replace(lever, raised=lever.engine)
        rate_tps = min(150.0, pinned.capacity_tps)
        assert best.watts <= 1.001 * pinned.watts(np.array([rate_tps]), 0.1)[0]


def test_what_is_predicted_of_a_pinned_clock_is_without_the_reflex() -> None:
    """Over the budget no replica may raise its clock: neither do its predicted watts."""
    point = planner().at(2, load(50)).point
    slow = replace(point, max_batch_texts=8, sm_clock_mhz=940, reflex_sm_clock_mhz=1410, reflex_backlog_s=0.0)
    pinned = replace(slow, reflex_sm_clock_mhz=940)
    demand = load(2 * 180)
    with_reflex, without = (planner().predict(2, one, demand) for one in (slow, pinned))
    engine = CARD.engine(TEXT_TOKENS, "", CARD.clock_steps()[-1])
    assert without.watts == pytest.approx(2 * engine.watts(engine.capacity_tps(8), 8), rel=0.02)
    assert without.watts < with_reflex.watts
    assert not without.holds_slo
    assert with_reflex.load == pytest.approx(without.load / 1.5, rel=0.02)


def test_a_slower_clock_is_set_where_it_saves_and_the_slo_allows() -> None:
    demand = load(300)
    free, fixed = planner().costs(demand), planner(clocks=False).costs(demand)
    assert free.best.point.sm_clock_mhz < 1410
    assert free.best.holds_slo
    assert free.watts[free.cheapest] < 0.95 * fixed.watts[fixed.cheapest]
    alone_s = CARD.engine(TEXT_TOKENS).service_s(1)
    tight = planner(slo_latency_s=3.2 * alone_s).costs(load(20)).best
    assert tight.holds_slo
    assert tight.point.sm_clock_mhz == 1410
    dear = CARD.clock_sets[0].model_copy(
        update={
            "steps": tuple(step.model_copy(update={"power_factor": 1.0}) for step in CARD.clock_sets[0].steps)
        }
    )
    kept = planner(card(clock_sets=(dear,))).costs(demand).best
    assert kept.point.sm_clock_mhz == 1410, "as many watts for longer save nothing"


def test_an_accuracy_floor_is_never_traded_for_watts() -> None:
    demand = load(150)
    assert planner(VARIANTS).costs(demand).best.point.variant == "int8"
    floor = planner(VARIANTS, min_accuracy=0.94, budget_w=2.0, when_over_budget=LADDER)
    for tps in (10, 150, 5000):
        assert floor.costs(load(tps)).best.point.variant == "fp16"


def test_while_replicas_start_their_watts_count() -> None:
    """Three of five answer, the others draw 1 kW each until they do."""
    slow = card(start_up=StartUp(basis="assumed", seconds=2, joules=2000))
    demand, few = load(600), Present(ready=3, devices=5)
    watts = planner(slow).costs(demand).watts
    assert np.isfinite(watts[5])
    tight = planner(slow, budget_w=1.2 * watts[5])
    assert tight.costs(demand, replace(few, ready=5)).watts[5] == watts[5]
    assert math.isinf(tight.costs(demand, few).watts[5])
    enough = planner(slow, budget_w=2000 + watts[5])
    assert enough.costs(demand, few).watts[5] == watts[5], (
        "a start-up is no part of what a size costs for good"
    )


@given(st.integers(0, 8), st.integers(1, 8))
def test_parked_watts_stay_when_a_replica_goes(devices: int, replicas: int) -> None:
    costs = PLANNERS[0].costs(load(0.01), Present(devices=devices))
    alone = PLANNERS[0].costs(load(0.01)).watts[replicas]
    assert costs.watts[replicas] == pytest.approx(alone + 45 * max(0, devices - replicas), rel=1e-3)
    assert costs.watts[replicas] == pytest.approx(
        PLANNERS[0].at(replicas, load(0.01), Present(devices=devices)).watts
    )


def test_more_load_takes_more_replicas_and_more_watts() -> None:
    costs = [planner().costs(load(rate)) for rate in (60, 250, 500, 1000)]
    assert [one.best.replicas for one in costs] == sorted({one.best.replicas for one in costs})
    watts = [float(one.watts[one.cheapest]) for one in costs]
    assert watts == sorted(watts)
    assert all(one.best.holds_slo for one in costs)


def test_headroom_costs_replicas_and_no_faster_clock_where_the_reflex_has_time() -> None:
    patient = planner(slo_latency_s=1.0)
    calm, wary = (patient.costs(Demand(600, upper, TEXT_TOKENS)) for upper in (600, 1000))
    assert wary.best.replicas > calm.best.replicas
    assert wary.watts[wary.best.replicas] == pytest.approx(calm.watts[wary.best.replicas], rel=0.05)
    assert wary.best.point.sm_clock_mhz < 1410


def test_an_overload_runs_everything_at_the_full_clock_and_the_largest_batch() -> None:
    best = planner().costs(load(10_000)).best
    assert (best.replicas, best.holds_slo) == (8, False)
    assert (best.point.max_batch_texts, best.point.sm_clock_mhz) == (8, 1410)


def test_an_slo_below_the_compute_of_one_text_does_not_start_every_replica() -> None:
    best = planner(slo_latency_s=0.001).costs(load(20)).best
    assert not best.holds_slo
    assert best.replicas == 1


@settings(max_examples=60)
@given(planners, demands, st.integers(1, 8), st.integers(0, 40))
def test_the_present_point_stays_while_it_is_as_good(
    one: Planner, demand: Demand, replicas: int, nth: int
) -> None:
    best = one.at(replicas, demand)
    assume(best.holds_slo)
    point = replace(levers(one)[nth % len(levers(one))].point, version=7)
    kept = one.at(replicas, demand, current=point)
    assert kept.holds_slo
    assert kept.watts <= best.watts * (1 + one.rules.keep_within + 0.02)
    present = one.predict(replicas, point, demand)
    if present.holds_slo and present.watts <= best.watts:
        assert kept.point == replace(point, version=0)
    unknown = OperatingPoint(3, 5, 2048, 0.0033, 0.1)
    assert one.at(replicas, demand, current=unknown).point == best.point


def test_a_correction_of_the_watts_is_in_every_figure() -> None:
    demand = load(300)
    plain, doubled = planner(), replace(planner(), corrections=Corrections(watts=2.0))
    assert doubled.costs(demand).watts[3] == pytest.approx(2 * plain.costs(demand).watts[3])
    assert doubled.at(3, demand).watts == pytest.approx(2 * plain.at(3, demand).watts)


@given(st.floats(1, 800), st.integers(1, 8))
def test_a_tail_falls_with_replicas_and_is_infinite_in_an_overload(tps: float, replicas: int) -> None:
    one = PLANNERS[-1]  # without a reflex
    point = one.at(1, load(1)).point
    undelayed = replace(point, max_delay_s=0.0)
    tails = [one.tail_s(count, undelayed, load(tps), 99.0) for count in (replicas, replicas + 1)]
    assert tails[0] == math.inf or tails[1] <= tails[0] * 1.001 or replicas == 1  # imbalance begins with two
    assert one.tail_s(1, point, load(1e5), 99.0) == math.inf


def test_replicas_that_start_are_counted_as_the_profile_says() -> None:
    sizes = [PLANNERS[0].required(load(float(tps))) for tps in range(1, 1500, 25)]
    assert sizes == sorted(sizes)
    assert all(b - a <= 1 for a, b in pairwise(sizes)), "25 texts a second are less than a replica"
