"""The clairvoyant optimum: a bound below every contender, a schedule that keeps the SLO, and laws of both."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scaler.levers import TableKey
from scaler.policy import Policy
from scaler.settings import Settings
from scaler.simulate.baselines.contenders import baseline, initial_replicas
from scaler.simulate.minwatt import Minwatt
from scaler.simulate.optimum import optimum
from scaler.simulate.run import simulate
from scaler.simulate.slot_costs import UNREACHABLE, replica_costs, served
from scaler.simulate.world import World
from tests.sim.worlds import NO_DATA, policy, profile, world

BIN_S = 20.0


def plain(max_replicas: int = 6, error_budget: str = "0.1%", budget: str | None = None) -> Policy:
    """Without clocks, so that there are few levers to run."""
    document = policy(max_replicas).model_dump(mode="json", by_alias=True, exclude_none=True)
    spec = document["spec"]
    spec["slo"] |= {"latency": "50ms", "errorBudget": error_budget}
    spec |= {
        "gpu": {"clocks": "off"},
        "batching": {"maxSize": 64, "maxDelay": "20ms"},
        "power": {"budget": budget} if budget else {},
        "behavior": {"tick": "5s"},
        "telemetry": {},
    }
    return Policy.model_validate(document)


def small(rates_rps: list[float], **changes: object) -> World:
    return world(rates_rps, **({"policy": plain()} | changes))


ORDINARY = small([4_000.0, 20_000.0, 30_000.0, 12_000.0, 3_000.0, 3_000.0])


def test_the_schedule_keeps_the_slo_and_lies_at_the_bound() -> None:
    best = optimum(ORDINARY, 3)
    outcome = best.outcome
    assert outcome.contender == "optimum"
    assert outcome.over_slo_fraction <= 0.001
    assert best.bound_j <= outcome.energy_j <= 1.02 * best.bound_j
    assert outcome.seconds == pytest.approx(120.0)
    assert outcome.requests == pytest.approx(ORDINARY.traffic.requests, rel=0.01)
    assert 1 <= outcome.replicas_max <= 6
    assert outcome.energy_j == pytest.approx(outcome.idle_j + outcome.busy_j + outcome.startup_j)
    watts = outcome.series.watts
    assert float(watts.mean()) * outcome.seconds == pytest.approx(outcome.energy_j, rel=1e-3)


rates = st.lists(st.sampled_from([0.0, 500.0, 6_000.0, 13_000.0, 22_000.0, 40_000.0]), min_size=2, max_size=6)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rates_rps=rates, parked_w=st.sampled_from([0.0, 45.0]), seed=st.integers(0, 9))
def test_no_contender_that_keeps_the_slo_takes_less(
    rates_rps: list[float], parked_w: float, seed: int
) -> None:
    where = small(rates_rps, parked_w=parked_w, seed=seed)
    initial = initial_replicas(where)
    bound_j = optimum(where, initial).bound_j
    rivals = [
        baseline(name, where, initial)
        for name in (
            "static",
            "static-slack",
            "hpa",
            "hpa-slack",
            "kpa",
            "keda-rate",
            "ray-serve",
            "latency-ratio",
        )
    ]
    for rival in (Minwatt(where), *rivals):
        outcome = simulate(where, rival, initial, "binned")
        if outcome.over_slo_fraction <= 0.001:
            assert outcome.energy_j >= 0.999 * bound_j, rival.name


def test_is_what_trying_every_schedule_finds() -> None:
    """With so tight an error budget that nothing may be late, joules alone decide."""
    where = small([4_000.0, 33_000.0, 9_000.0, 18_000.0], policy=plain(4, "0.001%"))
    counts = where.traffic.counts
    costs = replica_costs(where, 1, BIN_S)
    watts, _ = costs.cheapest(1e6, np.inf)
    initial, start_up = 2, where.profile.start_up

    def joules(schedule: tuple[int, ...]) -> float:
        total, devices, before = 0.0, initial, initial
        for n, requests in zip(schedule, counts, strict=True):
            new = max(0, n - devices)
            devices += new
            total += new * start_up.joules
            total += (max(0, n - before) - new) * (start_up.joules - 45 * start_up.seconds)
            each_w = float(np.interp(requests / (n * BIN_S), costs.rates_rps, watts))
            total += (n * each_w + 45 * (devices - n)) * BIN_S
            before = n
        return total

    least_j = min(joules(schedule) for schedule in product(range(1, 5), repeat=len(counts)))
    assert optimum(where, initial).bound_j == pytest.approx(least_j, rel=1e-3)


@pytest.mark.parametrize(
    "dearer",
    [
        {"parked_w": 60.0},
        {"profile": profile(start_up_s=40.0)},
        {"policy": plain(error_budget="0.01%")},
        {"policy": plain(max_replicas=3)},
    ],
)
def test_dearer_worlds_have_no_lower_bound(dearer: dict[str, object]) -> None:
    plain_j = optimum(ORDINARY, 3).bound_j
    assert optimum(replace(ORDINARY, **dearer), 3).bound_j >= 0.9999 * plain_j  # type: ignore[arg-type]


def test_the_power_budget_is_kept_where_it_can_be() -> None:
    where = small([4_000.0, 12_000.0, 12_000.0, 4_000.0])
    free = optimum(where, 2)
    assert free.outcome.series.watts.max() > 250
    bound = replace(where, policy=plain(budget="250W"))
    tight = optimum(bound, 2)
    assert tight.outcome.series.watts.max() - 45 <= 250  # a parked device is not the plan's
    assert tight.bound_j >= free.bound_j - 1e-6


def test_more_than_the_fleet_can_do() -> None:
    where = small([4_000.0, 60_000.0, 60_000.0], policy=plain(max_replicas=2))
    best = optimum(where, 2)
    assert best.outcome.over_slo_fraction > 0.3
    assert best.bound_j == best.outcome.energy_j


def test_no_requests_and_no_data() -> None:
    idle = optimum(small([0.0, 0.0], parked_w=0.0), 1)
    assert idle.outcome.energy_j == pytest.approx(40 * 55.0)
    assert idle.bound_j == pytest.approx(40 * 55.0)
    gap = optimum(small([NO_DATA, 0.0, NO_DATA], parked_w=0.0), 1).outcome
    assert gap.seconds == pytest.approx(20.0)
    assert gap.energy_j == pytest.approx(20 * 55.0)
    nothing = optimum(small([NO_DATA, NO_DATA]), 1)
    assert (nothing.outcome.energy_j, nothing.bound_j) == (0.0, 0.0)


def test_a_lull_shorter_than_a_start_pays_for_is_sat_out() -> None:
    steady = optimum(small([28_000.0, 3_000.0, 28_000.0], bin_s=10.0, parked_w=45.0), 2).outcome
    assert steady.startup_j == 0
    long = optimum(small([28_000.0, 3_000.0, 28_000.0], bin_s=600.0, parked_w=0.0), 2).outcome
    assert long.startup_j == pytest.approx(profile().start_up.joules)
    assert long.reversals == 1


def test_the_best_lever_at_a_rate() -> None:
    costs = replica_costs(ORDINARY, 1, BIN_S)
    values, best = costs.cheapest(1.0, np.inf)
    low = int(np.searchsorted(costs.rates_rps, 3_000.0))
    assert costs.points[best[low]].max_delay_s == pytest.approx(0.02)  # company saves joules
    assert np.all(np.diff(values) > -0.5)
    assert np.all(costs.cheapest(1.0, 10.0)[0] == UNREACHABLE)


def test_the_levers_that_are_tried_are_as_good_as_all_of_the_planner() -> None:
    rate_rps = 4_500.0
    batching = plain().spec.batching.model_copy(update={"max_size": 8})
    spec = plain().spec.model_copy(update={"batching": batching})
    where = small([rate_rps], policy=plain().model_copy(update={"spec": spec}))
    costs = replica_costs(where, 1, BIN_S)
    tried_w = float(np.interp(rate_rps, costs.rates_rps, costs.cheapest(1.0, np.inf)[0]))
    all_w = []
    for lever in Settings(where.policy, where.profile).tables.at(TableKey(128.0, 1.0, 1.0)).levers:
        if lever.capacity_tps > rate_rps:
            done = served(where, lever.point, 1, rate_rps * BIN_S, BIN_S)
            joules = done.busy_j + 55 * (done.ready_s - done.busy_s)
            all_w.append((joules + done.over) / BIN_S)
    assert len(all_w) > 4
    assert tried_w <= 1.015 * min(all_w)
