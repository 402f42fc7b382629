"""The lines through measured points: exact ones come back, noise never gives what no device can do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from scaler.fit import MEASURED_CLOCKS, fit, fitted
from scaler.least_squares import least_squares
from scaler.profile import Point, Profile
from tests.scaler.measured_points import START_UP, SUBJECT, TEXT_TOKENS, idle, point


@dataclass(frozen=True)
class Truth:
    """The lines that points are made from."""

    alpha_s: float
    beta_s_per_token: float
    idle_w: float
    batch_more_w: float
    token_more_w: float

    def points(self, variant: str = "int8", sm_clock_mhz: int = 0) -> list[Point]:
        """Idle, and batches of 1 to 8 texts, each at a light and a heavier load."""
        made = [idle(self.idle_w, variant=variant, sm_clock_mhz=sm_clock_mhz)]
        for batch in (1.0, 2.0, 4.0, 8.0):
            fixed_s, tokens_s = self.alpha_s, self.beta_s_per_token * batch * TEXT_TOKENS
            for busy in (0.2, 0.7):
                batches_per_s = busy / (fixed_s + tokens_s)
                watts = self.idle_w + batches_per_s * (
                    fixed_s * self.batch_more_w + tokens_s * self.token_more_w
                )
                made.append(
                    point(
                        batches_per_s * batch,
                        batch,
                        fixed_s + tokens_s,
                        watts,
                        variant=variant,
                        sm_clock_mhz=sm_clock_mhz,
                    )
                )
        return made

    def slower(self, time_factor: float, power_factor: float) -> Truth:
        """At a slower clock: idle watts stay."""
        return Truth(
            self.alpha_s * time_factor,
            self.beta_s_per_token * time_factor,
            self.idle_w,
            (self.idle_w + self.batch_more_w) * power_factor - self.idle_w,
            (self.idle_w + self.token_more_w) * power_factor - self.idle_w,
        )


TRUTHS = st.builds(
    Truth,
    alpha_s=st.floats(1e-4, 0.05),
    beta_s_per_token=st.floats(1e-6, 1e-3),
    idle_w=st.floats(0.1, 60),
    batch_more_w=st.floats(0, 100),
    token_more_w=st.floats(0.1, 300),
)
PARTS = st.just(0.0) | st.floats(1e-6, 1)
A100 = Truth(0.00051, 0.0568e-3 / TEXT_TOKENS, 55, 26, 276)
T4 = Truth(0.00089, 0.519e-3 / TEXT_TOKENS, 20, 1.75, 51.29)


def fitted_to(points: Sequence[Point]) -> Profile:
    return fit(SUBJECT, points, START_UP, slo_latency_s=0.05)


@given(TRUTHS)
@example(A100)
@example(T4)
@example(Truth(0.002, 1e-4, 0.8, 3.3, 3.3))  # a CPU: the same watts in both parts
def test_points_on_the_lines_give_the_lines(truth: Truth) -> None:
    share = truth.beta_s_per_token * TEXT_TOKENS / truth.alpha_s  # what tells the two parts apart
    assume(0.01 < share < 100)
    (variant,) = fitted_to(truth.points()).variants
    line, power = variant.service_time, variant.power
    assert line.alpha_s == pytest.approx(truth.alpha_s, rel=1e-3)
    assert line.beta_s_per_token == pytest.approx(truth.beta_s_per_token, rel=1e-3)
    assert power.idle_w == pytest.approx(truth.idle_w, rel=1e-3)
    assert power.batch_w == pytest.approx(truth.idle_w + truth.batch_more_w, rel=1e-2)
    assert power.token_w == pytest.approx(truth.idle_w + truth.token_more_w, rel=1e-2)
    assert max(line.residual_fraction or 0, power.residual_fraction or 0) < 1e-6


@given(
    st.lists(st.tuples(st.floats(1, 16), st.floats(1e-3, 0.5), st.floats(0.1, 20)), min_size=2, max_size=9)
)
def test_noise_never_gives_what_no_device_can_do(rows: list[tuple[float, float, float]]) -> None:
    try:
        profile = fitted_to(
            [
                point(10 + index, batch, compute_s, watts)
                for index, (batch, compute_s, watts) in enumerate(rows)
            ]
        )
    except ValueError:
        return  # points that can't carry a line
    (variant,) = profile.variants
    assert variant.service_time.alpha_s >= 0
    assert variant.service_time.beta_s_per_token > 0
    assert 0 <= variant.power.idle_w <= min(variant.power.batch_w, variant.power.token_w)


@given(
    st.lists(
        st.tuples(PARTS, PARTS, PARTS, st.floats(0.01, 10)),
        min_size=3,
        max_size=8,
    )
)
def test_no_other_coefficients_of_0_or_more_fit_better(rows: list[tuple[float, float, float, float]]) -> None:
    design, measured = np.array([row[:3] for row in rows]), np.array([row[3] for row in rows])
    found, residual = least_squares(design, measured)
    assert min(found) >= 0
    others = np.random.default_rng(0).exponential(np.maximum(found, 0.1), size=(200, 3))
    off = (others @ design.T - measured) / measured
    assert residual <= np.sqrt(np.mean(off**2, axis=1)).min() + 1e-9


def test_where_nothing_tells_the_parts_apart_both_draw_the_same() -> None:
    no_fixed_part = Truth(0.0, 1e-4, 1.0, 0.0, 3.0)
    power = fitted_to(no_fixed_part.points()).variants[0].power
    assert power.token_w == pytest.approx(4.0)
    assert power.batch_w == power.token_w


def test_variants_are_fitted_each_by_itself_the_first_is_the_default() -> None:
    small, large = A100, replace(A100, alpha_s=0.001, token_more_w=200.0)
    profile = fitted_to(small.points("int8") + large.points("fp16"))
    assert [variant.name for variant in profile.variants] == ["int8", "fp16"]
    assert profile.variant().name == "int8"
    assert profile.variant("fp16").service_time.alpha_s == pytest.approx(0.001)
    assert profile.variant("fp16").power.token_w == pytest.approx(255)
    assert profile.variant("int8").accuracy == 0.94
    assert profile.variant("fp16").accuracy is None


@given(st.floats(1.0, 2.0), st.floats(0.4, 1.0))
def test_a_clock_s_factors_come_back(time_factor: float, power_factor: float) -> None:
    slow = A100.slower(time_factor, power_factor)
    profile = fitted_to(A100.points(sm_clock_mhz=1410) + slow.points(sm_clock_mhz=1000))
    (clocks,) = profile.clock_sets
    assert (clocks.name, clocks.basis) == (MEASURED_CLOCKS, "measured")
    full, step = clocks.steps
    assert (full.sm_clock_mhz, full.time_factor, full.power_factor) == (1410, 1, 1)
    assert step.sm_clock_mhz == 1000
    assert step.time_factor == pytest.approx(time_factor, rel=1e-6)
    assert step.power_factor == pytest.approx(power_factor, rel=1e-6)
    assert profile.variants[0].power.token_w == pytest.approx(331)  # of the full clock alone


def test_a_slower_clock_that_seems_faster_is_taken_as_equal() -> None:
    odd = A100.slower(0.97, 1.02)
    step = fitted_to(A100.points(sm_clock_mhz=1410) + odd.points(sm_clock_mhz=1200)).clock_sets[0].steps[1]
    assert (step.time_factor, step.power_factor) == (1, 1)


@given(TRUTHS, st.floats(1.0, 2.0))
def test_the_fit_says_of_its_points_what_was_measured(truth: Truth, time_factor: float) -> None:
    share = truth.beta_s_per_token * TEXT_TOKENS / truth.alpha_s
    assume(0.01 < share < 100)
    points = truth.points(sm_clock_mhz=1410) + truth.slower(time_factor, 1.0).points(sm_clock_mhz=900)
    profile = fitted_to(points)
    for one in profile.points:
        said = fitted(profile, one)
        assert said.watts == pytest.approx(one.watts, rel=1e-3)
        if one.compute_s_per_batch is None:
            assert said.compute_s_per_batch is None
        else:
            assert said.compute_s_per_batch == pytest.approx(one.compute_s_per_batch, rel=1e-3)


def test_the_rate_at_the_slo_is_of_the_points_that_held_it() -> None:
    held = [point(10, 1, 0.01, 1), point(40, 2, 0.015, 2), point(90, 8, 0.04, 3, p99_s=0.2)]
    growing = point(100, 4, 0.02, 2.5).model_copy(update={"completed_rps": 60})
    best = fitted_to([*held, growing]).variants[0].max_rps_at_slo
    assert best is not None
    assert best.rps == 40
    late = fitted_to([one.model_copy(update={"p99_s": 1.0}) for one in held]).variants[0].max_rps_at_slo
    assert late is not None
    assert late.rps is None


def test_a_replica_that_falls_behind_shows_how_much_of_its_time_computes() -> None:
    held = [point(10, 1, 0.01, 1), point(40, 2, 0.015, 2)]
    assert fitted_to(held).variants[0].service_time.saturation == 1.0
    behind = point(200, 4, 0.02, 3).model_copy(update={"completed_rps": 120.0})
    by_chance = point(20, 1, 0.01, 1.4).model_copy(update={"completed_rps": 18.5})
    line = fitted_to([*held, behind, by_chance]).variants[0].service_time
    assert line.saturation == pytest.approx(120 / 4 * 0.02)


@pytest.mark.parametrize(
    ("points", "named"),
    [
        ([], "there are no points"),
        ([point(10, 1, 0.01, 1), point(20, 1, 0.01, 2)], "variant int8: .* at least two sizes of batch"),
        ([point(10, 1, 0.01, None), point(20, 2, 0.02, None)], "is the meter known"),
        ([point(10, 1, 0.02, 1), point(20, 2, 0.01, 2)], "does not grow with the batch"),
        ([point(10, 1, 0.01, 0), point(20, 2, 0.02, 0)], "the watts of every point are 0"),
        (A100.points(sm_clock_mhz=1410) + A100.points(), "some points have a clock and some have none"),
        ([*A100.points(sm_clock_mhz=1410), idle(55, sm_clock_mhz=900)], "900 MHz: points with load"),
        (
            [*A100.points(sm_clock_mhz=1410), point(10, 1, 0.01, None, sm_clock_mhz=900)],
            "900 MHz: points with watts",
        ),
    ],
)
def test_points_that_carry_no_line_are_named(points: list[Point], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        fitted_to(points)
