"""When a tick's signals may be held against what was predicted of them, and against which prediction.

Pure. Owns what has to be steady for it, and which replicas a measurement is of; what is made of a ratio is
`corrections`. Called by `control` once a tick.
"""

from __future__ import annotations

from dataclasses import replace

from scaler.candidate import Corrections, Demand
from scaler.control_state import ControlState
from scaler.corrections import Running, can_tell, learn_latency, learn_service, learn_watts
from scaler.operating_point import OperatingPoint
from scaler.plan import Planner
from scaler.settings import Settings
from scaler.signals import Signals

_LEAST_TPS = 0.01  # not quite nothing, so that operating points still differ in load over capacity


def learn(state: ControlState, seen: Signals, settings: Settings) -> ControlState:
    """The state with its corrections learnt; as it was where nothing can be told."""
    version = state.point.version if state.point else 0
    asked = state.point.variant if state.point else ""
    others = seen.ready - seen.variants.get(asked, 0) if asked and seen.variants else 0
    # Those that have not taken it by then never will: they load nothing, and the fleet is judged by its most.
    loading = others if settings.switch_rules.waits(state.variants.asked_s, seen.at_s) else 0
    point = None
    if state.point is not None:
        point = replace(state.point, variant=_answered_with(seen, state.point, settings))
    if point is not None and not loading:  # else what was measured is of several variants
        corrections = learn_service(state.corrections, seen, _running(point, settings))
        state = replace(state, corrections=corrections)
    spec = settings.policy.spec
    steady = state.steady[1:] == (seen.ready, version) and not (seen.starting or seen.draining or loading)
    if not steady:
        state = replace(state, steady=(seen.at_s, seen.ready, version))
    if point is None or not (steady or over_budget(seen, settings)):
        return state
    service_alone = Corrections(service=state.corrections.service)
    planner = Planner(settings.tables, service_alone)
    demand = expected_demand(seen, seen.arrivals_rps, settings)
    predicted = planner.predict(seen.ready, point, demand)
    start_up = settings.profile.start_up
    switch = settings.profile.switch
    besides_w = seen.starting * start_up.joules / start_up.seconds
    besides_w += loading * switch.joules / switch.seconds
    corrections = learn_watts(state.corrections, seen, predicted.watts, spec.power.budget_w, besides_w)
    if (
        steady
        and seen.at_s - state.steady[0] >= settings.signal_rules.latency_window_s
        and can_tell(seen, predicted)
    ):
        tail_s = planner.tail_s(seen.ready, point, demand, spec.slo.percentile)
        corrections = learn_latency(corrections, seen, tail_s, spec.slo.percentile)
    return replace(state, corrections=corrections)


def over_budget(seen: Signals, settings: Settings) -> bool:
    """By the meters; not where they know no watts."""
    watts, budget_w = seen.power.watts, settings.limits.budget_w
    return watts is not None and budget_w is not None and watts > budget_w


def expected_demand(
    seen: Signals, arrivals_rps: float, settings: Settings, upper_rps: float | None = None
) -> Demand:
    """In texts, of a rate in requests; `upper_rps`: where more than that is to be carried."""
    texts_per_request = seen.texts_per_request or 1.0
    expected_tps = max(_LEAST_TPS, arrivals_rps * texts_per_request)
    upper_tps = max(expected_tps, (upper_rps or 0.0) * texts_per_request)
    return Demand(expected_tps, upper_tps, seen.text_tokens or settings.profile.text_tokens)


def _answered_with(seen: Signals, point: OperatingPoint, settings: Settings) -> str:
    """The variant of most ready replicas: the point's, unless they load it still or cannot."""
    there = {name: count for name, count in seen.variants.items() if name in settings.tables_by_variant}
    return max(there, key=lambda name: there[name]) if there and point.variant else point.variant


def _running(point: OperatingPoint, settings: Settings) -> Running:
    steps = settings.profile.clock_steps(settings.clock_set)
    slower = {step.sm_clock_mhz: step.time_factor for step in steps}.get(point.sm_clock_mhz, 1.0)
    line = settings.profile.variant(point.variant).service_time
    return Running(line, slower, point.reflex_sm_clock_mhz != point.sm_clock_mhz)
