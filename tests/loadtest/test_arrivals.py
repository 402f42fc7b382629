"""Laws of generated arrivals: sorted, inside the run, none where there is no rate, as many as it says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.arrivals import MOST_ARRIVALS, Diurnal, RateCurve, diurnal, draw, flat, place_counts, stairs
from minwatt.v1.errors import UsageError

seeds = st.integers(0, 2**32)
cvs = st.sampled_from([0.0, 1e-200, 0.3, 1.0, 3.0])
rates = st.lists(st.one_of(st.just(0.0), st.floats(0.01, 50)), min_size=1, max_size=12)


def curve_of(rates_rps: list[float], step_s: float) -> RateCurve:
    return RateCurve(np.arange(len(rates_rps) + 1) * step_s, np.array(rates_rps))


@given(rates, st.floats(0.1, 10), cvs, seeds)
def test_arrivals_are_sorted_inside_the_run_and_never_where_the_rate_is_zero(
    rates_rps: list[float], step_s: float, cv: float, seed: int
) -> None:
    curve = curve_of(rates_rps, step_s)
    times = draw(curve, np.random.default_rng(seed), cv)
    assert np.all(np.diff(times) >= 0)
    assert np.all((times >= 0) & (times < curve.duration_s))
    step = np.searchsorted(curve.edges_s, times, side="right") - 1
    assert np.all(curve.rates_rps[step] > 0)


@given(rates, cvs, seeds)
def test_the_same_seed_gives_the_same_arrivals(rates_rps: list[float], cv: float, seed: int) -> None:
    first, again = (draw(curve_of(rates_rps, 1.0), np.random.default_rng(seed), cv) for _ in range(2))
    assert np.array_equal(first, again)


@pytest.mark.parametrize("cv", [0.0, 0.5, 1.0, 2.5])
@pytest.mark.parametrize("factor", [0.25, 1.0, 4.0])
def test_the_expected_count_follows_the_scaled_rate_whatever_the_burstiness(cv: float, factor: float) -> None:
    rng = np.random.default_rng(7)
    curve = curve_of([2.0, 0.0, 9.0, 1.0], 2.0).scaled(factor)
    counts = np.array([len(draw(curve, rng, cv)) for _ in range(3000)])
    assert curve.expected == pytest.approx(24 * factor)
    assert counts.mean() == pytest.approx(curve.expected, abs=5 * max(0.02, counts.std() / 3000**0.5))


@pytest.mark.parametrize("cv", [0.0, 0.5, 1.0, 3.0])
def test_the_gaps_are_as_bursty_as_asked(cv: float) -> None:
    gaps_s = np.diff(draw(flat(100.0, 2000.0), np.random.default_rng(3), cv))
    assert gaps_s.std() / gaps_s.mean() == pytest.approx(cv, rel=0.05, abs=1e-6)


@given(st.lists(st.integers(0, 20), min_size=1, max_size=20), st.floats(0.01, 60), seeds)
def test_placed_counts_are_kept_bin_by_bin(counts: list[int], bin_s: float, seed: int) -> None:
    edges_s = np.arange(len(counts) + 1) * bin_s
    times = place_counts(edges_s, np.array(counts), np.random.default_rng(seed))
    assert np.all(np.diff(times) >= 0)
    placed = np.bincount(np.searchsorted(edges_s, times, side="right") - 1, minlength=len(counts))
    assert placed.tolist() == counts


@given(st.integers(0, 4), st.floats(1, 5), st.floats(0, 0.9), seeds)
def test_a_diurnal_curve_peaks_where_asked(crowds: int, factor: float, trough: float, seed: int) -> None:
    shape = Diurnal(90.0, 120.0, trough, crowds, factor)
    curve = diurnal(shape, np.random.default_rng(seed))
    assert curve.duration_s == pytest.approx(90.0)
    assert curve.rates_rps.max() == pytest.approx(120.0)
    assert curve.rates_rps.min() >= trough * 120.0 / factor - 1e-9


@given(rates, st.floats(0.1, 30))
def test_the_first_part_of_a_curve_is_the_curve(rates_rps: list[float], duration_s: float) -> None:
    curve = curve_of(rates_rps, 1.0)
    part = curve.first(duration_s)
    assert part.duration_s == pytest.approx(min(duration_s, curve.duration_s))
    assert part.rates_rps.tolist() == curve.rates_rps[: len(part.rates_rps)].tolist()
    assert part.expected <= curve.expected + 1e-9


def test_a_run_that_does_not_fit_in_memory_is_refused() -> None:
    with pytest.raises(UsageError, match=f"at most {MOST_ARRIVALS:,}"):
        draw(flat(1e6, 1e6), np.random.default_rng(0))


@given(st.floats(0, 50), st.floats(50, 200), st.integers(2, 12))
def test_stairs_rise_evenly_from_one_rate_to_the_other(start_rps: float, peak_rps: float, steps: int) -> None:
    curve = stairs(start_rps, peak_rps, steps, 30.0)
    assert (curve.rates_rps[0], curve.rates_rps[-1]) == (start_rps, peak_rps)
    assert np.allclose(np.diff(curve.rates_rps, n=2), 0, atol=1e-9)
    assert np.allclose(np.diff(curve.edges_s), 30.0 / steps)
    assert curve.expected == pytest.approx(30.0 * (start_rps + peak_rps) / 2)
