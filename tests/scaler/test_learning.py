"""What is learnt while replicas load another variant, and once it is known that some never will."""

from __future__ import annotations

from dataclasses import replace

import pytest

from scaler.control import first_point
from scaler.control_state import ControlState, start_fresh
from scaler.learning import expected_demand, learn
from scaler.plan import Planner
from scaler.settings import Settings
from scaler.signals import FleetPower, Signals
from scaler.variants import VariantState
from tests.scaler.made_up import TEXT_TOKENS, policy, power, profile, service_time, signals, variant

SLOW = variant(
    name="fp32",
    service_time=service_time(beta_s_per_token=0.008 / TEXT_TOKENS),
    power=power(batch_w=5.0, token_w=5.0),
)
BOTH = profile(SLOW, variant())
FREE = Settings(policy(), BOTH)
POINT = replace(first_point(FREE), variant="int8")
ASKED_S = 100.0
WAITED_S = ASKED_S + FREE.switch_rules.left_after * FREE.switch_rules.switch_s
SWITCH_W = BOTH.switch.joules / BOTH.switch.seconds


def fleet(at_s: float, watts: float | None = None, **variants: int) -> Signals:
    """Their batches are too few to learn their service time from."""
    drawn = FleetPower(watts, "unknown" if watts is None else "rapl")
    return signals(at_s=at_s, ready=sum(variants.values()), variants=variants, power=drawn, batches=0.0)


def predicted_w(seen: Signals, variant: str) -> float:
    demand = expected_demand(seen, seen.arrivals_rps, FREE)
    return Planner(FREE.tables).predict(seen.ready, replace(POINT, variant=variant), demand).watts


def asked_for_int8() -> ControlState:
    state = start_fresh(0.0, POINT)
    return replace(state, variants=VariantState("int8", ASKED_S))


@pytest.mark.parametrize("int8", [1, 2])
def test_a_replica_that_never_takes_the_variant_hides_no_watts(int8: int) -> None:
    """Over the budget: what the fleet draws more than its most would is the error of the profile."""
    seen = fleet(WAITED_S + 1.0, int8=int8, fp32=3 - int8)
    watts = predicted_w(seen, "int8" if int8 == 2 else "fp32")
    bound = Settings(policy(power={"budget": f"{1.2 * watts:.6f}W"}), BOTH)
    seen = replace(seen, power=FleetPower(1.3 * watts, "rapl"))
    assert learn(asked_for_int8(), seen, bound).corrections.watts == pytest.approx(1.3)


def test_while_they_load_it_the_loading_is_no_error() -> None:
    seen = fleet(WAITED_S, int8=2, fp32=1)
    watts = predicted_w(seen, "int8") + SWITCH_W
    bound = Settings(policy(power={"budget": f"{0.9 * watts:.6f}W"}), BOTH)
    seen = replace(seen, power=FleetPower(watts, "rapl"))
    assert learn(asked_for_int8(), seen, bound).corrections.watts == pytest.approx(1.0)


def test_beside_a_straggler_the_fleet_is_steady_once_it_is_not_waited_for() -> None:
    state = asked_for_int8()
    for at_s, learns in ((ASKED_S + 1.0, False), (WAITED_S, False), (WAITED_S + 1.0, True)):
        seen = fleet(at_s, int8=2, fp32=1)
        seen = replace(seen, power=FleetPower(0.6 * predicted_w(seen, "int8"), "rapl"))
        state = learn(state, seen, FREE)
        assert (state.corrections.watts < 1.0) == learns


def test_the_service_time_is_held_against_the_line_of_most() -> None:
    for at_s, counts, learnt in (
        (WAITED_S, {"int8": 1, "fp32": 2}, False),
        (WAITED_S + 1.0, {"int8": 1, "fp32": 2}, False),  # just as the profile says of fp32
        (WAITED_S + 1.0, {"int8": 2, "fp32": 1}, True),
    ):
        line = SLOW.service_time
        batch_s = line.alpha_s + line.beta_s_per_token * TEXT_TOKENS
        seen = replace(fleet(at_s, **counts), batches=100.0, compute_s_per_batch=batch_s)
        after = learn(asked_for_int8(), seen, FREE).corrections.service
        assert after == pytest.approx(1.0) if not learnt else after > 1.0
