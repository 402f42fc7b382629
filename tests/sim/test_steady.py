"""A replica's steady states: laws of the tables, and what a replica can do within the SLO."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaler.simulate.capacity import best_rate_at_slo, rate_at_slo
from scaler.simulate.rules import rules_of
from scaler.simulate.steady import SteadyTable, arrival_c2, steady_table
from tests.sim.worlds import FULL_MHZ, SLOW_MHZ, point, profile, world

# So slow that a full batch takes most of the SLO: what is over it is seen well below the capacity.
SLOW_CARD = world([1.0], profile=profile(alpha_s=0.0009, beta_s=0.0005))
CARD = world([1.0])


def table(texts: int = 32) -> SteadyTable:
    return steady_table(rules_of(SLOW_CARD, point(texts=texts)), 1.0)


def test_more_load_is_never_less_over_the_slo() -> None:
    high = [table().over(index) for index in range(table().cells - 10, table().cells)]
    assert high == sorted(high)
    assert high[0] < 1e-3 < high[-1]


@settings(max_examples=40, deadline=None)
@given(load=st.floats(0.93, 1.0))
def test_between_cells_everything_lies_between_the_cells(load: float) -> None:
    own = table()
    now = own.at(load * own.rates_rps[-1])
    low, high = own.cell(now.lower), own.cell(now.upper)
    assert low.busy_w - 1e-9 <= now.busy_w <= high.busy_w + 1e-9
    assert own.over(now.lower) <= now.over * (1 + 1e-9) + 1e-7
    assert now.over <= own.over(now.upper) * (1 + 1e-9)


def test_light_load_is_computed_one_by_one() -> None:
    own = steady_table(rules_of(CARD, point()), 1.0)
    engine = own.rules.engine
    rate_rps = 0.3 * own.rates_rps[0]
    now = own.at(rate_rps)
    assert now.batches_per_s == pytest.approx(rate_rps, rel=0.02)
    assert now.busy_fraction == pytest.approx(rate_rps * engine.service_s(1), rel=0.02)
    assert now.busy_w == pytest.approx(rate_rps * engine.batch_j(1), rel=0.02)
    assert now.over == 0


def test_at_the_top_batches_are_full() -> None:
    own = steady_table(rules_of(CARD, point(0.02)), 1.0)
    cell = own.cell(own.cells - 1)
    assert cell.rate_rps / cell.batches_per_s == pytest.approx(64, rel=0.02)
    full_w = own.rules.engine.batch_j(64) / own.rules.engine.service_s(64)
    assert cell.busy_w == pytest.approx(full_w, rel=0.02)


def test_what_a_replica_can_do_within_the_slo() -> None:
    capacity_rps = rules_of(SLOW_CARD, point(texts=32)).capacity_rps
    at_slo = [rate_at_slo(SLOW_CARD, point(texts=32), miss) for miss in (1e-3, 1e-2)]
    assert at_slo == sorted(at_slo)
    assert 0.7 * capacity_rps < at_slo[0]
    assert at_slo[-1] < capacity_rps


def test_the_best_rate_is_that_of_batches_that_fit_into_the_slo() -> None:
    assert best_rate_at_slo(CARD, 1e-3) == rate_at_slo(CARD, point(), 1e-3)


def test_no_rate_keeps_an_slo_shorter_than_a_batch() -> None:
    slower = world([1.0], profile=profile(alpha_s=0.06, beta_s=0.0005))
    assert rate_at_slo(slower, point(texts=8), 1e-3) == 0


def test_the_reflex_lets_a_slow_clock_carry_what_the_full_one_does() -> None:
    pinned = replace(point(), sm_clock_mhz=SLOW_MHZ)
    reflex = replace(pinned, reflex_sm_clock_mhz=FULL_MHZ)
    full_rps = rate_at_slo(CARD, point(), 1e-3)
    assert rate_at_slo(CARD, pinned, 1e-3) == pytest.approx(full_rps / 1.5, rel=0.03)
    assert rate_at_slo(CARD, reflex, 1e-3) == pytest.approx(full_rps, rel=0.03)


def test_burstiness_thins_out_over_replicas() -> None:
    assert arrival_c2(2.0, 1) == 4
    assert arrival_c2(2.0, 30) == pytest.approx(1.1)
    assert arrival_c2(1.0, 7) == 1
    bursty = world([1.0], arrival_cv=2.0)
    rates_rps = [rate_at_slo(bursty, point(), 1e-3, replicas) for replicas in (1, 30)]
    assert rates_rps == sorted(rates_rps)
    assert rates_rps[0] < 0.995 * rate_at_slo(CARD, point(), 1e-3)


def test_an_unknown_clock_says_which_there_are() -> None:
    with pytest.raises(ValueError, match="1410, 940"):
        rules_of(CARD, replace(point(), sm_clock_mhz=700))
