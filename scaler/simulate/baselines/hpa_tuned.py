"""The HPA as the best of operators would have tuned it, knowing the whole trace: no real one does.

Source: the law of `hpa`. What is tuned: the target, 30% to 100% in steps of 1%; the scale-down window, 15 s
to 300 s; and the scale-up policy, Kubernetes' default or one pod a sync. Least joules among those that keep
the SLO. With a higher target fewer replicas run, so joules fall and misses rise with it: the highest target
that keeps the SLO is found by bisection, in steps of 5% for each window, then finer for the best window
alone, under either policy: at most 20 simulations.

Nothing else that was tried lowered the joules of two traces (azure_llm_conv_2023, wc98_group_1min; A100) by
1%: windows of 0, 30, 120, 600 and 1800 s, scale-up policies of 10% a sync, 100% a minute, 4 pods or 100% a
minute, and no limit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from scaler.simulate.baselines.hpa import Hpa
from scaler.simulate.baselines.hpa_law import DEFAULT_BEHAVIOR, SYNC_S, Behavior, ScalingPolicy
from scaler.simulate.baselines.server_settings import as_shipped
from scaler.simulate.outcome import Outcome
from scaler.simulate.run import simulate
from scaler.simulate.world import World

LEAST_PERCENT, MOST_PERCENT = 30, 100
COARSE_PERCENT = 5
WINDOWS_S = (15.0, 60.0, 300.0)
DEFAULT_UP = DEFAULT_BEHAVIOR.up
GENTLE_UP = (ScalingPolicy("pods", 1, SYNC_S),)


@dataclass(frozen=True, slots=True)
class Tuning:
    target_percent: int
    window_s: float
    up: tuple[ScalingPolicy, ...] = DEFAULT_UP


def tuned_hpa(name: str, world: World, initial: int) -> Hpa:
    """Where nothing keeps the SLO: what misses it least."""
    return _hpa(name, world, _Search(name, world, initial).best())


@dataclass(slots=True)
class _Search:
    name: str
    world: World
    initial: int
    tried: dict[Tuning, Outcome] = field(default_factory=dict)

    def best(self) -> Tuning:
        for window_s in WINDOWS_S:
            self._highest(range(LEAST_PERCENT, MOST_PERCENT + 1, COARSE_PERCENT), window_s, DEFAULT_UP)
        coarse = best(self.tried, self._error_budget)
        above = range(coarse.target_percent, coarse.target_percent + COARSE_PERCENT)
        finer = self._highest([one for one in above if one <= MOST_PERCENT], coarse.window_s, DEFAULT_UP)
        near = range(finer - COARSE_PERCENT, finer + COARSE_PERCENT)
        self._highest([one for one in near if one <= MOST_PERCENT], coarse.window_s, GENTLE_UP)
        return best(self.tried, self._error_budget)

    def _highest(self, targets: Sequence[int], window_s: float, up: tuple[ScalingPolicy, ...]) -> int:
        """The highest of the rising targets that keeps the SLO; the first where none does."""
        low, high = -1, len(targets)  # the last that is known to keep it, the first that is known not to
        while high - low > 1:
            middle = (low + high) // 2
            if self._keeps_slo(Tuning(targets[middle], window_s, up)):
                low = middle
            else:
                high = middle
        return targets[max(0, low)]

    def _keeps_slo(self, tuning: Tuning) -> bool:
        if tuning not in self.tried:
            contender = _hpa(self.name, self.world, tuning)
            self.tried[tuning] = simulate(self.world, contender, self.initial, "binned")
        return self.tried[tuning].over_slo_fraction <= self._error_budget

    @property
    def _error_budget(self) -> float:
        return self.world.policy.spec.slo.error_budget


def best(tried: Mapping[Tuning, Outcome], error_budget: float) -> Tuning:
    """The least joules that keep the SLO, or else the fewest misses."""
    keeping = {key: one.energy_j for key, one in tried.items() if one.over_slo_fraction <= error_budget}
    scores = keeping or {key: one.over_slo_fraction for key, one in tried.items()}
    return min(scores, key=lambda key: scores[key])


def _hpa(name: str, world: World, tuning: Tuning) -> Hpa:
    behavior = Behavior(up=tuning.up, down_window_s=tuning.window_s)
    return Hpa(name, world.policy.spec.replicas, as_shipped(world), tuning.target_percent / 100, behavior)
