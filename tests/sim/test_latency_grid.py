"""Latencies on the grid: mixtures, ramps, and quantiles to a bin's width."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaler.simulate.latency_grid import Mixture, Shape, counts, quantile_s, ramp, shape_of

LATENCY_S = st.floats(2e-4, 500)


@given(st.lists(LATENCY_S, min_size=1, max_size=200), st.floats(0.01, 99.99))
def test_a_quantile_is_right_to_a_bin(latencies_s: list[float], percentile: float) -> None:
    own = quantile_s(counts(np.array(latencies_s)), percentile)
    # A hair to each side: where a step is, both are right.
    around = [(percentile + hair) / 100 for hair in (-1e-6, 1e-6)]
    low_s, high_s = np.quantile(latencies_s, around, method="inverted_cdf")
    assert low_s / 1.021 <= own <= high_s * 1.021


@given(LATENCY_S, LATENCY_S)
def test_a_ramp_is_an_even_spread(one_s: float, other_s: float) -> None:
    shape = ramp(one_s, other_s)
    assert shape.weights.sum() == pytest.approx(1)
    middle_s = (one_s + other_s) / 2
    assert quantile_s(shape.weights, 50) == pytest.approx(middle_s, rel=0.03)


def test_a_mixture_is_the_sum_of_its_shapes_however_many() -> None:
    rng = np.random.default_rng(1)
    shapes = [shape_of(rng.gamma(3, 0.01, size=50)) for _ in range(400)]
    mixture, total = Mixture(), np.zeros_like(shapes[0].weights)
    for shape, weight in zip([*shapes, *shapes], rng.random(800), strict=True):
        mixture.add(shape, weight)
        total += weight * shape.weights
    np.testing.assert_allclose(mixture.weights(), total, atol=1e-12)
    assert mixture.quantile_s(99) == pytest.approx(quantile_s(total, 99))


def test_what_lies_outside_counts_in_the_outermost_bins() -> None:
    weights = counts(np.array([1e-9, 1e9]))
    assert (weights[0], weights[-1], weights.sum()) == (1, 1, 2)


def test_nothing_has_no_quantile() -> None:
    assert Mixture().quantile_s(50) == 0
    assert shape_of(np.array([])).weights.sum() == 0
    assert Shape(np.ones(3)) != Shape(np.ones(3))
