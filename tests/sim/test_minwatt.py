"""minwatt under simulation is the live loop's own decision, fed as replicas' reports would feed it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from scaler.control import decide, rule
from scaler.settings import Settings
from scaler.simulate.contender import Contender
from scaler.simulate.minwatt import Minwatt
from scaler.simulate.run import simulate
from tests.sim.seen import seen
from tests.sim.worlds import policy, world


def test_it_follows_a_rise_and_keeps_the_slo() -> None:
    in_world = world([4_000, 8_000, 16_000, 16_000, 24_000, 24_000], bin_s=120.0)
    outcome = simulate(in_world, Minwatt(in_world), 3)
    assert outcome.over_slo_fraction <= 1e-3
    assert outcome.replicas_max <= 20
    assert outcome.requests == outcome.answered


def test_both_levels_of_detail_lead_to_the_same_joules() -> None:
    in_world = world([2_000, 3_000], bin_s=60.0)
    exact, binned = (simulate(in_world, Minwatt(in_world), 2, detail) for detail in ("exact", "binned"))
    assert binned.energy_j == pytest.approx(exact.energy_j, rel=0.05)


def test_without_telemetry_it_holds_and_then_runs_the_fallback() -> None:
    in_world = world([1_000.0])
    contender: Contender = Minwatt(in_world)
    point = contender.start(3).point
    blind = replace(seen(5.0, ready=3), data=False)
    held = contender.decide(blind)
    assert (held.replicas, held.point) == (3, point)
    assert contender.decide(replace(blind, now_s=30.0)).replicas == policy().spec.fallback_replicas


def test_it_decides_as_control_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every look goes through `rule`, once, with what runs and starts: `decide` comes to the same."""
    in_world = world([3_000.0] * 2)
    calls: list[int] = []

    def spy(state, heard, current, settings):  # type: ignore[no-untyped-def]
        assert isinstance(settings, Settings)
        assert heard.text_tokens == in_world.profile.text_tokens
        calls.append(current)
        after, ruling = rule(state, heard, current, settings)
        decision = decide(state, heard, current, settings)[1]
        assert decision.desired_replicas == ruling.desired_replicas
        assert decision.operating_point == ruling.operating_point
        return after, ruling

    monkeypatch.setattr("scaler.simulate.minwatt.rule", spy)
    contender = Minwatt(in_world)
    simulate(in_world, contender, 2)
    assert len(calls) == 8
    assert calls[0] == 2


def test_deciding_before_the_start_is_a_mistake() -> None:
    with pytest.raises(RuntimeError):
        Minwatt(world([1.0])).decide(seen(5.0))


def test_the_world_s_parked_watts_are_what_it_plans_with() -> None:
    replaced = replace(world([1_000.0]), parked_w=12.5)
    power = Minwatt(replaced).settings.profile.variant().power
    assert power.parked_w == 12.5
