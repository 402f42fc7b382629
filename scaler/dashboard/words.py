"""A decision in plain words, for people who look at a fleet and not at its code.

Pure. Owns how the reasons' values read; which reasons there are is `explain`'s. Called by `log`.
"""

from __future__ import annotations

from dataclasses import dataclass

from scaler.decision import Action, Decision, Reason, ReasonCode
from scaler.operating_point import OperatingPoint

# A promise that is broken, or a fleet that is not moved: what the page shows above all else.
CONDITIONS = {
    ReasonCode.MISSING_REPORTS: "stale",
    ReasonCode.FALLBACK: "fallback",
    ReasonCode.OVER_BUDGET: "over budget",
    ReasonCode.SLO_MISSED: "SLO missed",
    ReasonCode.ERROR_BUDGET_SPENT: "error budget spent",
    ReasonCode.SLO_UNREACHABLE: "SLO out of reach",
    ReasonCode.RESTARTED: "held",
    ReasonCode.STARTING: "starting",
    ReasonCode.WATTS_UNKNOWN: "watts unknown",
}
_BACKGROUND = {ReasonCode.NOT_ACTED_ON, ReasonCode.WATTS_UNKNOWN}


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a surplus lasts before replicas go: the policy's window, or None and the break-even time."""

    window_s: float | None
    break_even_s: float

    def of(self, surplus_s: float) -> str:
        if self.window_s is not None:
            return f"of the policy's window of {self.window_s:.0f} s"
        if surplus_s > self.break_even_s:
            return f"longer than the {self.break_even_s:.0f} s break-even"
        return f"break-even {self.break_even_s:.0f} s"


@dataclass(frozen=True, slots=True)
class Before:
    """What the last decision left: its operating point, and the names of the conditions that held."""

    point: OperatingPoint | None = None
    conditions: tuple[str, ...] = ()


def headline(decision: Decision, before: Before) -> str:
    """What it changes; where that is nothing, which condition began or ended."""
    current, desired, point = decision.current_replicas, decision.desired_replicas, decision.operating_point
    parts = [f"{current} → {desired} replicas"] if current != desired else []
    if point is not None and changes(before.point, point):
        parts.append(", ".join(changes(before.point, point)))
    if parts:
        return "; ".join(parts)
    names = [name for name, _ in conditions(decision)]
    began = [name for name in names if name not in before.conditions]
    ended = [f"no longer {name}" for name in before.conditions if name not in names]
    kept = f"{current} replica{'' if current == 1 else 's'}"
    return f"{', '.join(began or ended)}: {kept}" if began or ended else kept


def changes(before: OperatingPoint | None, point: OperatingPoint) -> list[str]:
    """What of an operating point is new."""
    rows = [
        ("batch ≤ ", point.max_batch_texts, before and before.max_batch_texts, ""),
        ("delay ≤ ", round(point.max_delay_s * 1e3, 3), before and round(before.max_delay_s * 1e3, 3), " ms"),
        ("variant ", point.variant, before and before.variant, ""),
        ("clock ", point.sm_clock_mhz, before and before.sm_clock_mhz, " MHz"),
    ]
    return [
        f"{name}{now:g}{unit}" if isinstance(now, (int, float)) else f"{name}{now}{unit}"
        for name, now, was, unit in rows
        if now != was and (now or was)
    ]


def why(decision: Decision, patience: Patience) -> list[str]:
    """Most telling first: of a move down the surplus, of others what the plan was made for."""
    shown = [reason for reason in decision.reasons if reason.code not in _BACKGROUND]
    if decision.action is Action.DOWN:
        shown.sort(key=lambda reason: reason.code is not ReasonCode.SURPLUS_LASTED)
    return [_sentence(reason, patience) for reason in shown]


def conditions(decision: Decision) -> list[tuple[str, str]]:
    """(name, why) of each that holds; none: all is well."""
    found = [
        (CONDITIONS[reason.code], reason.message) for reason in decision.reasons if reason.code in CONDITIONS
    ]
    if decision.action is Action.HOLD and not found:
        found.append(("held", "nothing is changed for now"))
    return found


def _sentence(reason: Reason, patience: Patience) -> str:
    values = reason.values
    if reason.code is ReasonCode.LOAD:
        now, ahead, horizon_s = (
            float(values[name] or 0) for name in ("arrivals_rps", "forecast_rps", "horizon_s")
        )
        return f"{now:.0f} requests/s now, up to {ahead:.0f} within {horizon_s:.0f} s"
    if reason.code in {ReasonCode.SURPLUS_LASTED, ReasonCode.SURPLUS_WAITS}:
        surplus_s = float(values["surplus_for_s"] or 0)
        lasted = "lasted" if reason.code is ReasonCode.SURPLUS_LASTED else "has lasted"
        return f"surplus {lasted} {surplus_s:.0f} s, {patience.of(surplus_s)}"
    return reason.message
