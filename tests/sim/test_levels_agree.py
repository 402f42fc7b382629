"""The binned level does on average what the exact one does request by request."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from scaler.operating_point import OperatingPoint
from scaler.simulate.outcome import Outcome
from scaler.simulate.run import simulate
from scaler.simulate.world import World
from tests.sim.worlds import Scripted, point, profile, world


def both(in_world: World, at: OperatingPoint, replicas: int) -> tuple[Outcome, Outcome]:
    """Exact, binned."""
    return (
        simulate(in_world, Scripted(at), replicas, "exact"),
        simulate(in_world, Scripted(at), replicas, "binned"),
    )


@dataclass(frozen=True)
class Case:
    rates_rps: tuple[float, ...]
    replicas: int
    delay_s: float = 0.0
    slow: bool = False  # with the reflex
    cv: float = 1.0


@pytest.mark.parametrize(
    "case",
    [
        Case((600, 1_500, 4_000), 1),
        Case((9_000, 12_000, 14_000), 1),
        Case((1_000, 5_000, 9_000), 2, delay_s=0.02),
        Case((24_000, 30_000, 38_000), 3, delay_s=0.02),
        Case((5_000, 9_000, 11_000), 1, delay_s=0.01, slow=True),
        Case((14_000, 20_000, 26_000), 2, slow=True),
        Case((14_000, 20_000, 26_000), 2, delay_s=0.005, slow=True, cv=2.0),
        Case((10_000, 18_000), 2, delay_s=0.02, cv=2.0),
    ],
)
def test_joules_batches_and_latencies(case: Case) -> None:
    exact, binned = both(
        world(case.rates_rps, bin_s=10.0, arrival_cv=case.cv),
        point(case.delay_s, slow=case.slow),
        case.replicas,
    )
    assert binned.energy_j == pytest.approx(exact.energy_j, rel=0.02)
    assert binned.busy_j == pytest.approx(exact.busy_j, rel=0.02)
    assert binned.batch_mean == pytest.approx(exact.batch_mean, rel=0.05)
    assert binned.p50_ms == pytest.approx(exact.p50_ms, rel=0.06)
    assert binned.p99_ms == pytest.approx(exact.p99_ms, rel=0.08)
    assert binned.requests == exact.requests
    assert binned.over_slo_fraction == exact.over_slo_fraction == 0


def test_the_share_over_the_slo_near_the_knee() -> None:
    """Of some runs together: late requests come in bursts."""
    base = world([1_760] * 4, bin_s=20.0, profile=profile(alpha_s=0.0009, beta_s=0.0005))
    at = point(texts=24)
    exact = [simulate(replace(base, seed=seed), Scripted(at), 1, "exact") for seed in range(8)]
    mean = np.mean([one.over_slo_fraction for one in exact])
    binned = simulate(base, Scripted(at), 1)
    assert 1e-3 < mean < 0.2
    assert mean / 3 < binned.over_slo_fraction < mean * 3
    assert binned.energy_j == pytest.approx(np.mean([one.energy_j for one in exact]), rel=0.01)


def test_an_overload_and_its_end() -> None:
    exact, binned = both(world([12_000, 17_000, 9_000]), point(), 1)
    assert binned.energy_j == pytest.approx(exact.energy_j, rel=0.01)
    assert binned.over_slo_fraction == pytest.approx(exact.over_slo_fraction, rel=0.04)
    assert binned.refused == pytest.approx(exact.refused, rel=0.04)
    assert binned.p99_ms == pytest.approx(exact.p99_ms, rel=0.08)


@pytest.mark.parametrize("slow", [False, True])
def test_a_backlog_stays_where_it_came_when_replicas_join_and_leave(slow: bool) -> None:
    in_world = world([9_000, 22_000, 22_000, 22_000, 9_000, 9_000], bin_s=10.0)
    script = ((10.0, 2), (45.0, 1))
    exact, binned = (
        simulate(in_world, Scripted(point(slow=slow), script), 1, detail) for detail in ("exact", "binned")
    )
    assert binned.startup_j == pytest.approx(exact.startup_j)
    assert binned.energy_j == pytest.approx(exact.energy_j, rel=0.02)
    assert binned.over_slo_fraction == pytest.approx(exact.over_slo_fraction, rel=0.05)
    assert binned.replicas_mean == pytest.approx(exact.replicas_mean, rel=0.01)
