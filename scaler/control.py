"""The scaler's whole story in pure functions: reports → signals → forecast → plan → stabilise → decision.

Pure: time is an argument, nothing sleeps. `observe_fleet` takes in reports on every beat; `decide` runs
once a tick. `loop` calls both and acts on the decision; a simulation, which makes its own signals and reads
no reasons, calls `rule`. Owns the order, and what holds a decision back. What is carried between ticks is
`control_state`, learning from the signals `learning`, the choice of a variant `variant_offers`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from scaler import forecast as forecasting
from scaler.bus import FleetView
from scaler.candidate import Demand, FleetCosts, Present
from scaler.control_state import ControlState, expecting, in_first_window, least_known
from scaler.decision import Action, Decision, Reason, ReasonCode
from scaler.error_account import late_rps
from scaler.explain import Outlook, explain, not_acted_on
from scaler.fallback import fallback_replicas
from scaler.forecast import Forecast
from scaler.learning import expected_demand, learn, over_budget
from scaler.operating_point import OperatingPoint
from scaler.plan import Planner
from scaler.settings import Settings
from scaler.signals import Missing, Signals, observe
from scaler.stabilise import Needs, Stabilised, StabiliseState, stabilise
from scaler.urgency import Urgency, judge
from scaler.variant_offers import choose_variant, while_loading
from scaler.variants import Choice

_MOST_BEATS = 600
_MOST_MISS = 0.1  # of requests, that any forecast may let come beyond it


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
    if seen.ready:
        state = expecting(state, now_s, expected=True)
    return replace(state, memory=memory, beats_rps=beats), seen


def decide(
    state: ControlState, seen: Signals | Missing, current: int, settings: Settings
) -> tuple[ControlState, Decision]:
    """One tick. `current`: replicas that run or start now, read from the fleet."""
    state, ruling = rule(state, seen, current, settings)
    return state, ruling.explained()


@dataclass(frozen=True, slots=True)
class Ruling:
    """What a tick comes to. What it predicts and why is a third of the work, and done when it is asked for:
    simulations of weeks never do.
    """

    desired_replicas: int
    operating_point: OperatingPoint | None
    explained: Callable[[], Decision]


def rule(
    state: ControlState, seen: Signals | Missing, current: int, settings: Settings
) -> tuple[ControlState, Ruling]:
    """One tick, as `decide`, without the words."""
    if isinstance(seen, Missing):
        state, blind = _blind(state, seen, current, settings)
        return state, Ruling(blind.desired_replicas, blind.operating_point, lambda: blind)
    state = replace(state, missing_since_s=None, devices=max(state.devices, current))
    if state.found is None:
        state = replace(state, found=current)
    state, ahead = _forecast(state, seen, settings)
    state = learn(state, seen, settings)
    urgency = judge(seen, current, settings.limits, settings.policy.spec.slo.error_budget)
    state, planned = _plan(state, seen, ahead, current, urgency, settings)
    state, stable = _stabilise(state, planned, current, settings)
    first_window = in_first_window(state, seen.at_s, settings)
    best = planned.costs.best
    outlook = Outlook(seen, ahead, best, urgency, stable, settings.policy, first_window, planned.variant)
    bounds = settings.limits
    desired = current if first_window else min(bounds.max_replicas, max(bounds.min_replicas, stable.replicas))
    point = _point(state, seen, desired, planned)
    retuned = not first_window and point != state.point
    if retuned:
        state = replace(state, point=point)
    action = _action(current, desired, retuned, held=first_window)

    def explained() -> Decision:
        planner, demand, replicas = planned.planner, planned.demand, max(1, desired)
        running = replace(point, variant=planned.variant.running)
        p99_s = planner.tail_s(replicas, running, demand, 99.0)
        return Decision(
            at_s=seen.at_s,
            action=action,
            current_replicas=current,
            desired_replicas=desired,
            operating_point=state.point,
            forecast_rps=ahead.upper_rps,
            predicted_p99_s=p99_s if math.isfinite(p99_s) else None,
            predicted_watts=planner.predict(replicas, running, demand, planned.present).watts,
            watts_basis="profile" if seen.power.watts is None else "measured",
            reasons=explain(outlook, current, desired),
        )

    return state, Ruling(desired, state.point, explained)


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
    late = late_rps(seen, settings.limits.slo_latency_s)
    if late is not None:
        errors = state.errors.after(seen.at_s, seen.arrivals_rps, late, settings.late_target)
        state = replace(state, errors=errors)
    rules = replace(rules, miss=min(_MOST_MISS, rules.miss * state.errors.boldness))
    updated = forecasting.update(state.forecast, seen.at_s, seen.arrivals_rps, rules, state.beats_rps)
    remembered, ahead = forecasting.look_ahead(updated, start_up_s + settings.tick_s, rules)
    return replace(state, forecast=remembered, beats_rps=()), ahead


def _plan(
    state: ControlState,
    seen: Signals,
    ahead: Forecast,
    current: int,
    urgency: Urgency,
    settings: Settings,
) -> tuple[ControlState, _Planned]:
    present = Present(ready=seen.ready, devices=state.devices)
    demand = expected_demand(seen, ahead.expected_rps, settings, ahead.upper_rps)
    # Texts that wait beyond a batch of each replica are to be gone within a tick.
    backlog_tps = urgency.backlog_texts / settings.tick_s
    demand = replace(demand, upper_tps=demand.upper_tps + backlog_tps)
    if over_budget(seen, settings):  # what came is counted on to go on, though the forecast lags
        now_tps = expected_demand(seen, seen.arrivals_rps, settings).upper_tps
        demand = replace(demand, upper_tps=max(demand.upper_tps, now_tps))
    calm_demand = None
    if math.isfinite(ahead.calm_rps):
        calm_tps = demand.upper_tps * max(1.0, ahead.calm_rps / max(ahead.upper_rps, 1e-9))
        calm_demand = replace(demand, upper_tps=calm_tps)
    state, chosen = choose_variant(state, seen, demand, calm_demand, present, current, settings)
    tables = settings.tables_by_variant[chosen.running]
    if chosen.loading:
        tables = while_loading(tables, seen.ready - seen.variants.get(chosen.asked, 0))
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
        required_calm=max(required, calm, least_known(state, seen.at_s)),
        affordable=None if kept.within_budget else costs.best.replicas,
    )
    return state, _Planned(chosen, planner, demand, present, costs, needs)


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
    held = in_first_window(state, missing.at_s, settings)
    reasons = [Reason(ReasonCode.MISSING_REPORTS, missing.reason, {"ready": missing.ready})]
    desired = current if held else max(current, spec.replicas.min)
    expected_s = state.expected_since_s
    blind_s = 0.0 if expected_s is None else missing.at_s - max(since_s, expected_s)
    if expected_s is None:
        reasons.append(Reason(ReasonCode.STARTING, "no replica has been ready yet: they are waited for"))
    elif not held and blind_s >= spec.telemetry.stale_after_s:
        desired = max(desired, fallback_replicas(state, missing, current, settings))
        message = f"blind for {blind_s:.0f} s: at least {spec.fallback_replicas} replicas"
        if desired < spec.fallback_replicas:
            message += f", of which the budget allows {desired} whatever the load is"
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
