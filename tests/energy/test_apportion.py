"""Joules are conserved: whatever is charged, carried, idle or not priced, the parts sum to the meter."""

from __future__ import annotations

import math
from dataclasses import astuple
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from energy.apportion import NJ_PER_J, Ledger, Totals, split
from energy.reading import Reading, Unknown

Told = list[tuple[list[tuple[float, list[int]]], Reading | Unknown]]

weights = st.lists(st.integers(0, 512), min_size=1, max_size=64)
batches = st.lists(st.tuples(st.floats(0, 2), weights), max_size=5)
watts = st.none() | st.floats(0, 400)


@st.composite
def windows(draw: st.DrawFn) -> Told:
    """Batches, then what the meter said; several of these."""
    at_s = joules = 0.0
    told: Told = []
    for done in draw(st.lists(batches, min_size=1, max_size=8)):
        at_s += draw(st.floats(0, 10))
        joules += draw(st.floats(0, 4000))
        known = draw(st.booleans())
        reading = Reading(joules, 1.0, "replayed", at_s) if known else Unknown("no permission", at_s)
        told.append((done, reading))
    return told


@given(st.integers(0, 10**15), weights)
def test_split_is_exact_and_fair(whole: int, given_weights: list[int]) -> None:
    parts = split(whole, given_weights)
    assert sum(parts) == whole
    total = sum(given_weights)
    fair = [Fraction(whole * w, total) if total else Fraction(whole, len(parts)) for w in given_weights]
    assert all(abs(part - share) < 1 for part, share in zip(parts, fair, strict=True))


@given(watts, watts, st.none() | st.just(0.0), windows())
def test_the_parts_sum_to_the_meter_after_every_step(
    idle_w: float | None, price_w: float | None, opening_j: float | None, told: Told
) -> None:
    ledger = Ledger(idle_w, price_w, opening_j)
    charged_j: list[float] = []
    metered_nj = 0
    for done, reading in told:
        for compute_s, tokens in done:
            shares = ledger.charge(compute_s, tokens)
            if shares is not None:
                assert len(shares) == len(tokens)
                assert all(share >= 0 for share in shares)
                charged_j += shares
            check_sum(ledger.totals, metered_nj, charged_j)
        ledger.observe(reading)
        if isinstance(reading, Reading):
            opening_j = reading.joules_total if opening_j is None else opening_j
            metered_nj = round(reading.joules_total * NJ_PER_J) - round(opening_j * NJ_PER_J)
        check_sum(ledger.totals, metered_nj, charged_j)


def check_sum(totals: Totals, metered_nj: int, charged_j: list[float]) -> None:
    whole_nj, *parts_nj = (round(joules * NJ_PER_J) for joules in astuple(totals))
    assert whole_nj == metered_nj == sum(parts_nj)
    assert math.isclose(totals.requests_j, math.fsum(charged_j), abs_tol=1e-6)
    assert min(totals.start_up_j, totals.idle_j, totals.requests_j, totals.unpriced_j) >= 0


@given(st.floats(100, 600), st.lists(st.floats(0.2, 1), min_size=30, max_size=60))
def test_at_a_steady_price_what_was_charged_wrongly_is_settled(
    first_price_w: float, computes_s: list[float]
) -> None:
    """A device of 60 W idle and 300 W more while it computes; the first price is off by up to three times."""
    ledger = Ledger(idle_w=60.0, price_w=first_price_w)
    joules = 0.0
    ledger.observe(Reading(joules, 60.0, "replayed", 0.0))
    carries_j = []
    for at_s, compute_s in enumerate(computes_s, start=1):
        ledger.charge(compute_s, [1])
        joules += 60.0 + 300.0 * compute_s
        ledger.observe(Reading(joules, 60.0, "replayed", float(at_s)))
        carries_j.append(abs(ledger.totals.carry_j))
    assert all(after <= before + 1e-6 for before, after in pairwise(carries_j))
    assert carries_j[-1] <= 0.001 * carries_j[0] + 1e-6
    assert math.isclose(ledger.totals.idle_j, 60.0 * len(computes_s))


def test_one_window_by_hand() -> None:
    ledger = Ledger(idle_w=50.0, price_w=200.0)
    assert ledger.charge(1.0, [1]) is None  # before the first reading: part of the start-up
    ledger.observe(Reading(1000.0, 50.0, "nvml", 10.0))
    assert ledger.charge(0.2, [30, 10]) == (30.0, 10.0)
    window = ledger.observe(Reading(1110.0, 110.0, "nvml", 11.0))
    assert window is not None
    assert (window.span_s, window.idle_j, window.active_j, window.charged_j) == (1.0, 50.0, 60.0, 40.0)
    assert ledger.price_w == pytest.approx(300)
    assert ledger.totals == Totals(1110.0, 1000.0, 50.0, 40.0, 0.0, 20.0)
    # 60 J are due for another 0.2 s, and the 20 J charged too little before.
    assert ledger.charge(0.2, [1]) == (80.0,)


def test_without_a_first_price_the_first_window_has_no_joules_for_its_requests() -> None:
    ledger = Ledger(idle_w=None, price_w=None)
    ledger.observe(Reading(0.0, 0.0, "rapl", 0.0))
    ledger.observe(Reading(40.0, 40.0, "rapl", 1.0))  # nothing computed: idle is 40 W
    assert ledger.charge(0.5, [1]) is None
    ledger.observe(Reading(130.0, 90.0, "rapl", 2.0))
    assert ledger.totals == Totals(130.0, 0.0, 80.0, 0.0, 50.0, 0.0)
    assert ledger.charge(0.1, [1, 1]) == (5.0, 5.0)


def test_unknown_watts_leave_the_window_open() -> None:
    ledger = Ledger(idle_w=10.0, price_w=100.0)
    ledger.observe(Reading(0.0, 10.0, "nvml", 0.0))
    ledger.charge(0.5, [1])
    assert ledger.observe(Unknown("GPU is lost", 1.0)) is None
    ledger.charge(0.5, [1])
    window = ledger.observe(Reading(120.0, 60.0, "nvml", 2.0))
    assert window is not None
    assert (window.span_s, window.compute_s, window.idle_j, window.charged_j) == (2.0, 1.0, 20.0, 100.0)


def test_first_price_takes_every_engine_thread_as_a_busy_core() -> None:
    class Meter:
        opening_j = 500.0
        idle_w = 0.74
        busy_w_per_core = 2.76

    ledger = Ledger.of(Meter(), engine_threads=2)
    assert ledger.price_w == 5.52
    ledger.observe(Reading(520.0, 3.0, "modelled", 1.0))
    assert ledger.totals == Totals(20.0, 20.0, 0.0, 0.0, 0.0, 0.0)
    Meter.busy_w_per_core = None  # type: ignore[assignment]
    assert Ledger.of(Meter(), engine_threads=2).price_w is None


def test_meter_that_goes_back_is_an_error() -> None:
    ledger = Ledger(idle_w=None, price_w=None)
    ledger.observe(Reading(5.0, 1.0, "nvml", 1.0))
    with pytest.raises(ValueError, match="the meter went back"):
        ledger.observe(Reading(4.0, 1.0, "nvml", 2.0))
