"""What counts as growing."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.growth import growth


@given(st.integers(3, 200), st.floats(-10, 10), st.floats(-1000, 1000), st.floats(0.1, 1000))
def test_a_straight_line_is_found(count: int, per_s: float, start: float, step_s: float) -> None:
    at_s = [step_s * index for index in range(count)]
    line = growth(at_s, [start + per_s * moment for moment in at_s])
    assert line is not None
    assert math.isclose(line.total, per_s * at_s[-1], rel_tol=1e-6, abs_tol=1e-6)
    assert line.error == pytest.approx(0, abs=1e-5 * (1 + abs(start) + abs(per_s) * at_s[-1]))


@given(st.integers(0, 10_000))
def test_noise_alone_is_no_growth_and_a_leak_in_noise_is(seed: int) -> None:
    draw = random.Random(seed)
    at_s = [60.0 * minute for minute in range(50)]
    noise = [draw.gauss(0, 0.5) for _ in at_s]
    flat, leaking = (
        growth(at_s, noise),
        growth(at_s, [n + 10 * t / 3000 for n, t in zip(noise, at_s, strict=True)]),
    )
    assert flat is not None
    assert leaking is not None
    assert flat.within(4.0)
    assert not leaking.within(4.0)


def test_too_few_samples_show_nothing() -> None:
    assert growth([0, 1], [1, 2]) is None
    assert growth([1, 1, 1], [1, 2, 3]) is None
