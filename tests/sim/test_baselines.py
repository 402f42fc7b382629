"""The registry, the settings that baselines leave their servers at, and all of them in a simulated fleet."""

from __future__ import annotations

from dataclasses import replace

import pytest

from minwatt.v1.errors import UsageError
from scaler.simulate.baselines.contenders import BASELINES, baseline, initial_replicas
from scaler.simulate.baselines.hpa import Hpa
from scaler.simulate.baselines.hpa_tuned import GENTLE_UP, Tuning, best, tuned_hpa
from scaler.simulate.baselines.server_settings import as_shipped, slowest_clock, with_slack
from scaler.simulate.baselines.static import static_replicas
from scaler.simulate.capacity import rate_at_slo
from scaler.simulate.outcome import Outcome
from scaler.simulate.run import simulate
from scaler.simulate.world import World
from tests.sim.worlds import FULL_MHZ, SLOW_MHZ, policy, world

CALM = world([8_000.0, 8_000.0, 25_000.0, 25_000.0, 8_000.0, 8_000.0], bin_s=60.0)
LAWS = ("hpa", "kpa", "keda-rate", "ray-serve", "latency-ratio")


def run(name: str, where: World = CALM) -> Outcome:
    initial = initial_replicas(where)
    return simulate(where, baseline(name, where, initial), initial, "binned")


def test_an_unknown_name_is_answered_with_all_names() -> None:
    with pytest.raises(UsageError, match=r"nobody: unknown; allowed: static, hpa, hpa-tuned, kpa") as caught:
        baseline("nobody", CALM, 1)
    assert all(name in str(caught.value) for name in BASELINES)


@pytest.mark.parametrize("name", [name for name in BASELINES if name != "hpa-tuned"])
def test_each_goes_by_its_name_and_stays_within_bounds(name: str) -> None:
    outcome = run(name)
    assert outcome.contender == name
    assert 1 <= outcome.replicas_mean <= outcome.replicas_max <= 20
    assert outcome.energy_j > 0


def test_the_same_run_twice_is_the_same() -> None:
    assert run("kpa").energy_j == run("kpa").energy_j


def test_servers_as_shipped() -> None:
    point = as_shipped(CALM)
    assert (point.max_batch_texts, point.max_delay_s) == (64, 0.0)
    assert (point.sm_clock_mhz, point.reflex_sm_clock_mhz) == (0, 0)
    assert with_slack(CALM) == replace(point, max_delay_s=0.02)
    assert slowest_clock(CALM) == replace(point, sm_clock_mhz=SLOW_MHZ)
    assert SLOW_MHZ < FULL_MHZ


def test_no_clock_to_pin() -> None:
    spec = CALM.policy.spec.model_copy(
        update={"gpu": CALM.policy.spec.gpu.model_copy(update={"clocks": "off"})}
    )
    left_alone = replace(CALM, policy=CALM.policy.model_copy(update={"spec": spec}))
    with pytest.raises(UsageError, match=r"gpu\.clocks = off"):
        baseline("keda-rate-slow", left_alone, 1)


def test_static_is_the_fewest_that_hold_the_slo_at_the_peak() -> None:
    point = as_shipped(CALM)
    each = rate_at_slo(CALM, point, CALM.policy.spec.slo.error_budget)
    count = static_replicas(CALM, point)
    assert (count - 1) * each < 25_000 <= count * each
    assert static_replicas(replace(CALM, policy=policy(max_replicas=1)), point) == 1
    outcome = run("static")
    assert outcome.replicas_mean == count == outcome.replicas_max
    assert outcome.startup_j == outcome.reversals == 0


def test_hpa_bounded_runs_half_more_than_static_at_most() -> None:
    assert run("hpa-bounded").replicas_max <= -(-3 * initial_replicas(CALM) // 2)
    assert run("hpa").replicas_max > run("hpa-bounded").replicas_max


def test_a_busy_gpu_costs_the_hpa_more_joules_than_a_request_rate() -> None:
    assert run("hpa").energy_j > run("keda-rate").energy_j


def test_tuned_never_costs_more_than_the_default_that_keeps_the_slo() -> None:
    short = world([8_000.0, 20_000.0], bin_s=60.0)
    initial = initial_replicas(short)
    tuned = simulate(short, tuned_hpa("hpa-tuned", short, initial), initial, "binned")
    default = run("hpa", short)
    assert default.over_slo_fraction <= short.policy.spec.slo.error_budget
    assert tuned.over_slo_fraction <= short.policy.spec.slo.error_budget
    assert tuned.energy_j <= default.energy_j


def test_the_search_for_the_best_of_the_tuned_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """And finds the least joules of all that it may set, where they fall as the target rises."""
    bound = {15.0: 83, 60.0: 87, 300.0: 61}
    runs: list[tuple[int, float]] = []

    def simulated(_: World, hpa: Hpa, initial: int, detail: str) -> Outcome:
        target, window_s = round(100 * hpa._target), hpa._behavior.down_window_s
        runs.append((target, window_s))
        gentle = hpa._behavior.up == GENTLE_UP
        late = target > bound[window_s] + 2 * gentle
        return replace(
            template, idle_j=1000.0 - target, busy_j=0.0, startup_j=0.0, over_slo=1e9 if late else 0
        )

    template = replace(run("static"), refused=0, failed=0)
    monkeypatch.setattr("scaler.simulate.baselines.hpa_tuned.simulate", simulated)
    chosen = tuned_hpa("hpa-tuned", CALM, 20)
    assert (round(100 * chosen._target), chosen._behavior.down_window_s) == (89, 60.0)
    assert chosen._behavior.up == GENTLE_UP
    assert len(runs) <= 20


def test_best_of_the_tuned() -> None:
    def came(joules: float, over: float) -> Outcome:
        return replace(template, idle_j=joules, busy_j=0.0, startup_j=0.0, over_slo=over * template.requests)

    template = replace(run("static"), refused=0, failed=0)
    five, six, seven = (Tuning(percent, 60.0) for percent in (50, 60, 70))
    tried = {five: came(9.0, 0.0), six: came(7.0, 0.0005), seven: came(5.0, 0.002)}
    assert best(tried, 0.001) == six
    assert best(tried, 0.0001) == five
    assert best({seven: tried[seven]}, 0.001) == seven


def test_holds_where_there_is_no_data() -> None:
    gap = world([8_000.0, float("nan"), 8_000.0], bin_s=60.0)
    for name in LAWS:
        assert run(name, gap).seconds == pytest.approx(120.0)
