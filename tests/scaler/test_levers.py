"""What each operating point can carry, and at how many watts: laws over profiles, SLOs and bounds."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import repeat

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minwatt.resources import resource
from minwatt.v1.reflex import ReflexRule
from scaler.latency import tail_s
from scaler.levers import (
    Lever,
    LeverTable,
    LeverTables,
    Limits,
    PlanRules,
    TableKey,
    allowed_variants,
    make_table,
    most_within_slo,
)
from scaler.profile import Profile, load_profile
from scaler.simulate.replica import Replica, gamma_gaps
from scaler.simulate.rules import Rules
from tests.scaler.made_up import CLOCKS, TEXT_TOKENS, card, power, profile, service_time, variant

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
USUAL = TableKey(TEXT_TOKENS, 1.0, 1.0)
RULES = PlanRules()


def made(
    limits: Limits = LIMITS, profile: Profile = CARD, rules: PlanRules = RULES, key: TableKey = USUAL
) -> LeverTable:
    return make_table(LeverTables(profile, limits, rules), key)


@st.composite
def cards(draw: st.DrawFn) -> Profile:
    """A device with three clocks. At each, a busy one draws more than an idle one."""
    idle_w = draw(st.floats(1, 60))
    batch_w = idle_w / CLOCKS.steps[-1].power_factor + draw(st.floats(0.1, 100))
    line = service_time(
        alpha_s=draw(st.floats(1e-4, 0.01)), beta_s_per_token=draw(st.floats(1e-5, 5e-3)) / TEXT_TOKENS
    )
    watts = power(idle_w=idle_w, batch_w=batch_w, token_w=batch_w + draw(st.floats(0, 200)))
    return profile(variant(service_time=line, power=watts), clock_sets=(CLOCKS,))


bounds = st.builds(
    replace,
    st.just(LIMITS),
    slo_latency_s=st.floats(0.005, 0.5),
    max_batch_texts=st.integers(1, 24),
    max_delay_s=st.one_of(st.just(0.0), st.floats(0.001, 0.05)),
    clocks=st.booleans(),
)
few = settings(max_examples=25)


@few
@given(bounds, cards())
def test_levers_keep_to_the_policy_and_each_is_there_once(limits: Limits, device: Profile) -> None:
    table = made(limits, device)
    points = [lever.point for lever in table.levers]
    assert len(set(points)) == len(points)
    assert max(point.max_batch_texts for point in points) == limits.max_batch_texts
    assert max(point.max_delay_s for point in points) == (
        limits.max_delay_s if limits.max_batch_texts > 1 else 0
    )
    clocks = {1410, 1175, 940} if limits.clocks else {0}
    assert {point.sm_clock_mhz for point in points} == clocks
    assert {point.reflex_sm_clock_mhz for point in points} == {max(clocks)}
    assert {point.slo_latency_s for point in points} == {limits.slo_latency_s}


@few
@given(bounds, cards())
def test_those_that_carry_most_come_first_and_the_envelope_is_the_least_of_them(
    limits: Limits, device: Profile
) -> None:
    table = made(limits, device)
    assert (np.diff(table.cap_tps) <= 0).all()
    assert (np.diff(table.grid_tps) > 0).all()
    assert np.isinf(table.best_w[0]).all()
    for k in range(1, len(table.levers) + 1):
        assert np.array_equal(table.best_w[k], table.watts[:k].min(axis=0))
        assert (table.best[k] < k).all()
        assert np.array_equal(table.best_w[k], table.watts[table.best[k], np.arange(len(table.grid_tps))])


@few
@given(bounds, cards())
def test_the_fewest_watts_of_a_replica_grow_with_what_it_carries(limits: Limits, device: Profile) -> None:
    table = made(limits, device)
    idle_w = device.variant().power.idle_w
    fewest_w = table.best_w[-1]
    assert fewest_w[0] == pytest.approx(idle_w)
    assert (np.diff(fewest_w) >= -1e-9 * fewest_w[1:]).all()


@few
@given(bounds, cards(), st.data())
def test_up_to_its_cap_a_lever_holds_the_slo(limits: Limits, device: Profile, data: st.DataObject) -> None:
    """At the set clock, or with the reflex at the full one without delay."""
    table = made(limits, device)
    index = data.draw(st.integers(0, len(table.levers) - 1))
    lever, cap_tps = table.levers[index], float(table.cap_tps[index])
    if cap_tps == 0:
        return
    rate = np.array([cap_tps * data.draw(st.floats(0.3, 1))])
    own = lever.server(limits.slo_latency_s)
    raised = replace(own, engine=lever.raised, max_delay_s=0.0)
    tail = min(tail_s(own, rate, limits.miss)[0], tail_s(raised, rate, limits.miss)[0])
    assert tail <= limits.slo_latency_s * RULES.slo_share * 1.02
    assert cap_tps <= RULES.max_load * lever.capacity_tps


@few
@given(bounds, cards())
def test_the_reflex_raises_what_slow_clocks_carry_up_to_the_full_one(limits: Limits, device: Profile) -> None:
    limits = replace(limits, clocks=True)
    table = made(limits, device)
    full_tps = {
        (lever.point.max_batch_texts, lever.point.max_delay_s): cap
        for lever, cap in zip(table.levers, table.cap_tps, strict=True)
        if lever.engine == lever.raised
    }
    for lever, cap in zip(table.levers, table.cap_tps, strict=True):
        size, delay_s = lever.point.max_batch_texts, lever.point.max_delay_s
        alone_tps = most_within_slo(replace(lever, raised=lever.engine), limits, RULES)
        assert cap >= alone_tps
        assert cap <= max(full_tps[size, 0.0], full_tps[size, delay_s])


def test_a_slow_clock_carries_what_the_full_one_does_where_the_slo_leaves_time_for_the_clock() -> None:
    relaxed = made(replace(LIMITS, slo_latency_s=1.0))
    by_clock = {
        mhz: max(
            cap
            for lever, cap in zip(relaxed.levers, relaxed.cap_tps, strict=True)
            if (lever.fits, lever.point.max_delay_s, lever.point.sm_clock_mhz) == (8, 0.0, mhz)
        )
        for mhz in (940, 1175, 1410)
    }
    assert by_clock[940] == by_clock[1175] == by_clock[1410]
    tight = made(replace(LIMITS, slo_latency_s=0.06))
    caps = dict(zip((lever.point for lever in tight.levers), tight.cap_tps, strict=True))
    slow = [point for point in caps if point.max_batch_texts == 8 and point.sm_clock_mhz == 940]
    assert all(caps[point] < caps[replace(point, sm_clock_mhz=1410, reflex_backlog_s=0.0)] for point in slow)


@settings(max_examples=12)
@given(bounds, cards(), st.floats(1, 2), st.floats(1, 3), st.floats(1, 4))
def test_what_is_slower_carries_no_more(
    limits: Limits, device: Profile, slo: float, service: float, tokens: float
) -> None:
    def cap(bound: Limits, key: TableKey) -> float:
        return float(made(bound, device, key=key).cap_tps[0])

    best = cap(replace(limits, slo_latency_s=slo * limits.slo_latency_s), USUAL)
    usual = cap(limits, USUAL)
    # Each search is over a grid of rates: right to a part in fifty.
    assert usual <= best * 1.02
    assert cap(limits, TableKey(TEXT_TOKENS, service, 1.0)) <= usual * 1.02
    assert cap(limits, TableKey(TEXT_TOKENS, 1.0, slo)) <= usual * 1.02
    assert cap(limits, TableKey(tokens * TEXT_TOKENS, 1.0, 1.0)) <= usual * 1.02


def test_an_slo_that_one_text_alone_would_miss_is_held_by_no_lever() -> None:
    alone_s = card().engine(TEXT_TOKENS).service_s(1)
    assert made(replace(LIMITS, slo_latency_s=alone_s)).cap_tps.max() == 0


def test_long_texts_fill_a_batch_by_their_tokens() -> None:
    tokens = card().replica.max_batch_tokens
    fits = {lever.point.max_batch_texts: lever.fits for lever in made(key=TableKey(tokens / 3, 1, 1)).levers}
    assert (fits[1], fits[2], fits[8]) == (1, 2, 3)
    longer = made(key=TableKey(2.0 * tokens, 1, 1))
    assert {lever.fits for lever in longer.levers} == {1}


def test_beyond_the_set_clock_a_replica_draws_a_mixture_up_to_the_full_clocks_watts() -> None:
    table = made()
    for lever in table.levers:
        rates = np.linspace(0, lever.capacity_tps, 50)
        watts = lever.watts(rates, LIMITS.slo_latency_s)
        full = replace(lever, engine=lever.raised)
        full_w = full.watts(np.array([lever.capacity_tps]), LIMITS.slo_latency_s)[0]
        assert watts[0] == pytest.approx(lever.engine.idle_w)
        assert watts[-1] == pytest.approx(full_w, rel=0.15)  # the clock comes back now and then
        assert (np.diff(watts) >= -1e-9).all()


def simulated_w(lever: Lever, rate_tps: float, slo_latency_s: float) -> float:
    """Of a replica with the reflex, by its batches."""
    text_s = lever.engine.service_s(lever.fits) / lever.fits
    rules = Rules(
        engine=lever.engine,
        raised=lever.raised,
        backlog_s_per_text=text_s,
        batch_texts=lever.fits,
        full_texts=lever.fits,
        delay_s=lever.point.max_delay_s,
        due_s=0.8 * slo_latency_s,
        caution=1.0,
        slo_latency_s=slo_latency_s,
        clock_delay_s=RULES.reflex_delay_s,
        noise=0.0,
        queue_texts=10**6,
        overload_texts=10**6,
        reflex=ReflexRule.raised_above(lever.times.short_s, slo_latency_s),
    )
    replica = Replica(rules, repeat(1.0))
    arrivals_s = np.cumsum(gamma_gaps(40_000, 1.0, np.random.default_rng(1))) / rate_tps
    replica.advance(arrivals_s.tolist(), math.inf)
    seconds, totals = float(arrivals_s[-1]), replica.totals
    return (totals.busy_j + lever.engine.idle_w * (seconds - totals.busy_s)) / seconds


@pytest.mark.parametrize("device", ["a100", "t4"])
@pytest.mark.parametrize("size", [1, 8, 64])
def test_watts_are_those_of_a_simulated_replica_that_raises_its_clock(device: str, size: int) -> None:
    reference = load_profile(resource(f"profiles/reference/{device}-bert-base-int8.yaml"))
    limits = replace(LIMITS, slo_latency_s=0.05, max_batch_texts=64, max_delay_s=0.0)
    table = made(limits, reference, key=TableKey(reference.text_tokens, 1, 1))
    slowest = min(lever.point.sm_clock_mhz for lever in table.levers)
    levers = [
        (lever, float(cap_tps))
        for lever, cap_tps in zip(table.levers, table.cap_tps, strict=True)
        if (lever.point.max_batch_texts, lever.point.sm_clock_mhz) == (size, slowest) and cap_tps > 0
    ]
    assert {lever.point.reflex_backlog_s for lever, _ in levers} >= {0.0}
    for lever, cap_tps in levers:
        for share in (0.3, 0.7, 0.9, 1.0):
            rate_tps = share * cap_tps
            expected_w = simulated_w(lever, rate_tps, limits.slo_latency_s)
            watts = lever.watts(np.array([rate_tps]), limits.slo_latency_s)[0]
            assert watts == pytest.approx(expected_w, rel=0.15), (lever.point, share)


VARIANTS = profile(
    variant(name="fp16", accuracy=0.95),
    variant(name="int8", accuracy=0.93, service_time=service_time(beta_s_per_token=0.002 / TEXT_TOKENS)),
    variant(name="tiny", service_time=service_time(beta_s_per_token=0.001 / TEXT_TOKENS)),
)


@pytest.mark.parametrize(
    ("allow", "least", "names"),
    [
        ((), None, ("fp16", "int8", "tiny")),
        (("tiny", "int8"), None, ("int8", "tiny")),  # in the profile's order: the first is its default
        ((), 0.93, ("fp16", "int8")),  # an unknown accuracy is not enough
        (("int8", "tiny"), 0.94, ("fp16",)),  # none: refused before anything runs, see feasible
    ],
)
def test_variants_are_those_allowed_and_accurate_enough(
    allow: tuple[str, ...], least: float | None, names: tuple[str, ...]
) -> None:
    limits = replace(LIMITS, variants=allow, min_accuracy=least)
    assert allowed_variants(VARIANTS, limits) == names
    assert {lever.point.variant for lever in made(limits, VARIANTS).levers} == set(names)
    assert {lever.point.variant for lever in made(LIMITS).levers} == {""}, "where there is no other"


def test_a_table_is_made_once_for_what_differs_by_noise() -> None:
    tables = LeverTables(card(), LIMITS, RULES)
    one = tables.at(TableKey(16.0, 1.0, 1.0))
    assert tables.at(TableKey(16.1, 1.004, 0.995)) is one
    assert tables.at(TableKey(16.0, 1.1, 1.0)) is not one


@given(st.floats(0.25, 1000), st.floats(0.25, 4))
def test_a_rounded_key_is_within_two_percent_and_stays_as_it_is(tokens: float, factor: float) -> None:
    near = TableKey(tokens, factor, factor).rounded()
    assert near.text_tokens == pytest.approx(tokens, rel=0.02)
    assert near.service == near.latency == pytest.approx(factor, rel=0.02)
    again = near.rounded()
    assert (again.text_tokens, again.service) == pytest.approx((near.text_tokens, near.service), rel=1e-9)


@settings(max_examples=20)
@given(cards(), st.floats(0, 2))
def test_a_table_is_looked_up_as_it_is_listed(device: Profile, share: float) -> None:
    table = made(profile=device)
    fullest_tps = share * float(table.cap_tps[0])
    assert table.enough(fullest_tps) == sum(cap_tps >= fullest_tps for cap_tps in table.cap_tps.tolist())
    assert [table.index_of(one.point) for one in table.levers] == list(range(len(table.levers)))
    assert table.index_of(replace(table.levers[0].point, max_batch_texts=999)) is None


def test_keys_that_are_near_share_one_table_however_many_are_asked_for() -> None:
    tables = LeverTables(CARD, LIMITS, RULES)
    keys = [TableKey(TEXT_TOKENS, 1 + n * 1e-5, 1.0) for n in range(40)]
    assert len({id(tables.at(key)) for key in keys}) == 1
    assert tables.at(TableKey(TEXT_TOKENS, 1.5, 1.0)) is not tables.at(keys[0])
