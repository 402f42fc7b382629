"""Which Events a decision, or a change of a policy's conditions, is worth: those that an SRE would look for.

Pure. Owns which, and their words; writing and aggregating them is `events`. Called by the controller: a
decision each tick, conditions with each status that is written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from scaler.decision import Action, Decision, ReasonCode
from scaler.kube.spelling import shortened

_NOTE_BYTES = 1024  # what events.k8s.io accepts


@dataclass(frozen=True, slots=True)
class EventNote:
    """`reason` and `action` in CamelCase, as events.k8s.io/v1 has them."""

    type: Literal["Normal", "Warning"]
    reason: str
    action: str
    note: str


def decision_events(before: Decision | None, decision: Decision, *, acted_on: bool) -> tuple[EventNote, ...]:
    """`acted_on`: replicas are moved, not only wished for (paused, external, an obstacle).

    Batch sizes and delays follow the load all day: the status shows them, no Event does. A variant, and what
    is given up to stay within the budget, are told when they change.
    """
    events: list[EventNote] = []
    if acted_on and decision.action in {Action.UP, Action.DOWN}:
        reason = "ScaledUp" if decision.action is Action.UP else "ScaledDown"
        events.append(_note("Normal", reason, "Scale", decision.line()))
    variant = _variant(decision)
    if before is not None and variant and _variant(before) and variant != _variant(before):
        note = f"{_variant(before)} → {variant}: {_said(decision, ReasonCode.VARIANT) or decision.line()}"
        events.append(_note("Normal", "VariantChanged", "Tune", note))
    ladder = _said(decision, ReasonCode.BUDGET_LADDER)
    if ladder and (before is None or ladder != _said(before, ReasonCode.BUDGET_LADDER)):
        events.append(_note("Warning", "BudgetLadder", "Tune", ladder))
    return tuple(events)


def condition_events(before: Mapping[str, Any] | None, after: Mapping[str, Any]) -> tuple[EventNote, ...]:
    """One for each condition that became what it should not be, or is well again. Both are statuses."""
    was, now = _by_type(before), _by_type(after)
    events: list[EventNote] = []
    for kind, good in _GOOD.items():
        old, new = was.get(kind), now.get(kind)
        if new is None or (old is not None and _key(old) == _key(new)):
            continue
        status, message = new.get("status"), str(new.get("message", ""))
        if status == _BAD[kind]:
            serious: Literal["Normal", "Warning"] = "Normal" if kind == "Paused" else "Warning"
            events.append(_note(serious, str(new.get("reason", kind)), _ACTIONS[kind], message))
        elif status != "Unknown" and old is not None and old.get("status") == _BAD[kind]:
            events.append(_note("Normal", good, _ACTIONS[kind], message))
    return tuple(event for event in events if not _repeated(event, events))


_BAD = {"Infeasible": "True", "Stale": "True", "OverBudget": "True", "Paused": "True", "Ready": "False"}
_GOOD = {
    "Infeasible": "Feasible",
    "Stale": "ReportsFresh",
    "OverBudget": "WithinBudget",
    "Paused": "Resumed",
    "Ready": "Ready",
}
_WELL = frozenset(_GOOD.values())
_ACTIONS = {
    "Infeasible": "Plan",
    "Stale": "Observe",
    "OverBudget": "Measure",
    "Paused": "Pause",
    "Ready": "Reconcile",
}
# Ready's reasons that another condition has in its own words, by the action that it is told with.
_SAID_BY = {
    "ReportsMissing": "Observe",
    "NoReplicaReady": "Observe",
    "OverBudget": "Measure",
    "Paused": "Pause",
}


def _by_type(status: Mapping[str, Any] | None) -> dict[str, Mapping[str, Any]]:
    conditions = (status or {}).get("conditions") or ()
    return {str(one.get("type")): one for one in conditions if isinstance(one, Mapping)}


def _key(condition: Mapping[str, Any]) -> tuple[Any, Any]:
    return condition.get("status"), condition.get("reason")


def _repeated(event: EventNote, events: list[EventNote]) -> bool:
    """What Ready repeats of another condition is said by that one alone. All else it says, whatever befell
    the others at the same time."""
    if event.action != _ACTIONS["Ready"]:
        return False
    says_it = _SAID_BY.get(event.reason)
    return any(
        other.action != event.action
        and (other.reason == event.reason or (other.action == says_it and other.reason not in _WELL))
        for other in events
    )


def _variant(decision: Decision) -> str:
    return decision.operating_point.variant if decision.operating_point else ""


def _said(decision: Decision, code: ReasonCode) -> str:
    return "; ".join(one.message for one in decision.reasons if one.code is code)


def _note(kind: Literal["Normal", "Warning"], reason: str, action: str, text: str) -> EventNote:
    while len(text.encode()) > _NOTE_BYTES:
        text = shortened(text, len(text) - 1 if len(text) <= _NOTE_BYTES else _NOTE_BYTES)
    return EventNote(kind, reason, action, text)
