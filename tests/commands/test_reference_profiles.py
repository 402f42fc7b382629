"""The reference profiles and their policies: published latency, assumed watts, as calibrated and no more."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from minwatt import cli
from minwatt.resources import resource
from scaler.policy import load_policy
from scaler.profile import ClockStep, Profile, load_profile

TOKENS = 128


@dataclass(frozen=True)
class Card:
    """One row of the table that the profile was put together from; bert-base INT8, texts of 128 tokens."""

    name: str
    alpha_s: float
    beta_s: float  # a text
    idle_w: float
    parked_w: float
    start_w: float
    busy_w: dict[int, float]  # by batch
    full_mhz: int

    @property
    def profile(self) -> Profile:
        return load_profile(resource(f"profiles/reference/{self.name}-bert-base-int8.yaml"))

    @property
    def policy_file(self) -> Path:
        return resource(f"examples/policy-{self.name}.yaml")


A100 = Card("a100", 0.51e-3, 0.0568e-3, 55, 45, 90, {1: 106, 64: 300}, 1410)
T4 = Card("t4", 0.89e-3, 0.519e-3, 20, 15, 35, {1: 40, 64: 70}, 1590)
CLOCKS = {
    "A": [(1.0, 1.0), (1.2, 0.72), (1.5, 0.52)],
    "conservative": [(1.0, 1.0), (1.2, 0.80), (1.33, 0.70)],
}


@pytest.mark.parametrize("card", [A100, T4], ids=lambda card: card.name)
def test_the_figures_are_those_of_the_table(card: Card) -> None:
    profile = card.profile
    engine = profile.engine(TOKENS)
    assert profile.text_tokens == TOKENS
    assert engine.alpha_s == pytest.approx(card.alpha_s)
    assert engine.beta_s_per_text == pytest.approx(card.beta_s)
    assert engine.idle_w == card.idle_w
    assert profile.variants[0].power.parked_w == card.parked_w
    for batch, watts in card.busy_w.items():
        assert engine.batch_j(batch) / engine.service_s(batch) == pytest.approx(watts, rel=2e-3)
    assert (profile.start_up.seconds, profile.start_up.joules) == (45, 45 * card.start_w)
    assert profile.replica.max_batch_tokens >= 128 * TOKENS


def test_the_a100_s_watts_are_linear_in_the_per_text_part_and_make_a_text_alone_3_1_times_dearer() -> None:
    engine = A100.profile.engine(TOKENS)
    for batch in (1, 4, 64, 128):
        part = A100.beta_s * batch / (A100.alpha_s + A100.beta_s * batch)
        assert engine.batch_j(batch) / engine.service_s(batch) == pytest.approx(81 + 250 * part)
    assert engine.batch_j(1) / (engine.batch_j(64) / 64) == pytest.approx(3.1, abs=0.05)


@pytest.mark.parametrize("card", [A100, T4], ids=lambda card: card.name)
def test_the_clock_sets_are_those_of_the_table(card: Card) -> None:
    sets = {clocks.name: clocks for clocks in card.profile.clock_sets}
    assert [*sets] == [*CLOCKS]
    for name, factors in CLOCKS.items():
        assert sets[name].basis == "assumed"
        assert [(step.time_factor, step.power_factor) for step in sets[name].steps] == factors
        for step in sets[name].steps:
            assert step.sm_clock_mhz == pytest.approx(card.full_mhz / step.time_factor, abs=1)


@pytest.mark.parametrize("card", [A100, T4], ids=lambda card: card.name)
def test_nothing_in_them_is_called_measured(card: Card) -> None:
    profile = card.profile
    assert profile.is_reference
    assert profile.meter.source == "assumed"
    assert {"published", "assumed"} <= {word.strip(".,:;") for word in profile.meter.notes.lower().split()}
    (variant,) = profile.variants
    assert (variant.service_time.basis, variant.power.basis, profile.start_up.basis) == (
        "published",
        "assumed",
        "assumed",
    )
    assert variant.service_time.saturation == 1
    assert variant.max_rps_at_slo is None


@pytest.mark.parametrize("card", [A100, T4], ids=lambda card: card.name)
def test_each_has_a_policy_that_it_can_meet(card: Card, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["policy", "check", str(card.policy_file)])
    assert ended.value.code == 0
    assert "bert-base" in capsys.readouterr().out
    spec, profile = load_policy(card.policy_file).spec, card.profile
    assert spec.model == profile.model
    assert {*spec.variants.allow} <= {variant.name for variant in profile.variants}
    assert (spec.slo.latency_s, spec.slo.percentile, spec.slo.error_budget) == (0.05, 99, 0.001)
    assert spec.gpu.clocks == "auto"
    assert profile.engine(TOKENS).service_s(spec.batching.max_size) < spec.slo.latency_s
    assert spec.power.budget_w is not None
    assert spec.power.budget_w >= 0.99 * spec.replicas.max * card.busy_w[64]


@pytest.mark.parametrize(("factors", "watts"), [((1.0, 1.0), 300), ((1.2, 0.72), 216), ((1.5, 0.52), 156)])
def test_a_clock_moves_busy_watts_and_leaves_idle_ones(factors: tuple[float, float], watts: float) -> None:
    step = ClockStep(sm_clock_mhz=1000, time_factor=factors[0], power_factor=factors[1])
    engine = A100.profile.engine(TOKENS, clock=step)
    assert engine.idle_w == 55
    assert engine.batch_j(64) / engine.service_s(64) == pytest.approx(watts, rel=2e-3)
    assert engine.service_s(64) == pytest.approx(factors[0] * A100.profile.engine(TOKENS).service_s(64))
