"""Why a decision is what it is: every rule that had a say, as a reason with its numbers.

Pure. Called by `control` with what it saw, forecast and planned.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from scaler.candidate import Candidate
from scaler.decision import Reason, ReasonCode
from scaler.forecast import Forecast
from scaler.policy import Policy
from scaler.signals import Signals
from scaler.stabilise import Stabilised
from scaler.urgency import Urgency
from scaler.variants import Choice


@dataclass(frozen=True, slots=True)
class Outlook:
    seen: Signals
    ahead: Forecast
    best: Candidate
    urgency: Urgency
    stable: Stabilised
    policy: Policy
    first_window: bool
    variant: Choice


def explain(outlook: Outlook, current: int, desired: int) -> tuple[Reason, ...]:
    """Most telling first."""
    return (
        *_first_window(outlook),
        *outlook.urgency.reasons,
        *_limits(outlook),
        *_variant(outlook),
        _load(outlook),
        *_surplus(outlook, current, desired),
        *_bounds(outlook, current),
        *_watts(outlook),
        *not_acted_on(outlook.policy),
    )


def not_acted_on(policy: Policy) -> tuple[Reason, ...]:
    """Fields of the policy that are set and that this version does not act on."""
    return tuple(Reason(ReasonCode.NOT_ACTED_ON, sentence) for sentence in policy.not_acted_on())


def _first_window(outlook: Outlook) -> tuple[Reason, ...]:
    if not outlook.first_window:
        return ()
    return (
        Reason(ReasonCode.RESTARTED, "started beside a running fleet: nothing moves in the first window"),
    )


def _load(outlook: Outlook) -> Reason:
    seen, ahead = outlook.seen, outlook.ahead
    message = f"{seen.arrivals_rps:.1f} rps now, up to {ahead.upper_rps:.1f} in {ahead.horizon_s:.1f} s"
    values = {
        "arrivals_rps": seen.arrivals_rps,
        "forecast_rps": ahead.upper_rps,
        "horizon_s": ahead.horizon_s,
        "wanted_replicas": outlook.best.replicas,
        "load": outlook.best.load,
    }
    return Reason(ReasonCode.LOAD, message, values)


def _limits(outlook: Outlook) -> tuple[Reason, ...]:
    best, spec = outlook.best, outlook.policy.spec
    reasons: list[Reason] = []
    budget_w, measured_w = spec.power.budget_w, outlook.seen.power.watts
    if budget_w is not None and (
        not best.within_budget or (measured_w is not None and measured_w > budget_w)
    ):
        drawn_w = best.watts if measured_w is None else max(measured_w, best.watts)
        message = f"{drawn_w:.1f} W over the budget {budget_w:.1f} W"
        values: dict[str, float | int | str | None] = {"watts": drawn_w, "budget_w": budget_w}
        reasons.append(Reason(ReasonCode.OVER_BUDGET, message, values))
    if best.rungs:
        message = f"over the budget: {', '.join(best.rungs)}"
        reasons.append(Reason(ReasonCode.BUDGET_LADDER, message, {"rungs": ", ".join(best.rungs)}))
    if not best.holds_slo:
        message = (
            f"no plan within bounds and budget holds p{spec.slo.percentile:g} {spec.slo.latency_s * 1e3:g} ms"
        )
        values = {"replicas": best.replicas, "max_replicas": spec.replicas.max, "load": best.load}
        reasons.append(Reason(ReasonCode.SLO_UNREACHABLE, message, values))
    return tuple(reasons)


def _variant(outlook: Outlook) -> tuple[Reason, ...]:
    chosen, seen = outlook.variant, outlook.seen
    if chosen.instead_of:
        message = f"{chosen.asked} in the place of {chosen.instead_of}: {chosen.why}"
        return (Reason(ReasonCode.VARIANT, message, {"variant": chosen.asked, "was": chosen.instead_of}),)
    others = sum(count for name, count in seen.variants.items() if name != chosen.asked)
    if outlook.first_window or not chosen.asked or not others:
        return ()
    message = f"{others} of {seen.ready} replicas do not answer with {chosen.asked} yet"
    return (Reason(ReasonCode.VARIANT, message, {"variant": chosen.asked, "others": others}),)


def _surplus(outlook: Outlook, current: int, desired: int) -> tuple[Reason, ...]:
    stable = outlook.stable
    reasons: list[Reason] = []
    if stable.surplus_for_s is not None:
        lasted = desired < current
        code = ReasonCode.SURPLUS_LASTED if lasted else ReasonCode.SURPLUS_WAITS
        word = "lasted" if lasted else "so far"
        message = f"surplus {word} {stable.surplus_for_s:.1f} s"
        reasons.append(Reason(code, message, {"surplus_for_s": stable.surplus_for_s}))
    if stable.saves_joules and desired > current:
        message = f"{stable.replicas} replicas at a slower clock draw less than {current}"
        reasons.append(Reason(ReasonCode.SAVES_JOULES, message, {"replicas": stable.replicas}))
    if outlook.best.replicas < current and math.isinf(outlook.ahead.calm_rps):
        reasons.append(Reason(ReasonCode.LEARNING, "the traffic is too little known to shrink"))
    if stable.limited:
        message = f"one tick moves to {stable.replicas} replicas at most"
        reasons.append(Reason(ReasonCode.STEP_LIMITED, message, {"replicas": stable.replicas}))
    return tuple(reasons)


def _bounds(outlook: Outlook, current: int) -> tuple[Reason, ...]:
    bounds = outlook.policy.spec.replicas
    if outlook.first_window or bounds.min <= current <= bounds.max:
        return ()
    message = f"{current} replicas are outside of {bounds.min} to {bounds.max}"
    return (Reason(ReasonCode.OUT_OF_BOUNDS, message, {"min": bounds.min, "max": bounds.max}),)


def _watts(outlook: Outlook) -> tuple[Reason, ...]:
    if outlook.seen.power.watts is not None:
        return ()
    return (Reason(ReasonCode.WATTS_UNKNOWN, "the fleet's watts are unknown: planned with the profile's"),)
