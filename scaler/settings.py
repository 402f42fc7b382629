"""A policy and a profile, and the rules that follow from them for each part of a decision.

Pure. Owns no rule's substance: each is its module's. Made once by the commands; read by `control` and its
parts, by `feasible` and by simulations.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from scaler.forecast import ForecastRules
from scaler.levers import LeverTables, Limits, PlanRules, allowed_variants, told_name
from scaler.policy import Policy
from scaler.profile import Profile
from scaler.signals import SILENT_AFTER_S, SignalRules
from scaler.stabilise import StabiliseRules, break_even_s, start_cost_j
from scaler.variants import SwitchRules

_STEADY_SHARE = 0.25  # of the error budget, for the tail at a steady load; the rest for what no one foresaw
_LATE_SHARE = 0.5  # of the error budget, that forecasts are to use up
_LEAST_MISS = 1e-6


@dataclass(frozen=True)
class Settings:
    """A policy and a profile, and the rules that follow from them. Frozen while the scaler runs."""

    policy: Policy
    profile: Profile
    plan_rules: PlanRules = field(default_factory=PlanRules)
    clock_set: str = ""  # of the profile; empty: its default

    @property
    def tick_s(self) -> float:
        return self.policy.spec.behavior.tick_s

    @cached_property
    def signal_rules(self) -> SignalRules:
        # Replicas report each second: 0.9 of a whole number of reports, so that jitter does not drop one.
        span_s = 0.9 * max(1.0, self.tick_s)
        fresh_s = min(SILENT_AFTER_S, self.policy.spec.telemetry.stale_after_s)
        return SignalRules(rate_window_s=span_s, fresh_s=fresh_s)

    @cached_property
    def limits(self) -> Limits:
        spec = self.policy.spec
        return Limits(
            min_replicas=spec.replicas.min,
            max_replicas=spec.replicas.max,
            slo_latency_s=spec.slo.latency_s,
            percentile=spec.slo.percentile,
            miss=max(_LEAST_MISS, _STEADY_SHARE * self._may_miss),
            budget_w=spec.power.budget_w,
            max_batch_texts=spec.batching.max_size,
            max_delay_s=spec.batching.max_delay_s,
            clocks=spec.gpu.clocks == "auto",
            variants=spec.variants.allow,
            min_accuracy=spec.variants.min_accuracy,
            when_over_budget=spec.power.when_over_budget,
        )

    @cached_property
    def tables(self) -> LeverTables:
        return LeverTables(self.profile, self.limits, self.plan_rules, self.clock_set)

    @cached_property
    def tables_by_variant(self) -> Mapping[str, LeverTables]:
        """Of each allowed variant by itself, named as operating points name it. The first is begun with."""
        names = allowed_variants(self.profile, self.limits)
        if len(names) == 1:
            return {told_name(self.profile, names[0]): self.tables}
        return {
            name: LeverTables(
                self.profile, replace(self.limits, variants=(name,)), self.plan_rules, self.clock_set
            )
            for name in names
        }

    @cached_property
    def switch_rules(self) -> SwitchRules:
        ladder, switch = self.limits.when_over_budget, self.profile.switch
        before = ladder.index("cheaperVariant") if "cheaperVariant" in ladder else None
        return SwitchRules(
            switch_j=switch.joules,
            start_j=self.stabilise_rules.start_j,
            switch_s=switch.seconds,
            rungs_before=0 if self.limits.budget_w is None else before,
        )

    @cached_property
    def stabilise_rules(self) -> StabiliseRules:
        return StabiliseRules(start_cost_j(self.profile), self.policy.spec.behavior.scale_down.window_s)

    @cached_property
    def forecast_rules(self) -> ForecastRules:
        miss = max(_LEAST_MISS, (1 - _STEADY_SHARE) * self._may_miss)
        return ForecastRules(self.signal_rules.rate_window_s, miss)

    @property
    def late_target(self) -> float:
        """Of requests: where fewer are late, the forecast grows bolder."""
        return max(_LEAST_MISS, _LATE_SHARE * self._may_miss)

    @property
    def _may_miss(self) -> float:
        """Fraction of requests: the policy's percentile and its error budget, whichever is stricter."""
        slo = self.policy.spec.slo
        return min(1 - slo.percentile / 100, slo.error_budget)

    @property
    def first_window_s(self) -> float:
        """How long a scaler that found a fleet running moves nothing."""
        window_s = self.policy.spec.behavior.scale_down.window_s
        own_s = break_even_s(self.profile) if window_s is None else window_s
        return min(own_s, self.policy.spec.telemetry.stale_after_s)
