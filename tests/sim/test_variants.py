"""Two precision variants under simulation: what a switch takes, and what it is worth."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from scaler.profile import Variant
from scaler.simulate.binned import BinnedServing
from scaler.simulate.contender import Seen, Wish
from scaler.simulate.fleet import Fleet
from scaler.simulate.minwatt import Minwatt
from scaler.simulate.optimum import optimum
from scaler.simulate.run import simulate
from scaler.simulate.world import World
from tests.sim.worlds import point, policy, profile, world

INT8 = profile().variant()
FP16: Variant = INT8.model_copy(
    update={
        "name": "fp16",
        "service_time": INT8.service_time.model_copy(
            update={"beta_s_per_token": 2 * INT8.service_time.beta_s_per_token}
        ),
    }
)
BOTH = profile().model_copy(update={"variants": (FP16, INT8)})
SWITCH_S = BOTH.switch.seconds


def two(rates_rps: list[float], bin_s: float = 60.0, **spec: object) -> World:
    """Clocks left alone, few batch sizes: tables are made fast."""
    fields = policy().spec.model_copy(update={"gpu": policy().spec.gpu.model_copy(update={"clocks": "off"})})
    asked = fields.variants.model_copy(update=spec)
    small = fields.batching.model_copy(update={"max_size": 8, "max_delay_s": 0.0})
    fields = fields.model_copy(update={"variants": asked, "batching": small})
    return world(rates_rps, bin_s, profile=BOTH, policy=policy().model_copy(update={"spec": fields}))


@dataclass
class Switches:
    """Two replicas; asks for int8 at its first look."""

    period_s: float = 5.0
    name: str = "switches"

    def start(self, replicas: int) -> Wish:
        self.seen: list[Seen] = []
        return Wish(replicas, replace(point(), variant="fp16"))

    def decide(self, seen: Seen) -> Wish:
        self.seen.append(seen)
        return Wish(2, replace(point(), variant="int8"))


@pytest.mark.parametrize("detail", ["binned", "exact"])
def test_the_old_variant_answers_until_the_new_one_is_loaded(detail: str) -> None:
    contender = Switches()
    outcome = simulate(two([500.0], 60.0), contender, 2, detail)  # type: ignore[arg-type]
    assert {one.variant for one in contender.seen if one.now_s <= 5 + SWITCH_S} == {"fp16"}
    assert {one.variant for one in contender.seen if one.now_s > 5 + SWITCH_S} == {"int8"}
    slow, fast = contender.seen[1].compute_s_per_batch, contender.seen[-1].compute_s_per_batch
    assert slow > 1.05 * fast
    assert outcome.answered == outcome.requests
    assert outcome.startup_j == pytest.approx(2 * BOTH.switch.joules)


def test_a_switch_that_is_taken_back_is_dropped() -> None:
    in_world = two([100.0])
    told = replace(point(), variant="fp16")
    fleet = Fleet(in_world, BinnedServing(in_world, told), 2, told)
    fleet.retune(replace(told, variant="int8"), 0.0)
    fleet.step(0.0, 5.0, 500.0, 500.0)
    fleet.retune(told, 5.0)
    for second in range(5, 100, 5):
        fleet.step(second, second + 5.0, 500.0, 500.0)
    assert fleet.variant == "fp16"


def test_minwatt_takes_the_cheaper_variant_and_the_optimum_bounds_it() -> None:
    """It begins with the profile's first, switches once, and loses no request on the way."""
    both = two([6_000.0] * 20)
    alone = two([6_000.0] * 20, allow=("fp16",))
    mine = simulate(both, Minwatt(both), 3)
    without = simulate(alone, Minwatt(alone), 3)
    assert mine.answered == mine.requests
    assert mine.over_slo_fraction <= 1e-3
    assert mine.energy_j < 0.95 * without.energy_j
    bound = optimum(both, 3)
    assert bound.bound_j <= mine.energy_j
    assert bound.bound_j < optimum(alone, 3).bound_j


def test_a_fleet_without_a_named_variant_answers_with_the_first_allowed() -> None:
    assert two([1.0]).first_variant == "fp16"
    only = two([1.0], allow=("int8",))
    assert only.engine() == only.engine(0, "int8") != only.engine(0, "fp16")
