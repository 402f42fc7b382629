"""The sliding mean against its definition, on any samples."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from energy.window import MeanPower


@given(st.lists(st.tuples(st.floats(0.01, 4), st.floats(0, 1000)), min_size=1, max_size=40))
def test_mean_is_over_the_shortest_span_that_covers_the_window(steps: list[tuple[float, float]]) -> None:
    mean = MeanPower(window_s=5.0, least_s=2.0)
    mean.restart(0.0, 0.0)
    samples = [(0.0, 0.0)]
    for wait_s, joules in steps:
        now_s, now_j = samples[-1][0] + wait_s, samples[-1][1] + joules
        watts = mean.add(now_s, now_j)
        since_s, since_j = next(
            (sample for sample in reversed(samples) if now_s - sample[0] >= 5.0), samples[0]
        )
        samples.append((now_s, now_j))
        if now_s - since_s < 2.0:
            assert watts is None
        else:
            assert watts == pytest.approx((now_j - since_j) / (now_s - since_s))
