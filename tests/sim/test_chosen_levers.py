"""What the planner predicts of the levers that it may choose is what a replica does, simulated exactly."""

from __future__ import annotations

import math
from itertools import repeat

import numpy as np
import pytest

from minwatt.resources import resource
from scaler.inputs import read_pair
from scaler.latency import tail_s
from scaler.levers import LeverTable, TableKey
from scaler.settings import Settings
from scaler.simulate.replica import Replica, gamma_gaps
from scaler.simulate.rules import rules_of
from scaler.simulate.traffic import Traffic
from scaler.simulate.world import World

TEXTS = 20_000
MISS = 0.01


def chosen(table: LeverTable) -> dict[int, tuple[float, float]]:
    """By lever, the least and the most texts a second at which it draws the fewest watts of those that hold
    the SLO at some upper rate."""
    rates: dict[int, list[float]] = {}
    for most, cap_tps in enumerate(table.cap_tps, start=1):
        for cell, rate_tps in enumerate(table.grid_tps):
            if 0 < rate_tps <= cap_tps:
                rates.setdefault(int(table.best[most, cell]), []).append(float(rate_tps))
    return {index: (min(some), max(some)) for index, some in rates.items()}


@pytest.mark.parametrize("device", ["a100", "t4"])
def test_watts_and_tail_of_every_lever_that_may_be_chosen(device: str) -> None:
    policy, profile = read_pair(
        resource(f"examples/policy-{device}.yaml"),
        resource(f"profiles/reference/{device}-bert-base-int8.yaml"),
    )
    settings = Settings(policy, profile)
    world = World(profile, policy, Traffic(1.0, np.ones(1)), service_noise=0.0)
    slo_s = settings.limits.slo_latency_s
    table = settings.tables.at(TableKey(profile.text_tokens, 1.0, 1.0))
    gaps_s = np.cumsum(gamma_gaps(TEXTS, 1.0, np.random.default_rng(1)))
    for index, ends in chosen(table).items():
        lever = table.levers[index]
        rules = rules_of(world, lever.point)
        for rate_tps in ends:
            arrivals_s = gaps_s / rate_tps
            replica = Replica(rules, repeat(1.0))
            replica.advance(arrivals_s.tolist(), math.inf)
            seconds, totals = float(arrivals_s[-1]), replica.totals
            watts = (totals.busy_j + rules.engine.idle_w * (seconds - totals.busy_s)) / seconds
            tail = float(np.quantile(replica.answered().latency_s, 1 - MISS))
            raised = float(lever.raised_share(np.array([rate_tps]), slo_s)[0])
            calm = lever.engine == lever.raised or raised < 0.001
            expected_w = float(np.interp(rate_tps, table.grid_tps, table.watts[index]))
            assert expected_w == pytest.approx(watts, rel=0.03 if calm else 0.15), lever.point
            assert totals.refused == 0, lever.point
            assert tail < slo_s
            if calm:
                expected_s = tail_s(lever.server(slo_s), np.array([rate_tps]), MISS)[0]
                assert 0.85 * tail < expected_s < 1.3 * tail + 0.002, lever.point
