"""What a contender sees is the fleet's last span, late by the telemetry's delay."""

from __future__ import annotations

import pytest

from scaler.simulate.run import simulate
from tests.sim.worlds import Scripted, point, world


def test_a_step_in_traffic_is_seen_late_by_the_delay() -> None:
    """2,000 then 8,000 requests/s from 20 s on; looks every 5 s, telemetry 1 s late."""
    contender = Scripted(point())
    simulate(world([2_000.0, 8_000.0], telemetry_delay_s=1.0), contender, 1)
    rates = {seen.now_s: seen.arrivals_rps for seen in contender.seen}
    assert rates[20.0] == pytest.approx(2_000, rel=0.05)
    assert rates[25.0] == pytest.approx(0.2 * 2_000 + 0.8 * 8_000, rel=0.05)
    assert rates[30.0] == pytest.approx(8_000, rel=0.05)
    late = Scripted(point())
    simulate(world([2_000.0, 8_000.0], telemetry_delay_s=6.0), late, 1)
    rates = {seen.now_s: seen.arrivals_rps for seen in late.seen}
    assert rates[25.0] == pytest.approx(2_000, rel=0.05)
    assert rates[30.0] == pytest.approx(0.2 * 2_000 + 0.8 * 8_000, rel=0.05)


def test_a_long_period_shows_each_of_its_steps() -> None:
    contender = Scripted(point(), period_s=15.0)
    simulate(world([1_000.0, 3_000.0, 5_000.0], telemetry_delay_s=0.0), contender, 1)
    second = contender.seen[1]
    assert [round(rate, -3) for rate in second.rates_1s] == [1_000, 3_000, 3_000]
    assert second.arrivals_rps == pytest.approx(sum(second.rates_1s) / 3)
    assert second.span_s == 15


@pytest.mark.parametrize("detail", ["binned", "exact"])
def test_figures_fit_together(detail: str) -> None:
    contender = Scripted(point(0.005))
    outcome = simulate(world([6_000.0, 6_000.0]), contender, 2, detail)  # type: ignore[arg-type]
    seen = contender.seen[-1]
    assert (seen.ready, seen.starting, seen.draining, seen.data) == (2, 0, 0, True)
    assert seen.completions_rps == pytest.approx(seen.arrivals_rps, rel=0.02)
    assert seen.batch_mean == pytest.approx(outcome.batch_mean, rel=0.05)
    assert seen.watts == pytest.approx(outcome.energy_j / 40, rel=0.03)
    assert seen.latency_quantile_s(99) * 1e3 == pytest.approx(outcome.p99_ms, rel=0.05)
    busy_s = seen.batches * seen.compute_s_per_batch
    assert seen.busy_fraction == pytest.approx(busy_s / (2 * seen.span_s), rel=1e-6)
    # Little's law, with a mean latency near the median.
    assert seen.in_flight == pytest.approx(seen.arrivals_rps * outcome.p50_ms / 1e3, rel=0.2)
    assert 0 <= seen.queue_depth < seen.in_flight * 3


def test_a_backlog_is_seen_as_queue_and_refusals() -> None:
    contender = Scripted(point())
    simulate(world([25_000.0]), contender, 1)
    seen = contender.seen[-1]
    assert seen.queue_depth == pytest.approx(15_440 * 0.034, rel=0.01), "so many are answered within 40 ms"
    assert seen.refused_rps == pytest.approx(25_000 - 15_440, rel=0.05)
    assert seen.busy_fraction == 1
    assert 0.03 < seen.latency_quantile_s(50) < 0.05


def test_lost_telemetry_shows_only_the_replicas() -> None:
    contender = Scripted(point())
    simulate(world([1_000.0] * 10, telemetry_loss=0.4), contender, 3)
    lost = [seen for seen in contender.seen if not seen.data]
    assert 5 < len(lost) < 30
    assert all(seen.ready == 3 and seen.arrivals_rps == 0 for seen in lost)
