"""The scaler's whole story in pure functions: reports → signals → forecast → plan → stabilise → decision.

Pure: time is an argument, nothing sleeps. `observe_fleet` takes in reports on every beat; `decide` runs
once a tick. `loop` calls both and acts on the decision; a simulation calls the same two.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from scaler import forecast as forecasting
from scaler.bus import FleetView
from scaler.corrections import Comparison, learn_latency, learn_service, learn_watts
from scaler.decision import Action, Decision, Reason, ReasonCode
from scaler.explain import Outlook, explain, not_acted_on
from scaler.forecast import Forecast, ForecastRules, ForecastState
from scaler.operating_point import OperatingPoint
from scaler.plan import Candidate, Corrections, Demand, Limits, Planner, PlanRules
from scaler.policy import Policy
from scaler.profile import Profile
from scaler.signals import SILENT_AFTER_S, Missing, SignalMemory, SignalRules, Signals, observe
from scaler.stabilise import Needs, Stabilised, StabiliseRules, StabiliseState, break_even_s, stabilise
from scaler.urgency import Urgency, judge

_LEAST_TPS = 0.01  # not quite nothing, so that operating points still differ in load over capacity
_CALM_RISE = (
    1.05  # a smaller fleet must stand at least this, where the load is so high that it hardly scatters
)


@dataclass(frozen=True, slots=True)
class Settings:
    """A policy and a profile, and the rules that follow from them. Frozen while the scaler runs."""

    policy: Policy
    profile: Profile
    plan_rules: PlanRules = field(default_factory=PlanRules)

    @property
    def tick_s(self) -> float:
        return self.policy.spec.behavior.tick_s

    @property
    def scale_down_window_s(self) -> float:
        window_s = self.policy.spec.behavior.scale_down.window_s
        return break_even_s(self.profile) if window_s is None else window_s

    @property
    def signal_rules(self) -> SignalRules:
        # Replicas report each second: 0.9 of a whole number of reports, so that jitter does not drop one.
        span_s = 0.9 * max(1.0, self.tick_s)
        fresh_s = min(SILENT_AFTER_S, self.policy.spec.telemetry.stale_after_s)
        return SignalRules(rate_window_s=span_s, fresh_s=fresh_s)

    @property
    def limits(self) -> Limits:
        spec = self.policy.spec
        return Limits(
            min_replicas=spec.replicas.min,
            max_replicas=spec.replicas.max,
            slo_latency_s=spec.slo.latency_s,
            percentile=spec.slo.percentile,
            budget_w=spec.power.budget_w,
            max_batch_texts=spec.batching.max_size,
            max_delay_s=spec.batching.max_delay_s,
        )

    @property
    def first_window_s(self) -> float:
        """How long a scaler that found a fleet running moves nothing."""
        return min(self.scale_down_window_s, self.policy.spec.telemetry.stale_after_s)


@dataclass(frozen=True, slots=True)
class ControlState:
    """All that is carried from tick to tick. A restart loses it, and lives: the fleet itself is read anew."""

    started_s: float
    found_running: bool
    memory: SignalMemory = field(default_factory=SignalMemory)
    forecast: ForecastState | None = None
    stabilised: StabiliseState = field(default_factory=StabiliseState)
    corrections: Corrections = field(default_factory=Corrections)
    point: OperatingPoint | None = None
    missing_since_s: float | None = None
    was_ready: bool = False
    steady: tuple[float, int, int] = (-math.inf, 0, 0)  # since when: ready replicas, point's version


def start_beside(now_s: float) -> ControlState:
    """For replicas that run already: none of them is moved in the first window."""
    return ControlState(started_s=now_s, found_running=True)


def start_fresh(now_s: float, point: OperatingPoint) -> ControlState:
    """For a fleet that is yet to start, at `point`."""
    return ControlState(started_s=now_s, found_running=False, point=point)


def first_point(settings: Settings) -> OperatingPoint:
    """What a new fleet starts at: the best operating point for next to no load."""
    planner = Planner(settings.profile, settings.limits, settings.plan_rules)
    idle = Demand(1.0, settings.profile.text_tokens)
    return replace(planner.at(settings.limits.min_replicas, idle).point, version=1)


def observe_fleet(
    state: ControlState, view: FleetView, now_s: float, settings: Settings
) -> tuple[ControlState, Signals | Missing]:
    """Takes in what the replicas reported."""
    memory, seen = observe(state.memory, view, now_s, settings.signal_rules)
    return replace(state, memory=memory, was_ready=state.was_ready or seen.ready > 0), seen


def decide(
    state: ControlState, seen: Signals | Missing, current: int, settings: Settings
) -> tuple[ControlState, Decision]:
    """One tick. `current`: replicas that run or start now, read from the fleet."""
    if isinstance(seen, Missing):
        return _blind(state, seen, current, settings)
    state = replace(state, missing_since_s=None)
    state, ahead = _forecast(state, seen, settings)
    state = _learn(state, seen, settings)
    urgency = judge(seen, current, settings.limits, settings.policy.spec.slo.error_budget)
    planned = _plan(state, seen, ahead, current, urgency, settings)
    state, stable = _stabilise(state, planned, current, settings)
    first_window = _in_first_window(state, seen.at_s, settings)
    outlook = Outlook(seen, ahead, planned.best, urgency, stable, settings.policy, first_window)
    bounds = settings.limits
    desired = current if first_window else min(bounds.max_replicas, max(bounds.min_replicas, stable.replicas))
    point = _point(state, seen, desired, planned)
    retuned = not first_window and point != state.point
    if retuned:
        state = replace(state, point=point)
    will_be = planned.planner.at_p99().predict(max(1, desired), point, planned.demand)
    return state, Decision(
        at_s=seen.at_s,
        action=_action(current, desired, retuned, held=first_window),
        current_replicas=current,
        desired_replicas=desired,
        operating_point=state.point,
        forecast_rps=ahead.upper_rps,
        predicted_p99_s=will_be.tail_s if math.isfinite(will_be.tail_s) else None,
        predicted_watts=will_be.watts,
        watts_basis="profile" if seen.power.watts is None else "measured",
        reasons=explain(outlook, current, desired),
    )


@dataclass(frozen=True, slots=True)
class _Planned:
    planner: Planner
    demand: Demand
    best: Candidate
    needs: Needs


def _forecast(state: ControlState, seen: Signals, settings: Settings) -> tuple[ControlState, Forecast]:
    start_up_s = seen.start_up_s or settings.profile.start_up.seconds
    rules = ForecastRules(window_s=settings.signal_rules.rate_window_s)
    updated = forecasting.update(state.forecast, seen.at_s, seen.arrivals_rps, rules)
    remembered, ahead = forecasting.look_ahead(updated, start_up_s + settings.tick_s, rules)
    return replace(state, forecast=remembered), ahead


def _learn(state: ControlState, seen: Signals, settings: Settings) -> ControlState:
    corrections = learn_service(state.corrections, seen, settings.profile)
    state = replace(state, corrections=corrections)
    version = state.point.version if state.point else 0
    if state.steady[1:] != (seen.ready, version) or seen.starting or seen.draining:
        return replace(state, steady=(seen.at_s, seen.ready, version))
    if state.point is None:
        return state
    service_alone = Corrections(service=corrections.service)
    planner = Planner(settings.profile, settings.limits, settings.plan_rules, service_alone)
    predicted = planner.predict(seen.ready, state.point, _demand(seen, seen.arrivals_rps, settings))
    spec = settings.policy.spec
    comparison = Comparison(seen, predicted, spec.slo.percentile, spec.power.budget_w)
    corrections = learn_watts(corrections, comparison)
    if seen.at_s - state.steady[0] >= settings.signal_rules.latency_window_s:
        corrections = learn_latency(corrections, comparison)
    return replace(state, corrections=corrections)


def _demand(seen: Signals, arrivals_rps: float, settings: Settings) -> Demand:
    texts_per_request = seen.texts_per_request or 1.0
    texts_per_s = max(_LEAST_TPS, arrivals_rps * texts_per_request)
    return Demand(texts_per_s, seen.text_tokens or settings.profile.text_tokens)


def _plan(
    state: ControlState,
    seen: Signals,
    ahead: Forecast,
    current: int,
    urgency: Urgency,
    settings: Settings,
) -> _Planned:
    planner = Planner(settings.profile, settings.limits, settings.plan_rules, state.corrections)
    demand = _demand(seen, ahead.upper_rps, settings)
    # Texts that wait beyond a batch of each replica are to be gone within a tick.
    demand = replace(demand, texts_per_s=demand.texts_per_s + urgency.backlog_texts / settings.tick_s)
    calm_tps = demand.texts_per_s * max(_CALM_RISE, ahead.calm_rps / max(ahead.upper_rps, 1e-9))
    best = planner.best(demand, state.point)
    # What a smaller fleet must stand is asked only where the fleet could shrink.
    shrinks = best.replicas < current
    calm = planner.best(replace(demand, texts_per_s=calm_tps), state.point) if shrinks else best
    kept = planner.at(max(1, current), demand, state.point)
    urgent = min(urgency.at_least, settings.limits.max_replicas)
    heard = urgent > best.replicas and planner.at(urgent, demand).within_budget
    wanted = urgent if heard else best.replicas
    needs = Needs(
        now_s=seen.at_s,
        wanted=wanted,
        wanted_calm=max(wanted, calm.replicas),
        affordable=None if kept.within_budget else best.replicas,
    )
    return _Planned(planner, demand, best, needs)


def _stabilise(
    state: ControlState, planned: _Planned, current: int, settings: Settings
) -> tuple[ControlState, Stabilised]:
    rules = StabiliseRules(settings.scale_down_window_s)
    stabilised, stable = stabilise(state.stabilised, planned.needs, current, rules)
    return replace(state, stabilised=stabilised), stable


def _point(state: ControlState, seen: Signals, desired: int, planned: _Planned) -> OperatingPoint:
    """The best for the replicas that will answer until the next tick: those on their way do not yet.

    It must be within the budget for those on their way, too.
    """
    answering = max(1, min(seen.ready, desired))
    planner, demand = planned.planner, planned.demand
    chosen = planner.at(answering, demand, state.point).point
    if desired > answering and not planner.predict(desired, chosen, demand).within_budget:
        chosen = planner.at(desired, demand, state.point).point
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
