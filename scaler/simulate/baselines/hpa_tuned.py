"""The HPA as the best of operators would have tuned it, knowing the whole trace: no real one does.

Source: the law of `hpa`. What is tuned: the target, 30% to 95%, and the scale-down window, 60 s or 300 s;
least joules among those that keep the SLO. With a higher target fewer replicas run, so joules fall and misses
rise with it: the highest target that keeps the SLO is found by bisection, for each window.
"""

from __future__ import annotations

from scaler.simulate.baselines.hpa import Hpa
from scaler.simulate.baselines.hpa_law import Behavior
from scaler.simulate.baselines.server_settings import as_shipped
from scaler.simulate.outcome import Outcome
from scaler.simulate.run import simulate
from scaler.simulate.world import World

TARGETS = tuple(percent / 100 for percent in range(30, 100, 5))
WINDOWS_S = (60.0, 300.0)


def tuned_hpa(name: str, world: World, initial: int) -> Hpa:
    """Runs four simulations for each window. Where nothing keeps the SLO: what misses it least."""
    budget = world.policy.spec.slo.error_budget
    tried: dict[tuple[float, float], Outcome] = {}
    for window_s in WINDOWS_S:
        low, high = -1, len(TARGETS)  # the highest target that keeps the SLO, the lowest that does not
        while high - low > 1:
            middle = (low + high) // 2
            key = (TARGETS[middle], window_s)
            tried[key] = simulate(world, _hpa(name, world, *key), initial, "binned")
            if tried[key].over_slo_fraction <= budget:
                low = middle
            else:
                high = middle
    return _hpa(name, world, *best(tried, budget))


def best(tried: dict[tuple[float, float], Outcome], error_budget: float) -> tuple[float, float]:
    """Of (target, window): the least joules that keep the SLO, or else the fewest misses."""
    keeping = {key: one.energy_j for key, one in tried.items() if one.over_slo_fraction <= error_budget}
    scores = keeping or {key: one.over_slo_fraction for key, one in tried.items()}
    return min(scores, key=lambda key: scores[key])


def _hpa(name: str, world: World, target: float, window_s: float) -> Hpa:
    behavior = Behavior(down_window_s=window_s)
    return Hpa(name, world.policy.spec.replicas, as_shipped(world), target, behavior)
