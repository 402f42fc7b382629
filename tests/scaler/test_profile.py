"""The profile's file, what may stand in it, and what is read off it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from minwatt.resources import default_profile
from minwatt.v1.errors import UsageError
from scaler.fit import fit
from scaler.profile import ClockStep, Profile, load_profile, save_profile
from tests.scaler.measured_points import START_UP, SUBJECT, idle, point

PROFILE = fit(
    SUBJECT,
    [idle(0.8), point(10, 1, 0.01, 1), point(40, 2, 0.015, 2), point(60, 4, 0.02, None)],
    START_UP,
    slo_latency_s=0.05,
)


def changed(**fields: Any) -> Profile:
    return Profile.model_validate(PROFILE.model_dump() | fields)


def test_the_file_comes_back_as_it_was_written(tmp_path: Path) -> None:
    save_profile(PROFILE, tmp_path / "profile.yaml")
    assert load_profile(tmp_path / "profile.yaml") == PROFILE


def test_the_shipped_profile_is_of_this_format_and_measured() -> None:
    profile = load_profile(default_profile())
    assert not profile.is_reference
    assert profile.meter.source == "modelled"
    assert profile.variants[0].service_time.basis == "measured"


@pytest.mark.parametrize(
    ("before", "after", "named"),
    [
        ("kind: Profile", "kind: Policy", r"profile\.yaml: kind = 'Policy': Input should be 'Profile'"),
        ("format: 2", "format: 1", r"profile\.yaml: format = 1: allowed: 2; measure again"),
        ("idle_w: ", "idle_w: -", r"variants\.0\.power\.idle_w = -"),
        ("basis: measured", "basis: guessed", r"Input should be 'measured', 'published' or 'assumed'"),
    ],
)
def test_a_wrong_file_is_one_line(tmp_path: Path, before: str, after: str, named: str) -> None:
    file = tmp_path / "profile.yaml"
    save_profile(PROFILE, file)
    # The meter's parameter of the same name stands before the variants.
    head, found, rest = file.read_text().rpartition(before)
    assert found
    file.write_text(head + after + rest)
    with pytest.raises(UsageError, match=named) as error:
        load_profile(file)
    assert "\n" not in str(error.value)


def test_what_does_not_fit_together_is_named() -> None:
    variant = PROFILE.variants[0].model_dump()
    with pytest.raises(ValidationError, match="variants: allowed: each name once"):
        changed(variants=[variant, variant])
    with pytest.raises(ValidationError, match="points: variant = 'int8': allowed: fp16"):
        changed(variants=[variant | {"name": "fp16"}])
    with pytest.raises(ValidationError, match="basis = 'measured': there are no points"):
        changed(points=())


@pytest.mark.parametrize(
    ("steps", "named"),
    [
        ([(1410, 1.1, 1.0)], "the first step must have the factors 1 and 1"),
        ([(1410, 1.0, 1.0), (1500, 1.2, 0.8)], "from the fastest clock to the slowest"),
        ([(1410, 1.0, 1.0), (1200, 1.3, 0.8), (1000, 1.2, 0.7)], "from the fastest clock to the slowest"),
    ],
)
def test_clocks_go_from_the_fastest_to_the_slowest(steps: list[tuple[int, float, float]], named: str) -> None:
    rows = [{"sm_clock_mhz": mhz, "time_factor": t, "power_factor": p} for mhz, t, p in steps]
    with pytest.raises(ValidationError, match=named):
        changed(clock_sets=[{"name": "A", "basis": "assumed", "steps": rows}])


def test_a_clock_that_costs_no_time_is_allowed() -> None:
    """A model that is bound by memory or by launches."""
    rows = [
        {"sm_clock_mhz": 1410, "time_factor": 1, "power_factor": 1},
        {"sm_clock_mhz": 1200, "time_factor": 1, "power_factor": 0.8},
    ]
    profile = changed(clock_sets=[{"name": "A", "basis": "assumed", "steps": rows}])
    assert profile.clock_steps() == profile.clock_steps("A")
    assert [step.power_factor for step in profile.clock_steps()] == [1, 0.8]
    with pytest.raises(KeyError):
        profile.clock_steps("B")


def test_a_variant_that_is_not_there_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        PROFILE.variant("fp64")


@given(st.floats(1, 64), st.floats(1, 1000), st.floats(1, 2), st.floats(0.3, 1), st.floats(0.3, 1))
def test_handing_over_takes_time_and_no_joules_above_idle(
    batch: float, tokens: float, time_factor: float, power_factor: float, saturation: float
) -> None:
    """Whatever part of a batch's time the engine computes, its work above idle costs the same."""
    variant = PROFILE.variants[0]
    clock = ClockStep(sm_clock_mhz=1000, time_factor=time_factor, power_factor=power_factor)

    def engine_at(part: float) -> tuple[float, float]:
        line = variant.service_time.model_copy(update={"saturation": part})
        profile = PROFILE.model_copy(
            update={"variants": (variant.model_copy(update={"service_time": line}),)}
        )
        engine = profile.engine(tokens, clock=clock)
        seconds = engine.service_s(batch)
        return seconds, engine.batch_j(batch) - engine.idle_w * seconds

    whole_s, whole_j = engine_at(1.0)
    part_s, part_j = engine_at(saturation)
    assert part_s == pytest.approx(whole_s / saturation)
    assert part_j == pytest.approx(whole_j, rel=1e-6, abs=1e-9)


def test_a_poor_fit_is_doubted_by_name() -> None:
    assert PROFILE.doubts() == ()
    variant = PROFILE.variants[0]
    line = variant.service_time.model_copy(update={"residual_fraction": 0.31})
    (doubt,) = PROFILE.model_copy(
        update={"variants": (variant.model_copy(update={"service_time": line}),)}
    ).doubts()
    assert doubt.startswith("int8: the fit of the service time is poor (31% off)")


@pytest.mark.parametrize(("completed", "kept_up"), [(100, True), (80, True), (70, False)])
def test_a_count_within_its_noise_is_no_growing_queue(completed: float, kept_up: bool) -> None:
    """100 requests/s over 10 s are 1000; 98% less two deviations of 31.6 are 917."""
    one = point(100, 2, 0.01, 1).model_copy(update={"completed_rps": completed, "duration_s": 1.0})
    assert one.sustained is kept_up
    long = one.model_copy(update={"duration_s": 10.0})
    assert long.sustained is (completed == 100)


@given(
    st.floats(1, 512),
    st.integers(1, 64),
    st.floats(1, 60),
    st.floats(0, 2),
    st.floats(0, 8),
    st.floats(1, 2),
    st.floats(0.1, 1),
)
def test_at_no_clock_computing_draws_less_than_idling(
    tokens: float, batch: int, idle_w: float, batch_w: float, token_w: float, slower: float, factor: float
) -> None:
    """A factor that was fitted to full batches makes no small one cheaper than to wait."""
    power = {"idle_w": idle_w, "batch_w": idle_w * (1 + batch_w), "token_w": idle_w * (1 + token_w)}
    profile = changed(
        variants=[
            PROFILE.variants[0].model_dump() | {"power": PROFILE.variants[0].power.model_dump() | power}
        ]
    )
    step = ClockStep(sm_clock_mhz=900, time_factor=slower, power_factor=factor)
    engine = profile.engine(tokens, clock=step)
    assert engine.batch_j(batch) >= idle_w * engine.service_s(batch) * (1 - 1e-9)
