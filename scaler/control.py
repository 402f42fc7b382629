"""The scaler's whole story in pure functions: reports → signals → forecast → plan → stabilise → decision.

Pure: time is an argument, nothing sleeps. `observe_fleet` takes in reports on every beat; `decide` runs
once a tick. `loop` calls both and acts on the decision; a simulation calls the same two.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from scaler import forecast as forecasting
from scaler.bus import FleetView
from scaler.corrections import Running, can_tell, learn_latency, learn_service, learn_watts
from scaler.decision import Action, Decision, Reason, ReasonCode
from scaler.explain import Outlook, explain, not_acted_on
from scaler.forecast import Forecast, ForecastRules, ForecastState
from scaler.levers import LeverTables, Limits, PlanRules, allowed_variants, told_name
from scaler.operating_point import OperatingPoint
from scaler.plan import Corrections, Demand, FleetCosts, Planner, Present
from scaler.policy import Policy
from scaler.profile import Profile
from scaler.signals import SILENT_AFTER_S, Missing, SignalMemory, SignalRules, Signals, observe
from scaler.stabilise import (
    Needs,
    Stabilised,
    StabiliseRules,
    StabiliseState,
    break_even_s,
    stabilise,
    start_cost_j,
)
from scaler.urgency import Urgency, judge
from scaler.variants import Choice, Offer, SwitchRules, VariantState, choose

_LEAST_TPS = 0.01  # not quite nothing, so that operating points still differ in load over capacity
_STEADY_SHARE = 0.25  # of the error budget, for the tail at a steady load; the rest for what no one foresaw
_LEAST_MISS = 1e-6
_MOST_BEATS = 600


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


@dataclass(frozen=True, slots=True)
class ControlState:
    """All that is carried from tick to tick. A restart loses it, and lives: the fleet itself is read anew."""

    started_s: float
    found_running: bool
    memory: SignalMemory = field(default_factory=SignalMemory)
    forecast: ForecastState | None = None
    beats_rps: tuple[float, ...] = ()  # arrivals of each beat since the last tick
    devices: int = 0  # most replicas there ever were: the devices of those that left are parked
    stabilised: StabiliseState = field(default_factory=StabiliseState)
    corrections: Corrections = field(default_factory=Corrections)
    point: OperatingPoint | None = None
    missing_since_s: float | None = None
    was_ready: bool = False
    variants: VariantState = field(default_factory=VariantState)
    steady: tuple[float, int, int] = (-math.inf, 0, 0)  # since when: ready replicas, point's version


def start_beside(now_s: float) -> ControlState:
    """For replicas that run already: none of them is moved in the first window."""
    return ControlState(started_s=now_s, found_running=True)


def start_fresh(now_s: float, point: OperatingPoint) -> ControlState:
    """For a fleet that is yet to start, at `point`."""
    variants = VariantState(asked=point.variant)
    return ControlState(started_s=now_s, found_running=False, point=point, variants=variants)


def first_point(settings: Settings) -> OperatingPoint:
    """What a fleet runs at before its load is known: frugal at next to none, within the SLO at all loads."""
    replicas, tokens = max(1, settings.limits.min_replicas), settings.profile.text_tokens
    planners = [Planner(tables) for tables in settings.tables_by_variant.values()]
    planner = next((one for one in planners if one.most_tps(replicas, tokens) > 0), planners[0])
    return replace(
        planner.at(replicas, Demand(1.0, planner.most_tps(replicas, tokens), tokens)).point, version=1
    )


def observe_fleet(
    state: ControlState, view: FleetView, now_s: float, settings: Settings
) -> tuple[ControlState, Signals | Missing]:
    """Takes in what the replicas reported."""
    memory, seen = observe(state.memory, view, now_s, settings.signal_rules)
    beats = state.beats_rps
    if isinstance(seen, Signals) and len(beats) < _MOST_BEATS:
        beats = (*beats, seen.last_rps)
    return replace(state, memory=memory, beats_rps=beats, was_ready=state.was_ready or seen.ready > 0), seen


def decide(
    state: ControlState, seen: Signals | Missing, current: int, settings: Settings
) -> tuple[ControlState, Decision]:
    """One tick. `current`: replicas that run or start now, read from the fleet."""
    if isinstance(seen, Missing):
        return _blind(state, seen, current, settings)
    state = replace(state, missing_since_s=None, devices=max(state.devices, current))
    state, ahead = _forecast(state, seen, settings)
    state = _learn(state, seen, settings)
    urgency = judge(seen, current, settings.limits, settings.policy.spec.slo.error_budget)
    state, planned = _plan(state, seen, ahead, current, urgency, settings)
    state, stable = _stabilise(state, planned, current, settings)
    first_window = _in_first_window(state, seen.at_s, settings)
    best = planned.costs.best
    outlook = Outlook(seen, ahead, best, urgency, stable, settings.policy, first_window, planned.variant)
    bounds = settings.limits
    desired = current if first_window else min(bounds.max_replicas, max(bounds.min_replicas, stable.replicas))
    point = _point(state, seen, desired, planned)
    retuned = not first_window and point != state.point
    if retuned:
        state = replace(state, point=point)
    planner, demand, replicas = planned.planner, planned.demand, max(1, desired)
    running = replace(point, variant=planned.variant.running)
    p99_s = planner.tail_s(replicas, running, demand, 99.0)
    return state, Decision(
        at_s=seen.at_s,
        action=_action(current, desired, retuned, held=first_window),
        current_replicas=current,
        desired_replicas=desired,
        operating_point=state.point,
        forecast_rps=ahead.upper_rps,
        predicted_p99_s=p99_s if math.isfinite(p99_s) else None,
        predicted_watts=planner.predict(replicas, running, demand, planned.present).watts,
        watts_basis="profile" if seen.power.watts is None else "measured",
        reasons=explain(outlook, current, desired),
    )


@dataclass(frozen=True, slots=True)
class _Planned:
    """As the variant that runs: another may have been asked for."""

    variant: Choice
    planner: Planner
    demand: Demand
    present: Present
    costs: FleetCosts
    needs: Needs


def _forecast(state: ControlState, seen: Signals, settings: Settings) -> tuple[ControlState, Forecast]:
    start_up_s = seen.start_up_s or settings.profile.start_up.seconds
    rules = settings.forecast_rules
    updated = forecasting.update(state.forecast, seen.at_s, seen.arrivals_rps, rules, state.beats_rps)
    remembered, ahead = forecasting.look_ahead(updated, start_up_s + settings.tick_s, rules)
    return replace(state, forecast=remembered, beats_rps=()), ahead


def _learn(state: ControlState, seen: Signals, settings: Settings) -> ControlState:
    version = state.point.version if state.point else 0
    asked = state.point.variant if state.point else ""
    others = seen.ready - seen.variants.get(asked, 0) if asked and seen.variants else 0
    if state.point is not None and not others:  # else what was measured is of several variants
        corrections = learn_service(state.corrections, seen, _running(state.point, settings))
        state = replace(state, corrections=corrections)
    spec = settings.policy.spec
    steady = state.steady[1:] == (seen.ready, version) and not (seen.starting or seen.draining or others)
    if not steady:
        state = replace(state, steady=(seen.at_s, seen.ready, version))
    if state.point is None or not (steady or _over_budget(seen, settings)):
        return state
    service_alone = Corrections(service=state.corrections.service)
    planner = Planner(settings.tables, service_alone)
    demand = _demand(seen, seen.arrivals_rps, settings)
    point = replace(state.point, variant=_answered_with(seen, state.point, settings))
    predicted = planner.predict(seen.ready, point, demand)
    start_up = settings.profile.start_up
    switch = settings.profile.switch
    besides_w = seen.starting * start_up.joules / start_up.seconds
    besides_w += others * switch.joules / switch.seconds
    corrections = learn_watts(state.corrections, seen, predicted.watts, spec.power.budget_w, besides_w)
    if (
        steady
        and seen.at_s - state.steady[0] >= settings.signal_rules.latency_window_s
        and can_tell(seen, predicted)
    ):
        tail_s = planner.tail_s(seen.ready, point, demand, spec.slo.percentile)
        corrections = learn_latency(corrections, seen, tail_s, spec.slo.percentile)
    return replace(state, corrections=corrections)


def _over_budget(seen: Signals, settings: Settings) -> bool:
    watts, budget_w = seen.power.watts, settings.limits.budget_w
    return watts is not None and budget_w is not None and watts > budget_w


def _answered_with(seen: Signals, point: OperatingPoint, settings: Settings) -> str:
    """The variant of most ready replicas: the point's, but while they load it."""
    there = {name: count for name, count in seen.variants.items() if name in settings.tables_by_variant}
    return max(there, key=lambda name: there[name]) if there and point.variant else point.variant


def _running(point: OperatingPoint, settings: Settings) -> Running:
    steps = settings.profile.clock_steps(settings.clock_set)
    slower = {step.sm_clock_mhz: step.time_factor for step in steps}.get(point.sm_clock_mhz, 1.0)
    line = settings.profile.variant(point.variant).service_time
    return Running(line, slower, point.reflex_sm_clock_mhz != point.sm_clock_mhz)


def _demand(seen: Signals, arrivals_rps: float, settings: Settings, upper_rps: float | None = None) -> Demand:
    texts_per_request = seen.texts_per_request or 1.0
    expected_tps = max(_LEAST_TPS, arrivals_rps * texts_per_request)
    upper_tps = max(expected_tps, (upper_rps or 0.0) * texts_per_request)
    return Demand(expected_tps, upper_tps, seen.text_tokens or settings.profile.text_tokens)


def _plan(
    state: ControlState,
    seen: Signals,
    ahead: Forecast,
    current: int,
    urgency: Urgency,
    settings: Settings,
) -> tuple[ControlState, _Planned]:
    present = Present(ready=seen.ready, devices=state.devices)
    demand = _demand(seen, ahead.expected_rps, settings, ahead.upper_rps)
    # Texts that wait beyond a batch of each replica are to be gone within a tick.
    backlog_tps = urgency.backlog_texts / settings.tick_s
    demand = replace(demand, upper_tps=demand.upper_tps + backlog_tps)
    if _over_budget(seen, settings):  # what came is counted on to go on, though the forecast lags
        now_tps = _demand(seen, seen.arrivals_rps, settings).upper_tps
        demand = replace(demand, upper_tps=max(demand.upper_tps, now_tps))
    calm_demand = None
    if math.isfinite(ahead.calm_rps):
        calm_tps = demand.upper_tps * max(1.0, ahead.calm_rps / max(ahead.upper_rps, 1e-9))
        calm_demand = replace(demand, upper_tps=calm_tps)
    state, chosen = _variant(state, seen, demand, calm_demand, present, current, settings)
    tables = settings.tables_by_variant[chosen.running]
    if chosen.loading:
        tables = _while_loading(tables, seen.ready - seen.variants.get(chosen.asked, 0))
    planner = Planner(tables, state.corrections)
    costs = planner.costs(demand, present)
    required = costs.best.replicas
    calm = required
    if required < current:
        calm = current if calm_demand is None else planner.required(calm_demand)
    point = None if state.point is None else replace(state.point, variant=chosen.running)
    kept = planner.at(max(1, current), demand, present, point)
    urgent = min(urgency.at_least, settings.limits.max_replicas)
    if urgent > required and planner.at(urgent, demand, present).within_budget:
        required = urgent
    needs = Needs(
        now_s=seen.at_s,
        watts=costs.watts,
        required=required,
        required_calm=max(required, calm),
        affordable=None if kept.within_budget else costs.best.replicas,
    )
    return state, _Planned(chosen, planner, demand, present, costs, needs)


def _variant(
    state: ControlState,
    seen: Signals,
    demand: Demand,
    calm_demand: Demand | None,
    present: Present,
    current: int,
    settings: Settings,
) -> tuple[ControlState, Choice]:
    """Which variant the fleet is asked for, and which it is planned as. Where there is one, that one."""
    tables = settings.tables_by_variant
    if len(tables) == 1 or _in_first_window(state, seen.at_s, settings):
        there = [one for one in tables if one in seen.variants]
        name = state.variants.asked if state.variants.asked in tables else (there or list(tables))[0]
        return state, Choice(name or "", name or "")
    offers = {
        name: _offer(Planner(one, state.corrections), demand, calm_demand, present)
        for name, one in tables.items()
    }
    own = state.variants.asked or ""
    if settings.limits.budget_w is None and own in tables:
        # What carries as much as the present one would hold whatever that holds.
        most = {
            name: Planner(one, state.corrections).most_tps(1, demand.text_tokens)
            for name, one in tables.items()
        }
        offers = {
            name: replace(offer, calm=offer.calm or most[name] >= most[own]) for name, offer in offers.items()
        }
    elif own in tables:
        loading = Planner(_while_loading(tables[own], seen.ready), state.corrections)
        if not np.isfinite(loading.costs(demand, present).watts).any():  # no room for what only saves joules
            offers = {name: replace(offer, calm=False) for name, offer in offers.items()}
    variants, chosen = choose(
        state.variants, offers, seen.variants, current, seen.at_s, settings.switch_rules
    )
    return replace(state, variants=variants), chosen


def _while_loading(tables: LeverTables, replicas: int) -> LeverTables:
    """With the budget that is left while so many replicas load another variant."""
    limits, switch = tables.limits, tables.profile.switch
    if limits.budget_w is None:
        return tables
    left_w = max(1e-3, limits.budget_w - replicas * switch.joules / switch.seconds)
    return replace(tables, limits=replace(limits, budget_w=left_w))


def _offer(planner: Planner, demand: Demand, calm_demand: Demand | None, present: Present) -> Offer:
    costs = planner.costs(demand, present)
    calm = calm_demand is not None and bool(np.isfinite(planner.costs(calm_demand, present).watts).any())
    return Offer(
        watts=float(costs.watts.min()),
        replicas=costs.best.replicas,
        calm=calm,
        overload=max(1.0, costs.best.load / planner.rules.max_load),
        within_budget=costs.best.within_budget,
        rungs=len(costs.best.rungs),
    )


def _stabilise(
    state: ControlState, planned: _Planned, current: int, settings: Settings
) -> tuple[ControlState, Stabilised]:
    stabilised, stable = stabilise(state.stabilised, planned.needs, current, settings.stabilise_rules)
    return replace(state, stabilised=stabilised), stable


def _point(state: ControlState, seen: Signals, desired: int, planned: _Planned) -> OperatingPoint:
    """The best for the replicas that will answer until the next tick: those on their way do not yet.

    It must be within the budget for those on their way, too.
    """
    answering = max(1, min(seen.ready, desired))
    planner, demand, present = planned.planner, planned.demand, planned.present
    before = None if state.point is None else replace(state.point, variant=planned.variant.running)
    if planned.costs.best.rungs:
        chosen = planned.costs.best.point  # over the budget: what the ladder left
    else:
        chosen = planner.at(answering, demand, present, before).point
        if desired > answering and not planner.predict(desired, chosen, demand, present).within_budget:
            chosen = planner.at(desired, demand, present, before).point
    chosen = replace(chosen, variant=planned.variant.asked)
    own = state.point.version if state.point else 0
    if (
        state.point is not None
        and replace(chosen, version=own) == state.point
        and seen.highest_point_version <= own
    ):
        return state.point
    return replace(chosen, version=max(own, seen.highest_point_version) + 1)


def _in_first_window(state: ControlState, now_s: float, settings: Settings) -> bool:
    return state.found_running and now_s - state.started_s < settings.first_window_s


def _action(current: int, desired: int, retuned: bool, *, held: bool) -> Action:
    if held:
        return Action.HOLD
    if desired != current:
        return Action.UP if desired > current else Action.DOWN
    return Action.RETUNE if retuned else Action.KEEP


def _blind(
    state: ControlState, missing: Missing, current: int, settings: Settings
) -> tuple[ControlState, Decision]:
    """Too little is known: hold, and after `staleAfter` run at least the fallback; never fewer."""
    since_s = missing.at_s if state.missing_since_s is None else state.missing_since_s
    # What was seen before a blind time says nothing of the time itself: the window begins anew.
    state = replace(state, missing_since_s=since_s, stabilised=StabiliseState())
    spec = settings.policy.spec
    held = _in_first_window(state, missing.at_s, settings)
    reasons = [Reason(ReasonCode.MISSING_REPORTS, missing.reason, {"ready": missing.ready})]
    desired = current if held else max(current, spec.replicas.min)
    expected = state.was_ready or state.found_running  # before a first replica is ready, silence is no fault
    if expected and not held and missing.at_s - since_s >= spec.telemetry.stale_after_s:
        desired = max(desired, spec.fallback_replicas)
        message = f"blind for {missing.at_s - since_s:.0f} s: at least {spec.fallback_replicas} replicas"
        reasons.append(Reason(ReasonCode.FALLBACK, message, {"fallback_replicas": spec.fallback_replicas}))
    return state, Decision(
        at_s=missing.at_s,
        action=Action.UP if desired > current else Action.HOLD,
        current_replicas=current,
        desired_replicas=desired,
        operating_point=state.point,
        forecast_rps=None,
        predicted_p99_s=None,
        predicted_watts=None,
        watts_basis="profile",
        reasons=(*reasons, *not_acted_on(settings.policy)),
    )
