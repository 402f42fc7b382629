"""The fit through measured points, and the file."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minwatt.v1.errors import UsageError
from scaler.profile import (
    MeterNote,
    Point,
    Profile,
    ReplicaSetup,
    StartUp,
    Subject,
    fit,
    load_profile,
    save_profile,
)

SUBJECT = Subject(
    model="tiny",
    model_version="1",
    variant="int8",
    device="a CPU",
    measured_at=datetime(2026, 1, 1, tzinfo=UTC),
    meter=MeterNote(source="modelled", parameters={"idle_w": 0.74}),
    replica=ReplicaSetup(engine_threads=1),
)
START_UP = StartUp(seconds=2, joules=6)


def point(rps: float, batch: float, compute_s: float, watts: float | None, p99_s: float = 0.02) -> Point:
    return Point(
        max_batch_texts=16,
        max_delay_s=0.005,
        text_tokens=20,
        offered_rps=rps,
        completed_rps=rps,
        p50_s=0.01,
        p99_s=p99_s,
        batch_mean_texts=batch,
        compute_s_per_batch=compute_s,
        watts=watts,
        duration_s=10,
    )


def idle(watts: float) -> Point:
    return Point(
        max_batch_texts=16,
        max_delay_s=0,
        text_tokens=20,
        offered_rps=0,
        completed_rps=0,
        p50_s=None,
        p99_s=None,
        batch_mean_texts=None,
        compute_s_per_batch=None,
        watts=watts,
        duration_s=10,
    )


def fitted(points: list[Point]) -> Profile:
    return fit(SUBJECT, points, START_UP, slo_latency_s=0.05)


@given(st.floats(0, 0.05), st.floats(1e-5, 1e-3), st.floats(0.1, 50), st.floats(0.5, 300))
def test_points_on_a_line_give_the_line(alpha: float, beta: float, idle_w: float, span_w: float) -> None:
    points = [idle(idle_w)]
    for batch in (1.0, 2.0, 4.0, 8.0):
        compute_s = alpha + beta * batch * 20
        rps = 0.1 * batch / compute_s * batch  # busier with each point, up to 0.8
        busy = rps / batch * compute_s
        points.append(point(rps, batch, compute_s, idle_w + span_w * busy))
    profile = fitted(points)
    assert profile.service_time.alpha_s == pytest.approx(alpha, rel=1e-3, abs=1e-6)
    assert profile.service_time.beta_s_per_token == pytest.approx(beta, rel=1e-3)
    assert profile.power.idle_w == pytest.approx(idle_w, rel=1e-3)
    assert profile.power.busy_w == pytest.approx(idle_w + span_w, rel=1e-3)
    assert max(profile.service_time.residual_fraction, profile.power.residual_fraction) < 1e-3


@given(
    st.lists(st.tuples(st.floats(1, 16), st.floats(1e-3, 0.5), st.floats(0.1, 20)), min_size=2, max_size=9)
)
def test_noise_never_gives_a_negative_coefficient(rows: list[tuple[float, float, float]]) -> None:
    try:
        profile = fitted([point(10, batch, compute_s, watts) for batch, compute_s, watts in rows])
    except ValueError:
        return  # points that can't carry a line
    assert profile.service_time.alpha_s >= 0
    assert profile.service_time.beta_s_per_token > 0
    assert 0 <= profile.power.idle_w <= profile.power.busy_w


def test_the_rate_at_the_slo_is_of_the_points_that_held_it() -> None:
    held = [point(10, 1, 0.01, 1), point(40, 2, 0.015, 2), point(90, 8, 0.04, 3, p99_s=0.2)]
    growing = point(60, 4, 0.02, 2.5).model_copy(update={"completed_rps": 50})
    assert fitted([*held, growing]).max_rps_at_slo.rps == 40
    assert fitted([one.model_copy(update={"p99_s": 1.0}) for one in held]).max_rps_at_slo.rps is None


def test_a_replica_that_falls_behind_shows_how_much_of_its_time_computes() -> None:
    held = [point(10, 1, 0.01, 1), point(40, 2, 0.015, 2)]
    assert fitted(held).service_time.saturation == 1.0
    behind = point(200, 4, 0.02, 3).model_copy(update={"completed_rps": 120.0})
    assert fitted([*held, behind]).service_time.saturation == pytest.approx(120 / 4 * 0.02)


def test_points_that_carry_no_line_are_named() -> None:
    with pytest.raises(ValueError, match="at least two sizes of batch"):
        fitted([point(10, 1, 0.01, 1), point(20, 1, 0.01, 2)])
    with pytest.raises(ValueError, match="is the meter known"):
        fitted([point(10, 1, 0.01, None), point(20, 2, 0.02, None)])


def test_the_file_comes_back_as_it_was_written(tmp_path: Path) -> None:
    profile = fitted([idle(0.8), point(10, 1, 0.01, 1), point(40, 2, 0.015, None)])
    save_profile(profile, tmp_path / "profile.yaml")
    assert load_profile(tmp_path / "profile.yaml") == profile


def test_a_wrong_file_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "profile.yaml"
    save_profile(fitted([point(10, 1, 0.01, 1), point(40, 2, 0.015, 2)]), file)
    file.write_text(file.read_text().replace("kind: Profile", "kind: Policy"))
    with pytest.raises(UsageError, match=r"profile\.yaml: kind = 'Policy': Input should be 'Profile'"):
        load_profile(file)
