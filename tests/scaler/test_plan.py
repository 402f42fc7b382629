"""The plan against every candidate there is, and its laws."""

from __future__ import annotations

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from scaler.operating_point import OperatingPoint
from scaler.plan import Candidate, Corrections, Demand, Limits, Planner
from tests.scaler.fleet_model import TEXT_TOKENS, profile

PROFILE = profile()

limits = st.builds(
    Limits,
    min_replicas=st.integers(1, 3),
    max_replicas=st.integers(3, 12),
    slo_latency_s=st.floats(0.005, 0.5),
    percentile=st.sampled_from([90.0, 99.0]),
    budget_w=st.one_of(st.none(), st.floats(0.5, 40)),
    max_batch_texts=st.integers(1, 24),
    max_delay_s=st.floats(0, 0.02),
)
demands = st.builds(Demand, st.floats(0, 2500), st.floats(2, 60))
corrections = st.builds(Corrections, st.floats(0.3, 3), st.floats(0.8, 2), st.floats(0.5, 2))


def every(planner: Planner, demand: Demand) -> list[Candidate]:
    bounds = planner.limits
    points = {planner.at(1, demand).point, *planner._points()}
    return [
        planner.predict(replicas, point, demand)
        for point in points
        for replicas in range(bounds.min_replicas, bounds.max_replicas + 1)
    ]


@settings(max_examples=60)
@given(limits, demands, corrections)
def test_the_plan_is_the_best_of_all_candidates(bounds: Limits, demand: Demand, learnt: Corrections) -> None:
    planner = Planner(PROFILE, bounds, corrections=learnt)
    best = planner.best(demand)
    candidates = every(planner, demand)
    affordable = [one for one in candidates if one.within_budget]
    holding = [one for one in affordable if one.holds_slo]
    assert bounds.min_replicas <= best.replicas <= bounds.max_replicas
    assert best.within_budget == bool(affordable)
    if holding:
        assert best.holds_slo
        assert best.watts <= min(one.watts for one in holding) * (1 + planner.rules.keep_within + 1e-9)
    elif affordable:
        least_s = min(one.tail_s for one in affordable)
        slack = planner.rules.harm_within * planner.rules.no_worse
        assert best.tail_s <= least_s * slack or math.isinf(least_s)
    else:
        assert best.replicas == bounds.min_replicas


def planner(**changes: object) -> Planner:
    base: dict[str, object] = {
        "min_replicas": 1,
        "max_replicas": 8,
        "slo_latency_s": 0.1,
        "percentile": 99.0,
        "budget_w": None,
        "max_batch_texts": 8,
        "max_delay_s": 0.01,
    }
    return Planner(PROFILE, Limits(**{**base, **changes}))  # type: ignore[arg-type]


def test_more_load_takes_more_replicas_and_more_watts() -> None:
    plans = [planner().best(Demand(rate, TEXT_TOKENS)) for rate in (60, 250, 400, 700)]
    assert [plan.replicas for plan in plans] == sorted({plan.replicas for plan in plans})
    assert [plan.watts for plan in plans] == sorted(plan.watts for plan in plans)
    assert all(plan.holds_slo for plan in plans)


def test_a_budget_leaves_fewer_replicas_and_says_that_the_slo_is_lost() -> None:
    free = planner().best(Demand(600, TEXT_TOKENS))
    bound = planner(budget_w=free.watts * 0.6).best(Demand(600, TEXT_TOKENS))
    assert bound.within_budget
    assert not bound.holds_slo
    assert bound.replicas < free.replicas


def test_an_slo_below_the_compute_of_one_text_does_not_start_every_replica() -> None:
    plan = planner(slo_latency_s=0.001).best(Demand(20, TEXT_TOKENS))
    assert not plan.holds_slo
    assert plan.replicas < 8


def test_an_overload_runs_everything_at_the_largest_batch() -> None:
    plan = planner().best(Demand(10_000, TEXT_TOKENS))
    assert (plan.replicas, plan.point.max_batch_texts, plan.holds_slo) == (8, 8, False)


def test_the_present_point_stays_while_it_is_nearly_as_good() -> None:
    demand = Demand(60, TEXT_TOKENS)
    best = planner().best(demand)
    near = OperatingPoint(7, best.point.max_batch_texts, 2048, 0.0075, 0.1)
    assert planner().best(demand, near).point == best.point  # 7.5 ms is no candidate
    present = planner().predict(1, OperatingPoint(3, 4, 2048, best.point.max_delay_s, 0.1), demand)
    assert present.holds_slo
    assert planner().best(demand, present.point).point.max_batch_texts == 4


def test_a_replica_that_computes_half_its_time_carries_half_the_load() -> None:
    line = PROFILE.service_time.model_copy(update={"saturation": 0.5})
    halved = Planner(profile(service_time=line), planner().limits)
    point = planner().best(Demand(100, TEXT_TOKENS)).point
    whole = planner().predict(1, point, Demand(120, TEXT_TOKENS))
    half = halved.predict(1, point, Demand(60, TEXT_TOKENS))
    assert half.load == whole.load
    assert half.watts < whole.watts


def test_parked_watts_stay_when_a_replica_goes() -> None:
    power = PROFILE.power.model_copy(update={"idle_w": 60.0, "busy_w": 300.0, "parked_w": 45.0})
    parking = Planner(profile(power=power), planner().limits)
    one, two = (parking.at(replicas, Demand(0.0, TEXT_TOKENS)).watts for replicas in (1, 2))
    assert two - one == 60.0 - 45.0
