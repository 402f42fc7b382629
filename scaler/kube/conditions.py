"""The conditions of a policy's status: Ready, Stale, OverBudget, Infeasible, Paused.

Pure. Owns what each means, its reasons and messages, and when its time of transition moves. `status` puts
them into a status; docs/policy.md lists `MEANINGS` and `REASONS`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from minwatt.v1.quantities import format_duration, format_power
from scaler.decision import Decision, ReasonCode
from scaler.kube import spelling
from scaler.kube.policy_object import Accepted, Problem
from scaler.kube.status_fields import Condition
from scaler.record import FleetRow

# A promise that was broken is shown for at least so long: a condition that comes and goes within a tick would
# be seen by nobody and rewritten all the time.
SHOWN_S = 30.0

MEANINGS: Mapping[str, str] = {
    "Ready": "the newest policy is in force, acted on, and holds its SLO and budget. The column REASON shows "
    "this condition's reason",
    "Stale": "too little is known of the fleet to decide: it is held, and after `telemetry.staleAfter` it "
    "has at least `telemetry.fallbackReplicas`",
    "OverBudget": "the fleet draws more than `power.budget`; Unknown while no meter knows",
    "Infeasible": "nothing that the controller knows of meets the policy: no profile of the model, or no "
    "operating point within `slo.latency`, `power.budget` and `replicas`",
    "Paused": "the annotation `minwatt.dev/paused` holds the fleet as it is",
}

REASONS: Mapping[str, Mapping[str, str]] = {
    "Ready": {
        "SloMet": "p99 is within the SLO",
        "NoTraffic": "all is well, and no request came lately",
        "SloMissed": "more requests are slower than the percentile allows",
        "ErrorBudgetSpent": "more requests are refused than the error budget allows",
        "SloUnreachable": "no number of replicas within bounds and budget holds the SLO at this load",
        "OverBudget": "the fleet draws more than its budget",
        "ReportsMissing": "the condition Stale says why",
        "NoReplicaReady": "no replica answers yet",
        "Paused": "the condition Paused says why",
        "NotDecidedYet": "the controller has just begun to look at this fleet",
        "InvalidPolicy": "a field is not as it must be",
        "InvalidAnnotation": "an annotation under minwatt.dev/ is not as it must be",
        "NoProfile": "the controller has no profile of the model",
        "SeveralProfiles": "the controller has several profiles of the model, and no annotation chooses",
        "Infeasible": "the condition Infeasible says why",
    },
    "Stale": {
        "ReportsFresh": "replicas report",
        "Starting": "no replica has been ready yet, so none is missed",
        "ReportsMissing": "too few replicas report",
        "FallbackReplicas": "and have not for `telemetry.staleAfter`",
        "NotDecidedYet": "the controller has just begun to look at this fleet",
    },
    "OverBudget": {
        "WithinBudget": "measured watts are within the budget",
        "BudgetExceeded": "measured or planned watts are over the budget",
        "NoBudget": "the policy sets none",
        "WattsUnknown": "no meter knows; the profile's watts are planned with",
        "NotDecidedYet": "the controller has just begun to look at this fleet",
    },
    "Infeasible": {
        "Feasible": "an operating point meets the policy, at this load if it is known",
        "NoProfile": "the controller has no profile of the model",
        "SeveralProfiles": "the controller has several profiles of the model, and no annotation chooses",
        "Infeasible": "no operating point of the profile meets the policy at any load",
        "SloUnreachable": "none meets it at this load",
        "InvalidPolicy": "Unknown: the policy can't be read",
        "NotDecidedYet": "the controller has just begun to look at this fleet",
    },
    "Paused": {
        "NotPaused": "minwatt acts",
        "Annotation": "the annotation says so",
        "InvalidAnnotation": "the annotation can't be read: paused until it can",
    },
}

# Of Ready, where the obstacle is outside of the policy.
OBSTACLES: Mapping[str, str] = {
    "TargetNotFound": "there is no such target",
    "TargetKindUnknown": "the API server knows no such kind",
    "TargetNotScalable": "the target has no scale to write, or none whose pods can be told",
    "TargetClaimed": "an older PowerPolicy has the same target",
    "ScaledToZero": "somebody scaled the target to 0: it is left so until it has a replica again",
    "OtherAutoscaler": "a HorizontalPodAutoscaler or a ScaledObject scales the target too",
    "AutoscalersUnseen": "the controller can't see whether another scales the target, so it does not",
    "AccessDenied": "the controller lacks a right",
    "ScaleRefused": "the API server refuses the new number",
    "ScaleUnavailable": "the API server has failed to write the new number for half a minute",
    "ProfileUnreadable": "the profile's file was changed to what is no profile: the last good one is used",
    "LoopFailed": "the policy's loop failed and is started anew",
}


@dataclass(frozen=True, slots=True)
class Obstacle:
    """What outside of the policy keeps the controller from acting on it: the target is not there, or another
    scales it. `reason` in CamelCase."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Circumstances:
    """All that the conditions are made of. `at_s` is unix time; `generation` that of the newest object;
    `coming`: where the pods are that don't answer yet, empty: not known, or there are none.
    """

    at_s: float
    generation: int
    in_force: Accepted | None
    problem: Problem | None = None
    obstacle: Obstacle | None = None
    decision: Decision | None = None
    row: FleetRow | None = None
    coming: str = ""

    @property
    def paused(self) -> bool:
        newest = self.problem or self.in_force
        return newest is not None and newest.paused


@dataclass(frozen=True, slots=True)
class _Finding:
    status: Literal["True", "False", "Unknown"]
    reason: str
    message: str
    broken_promise: bool = False


def conditions_of(before: Iterable[Condition], now: Circumstances) -> tuple[Condition, ...]:
    """`before`: those of the status as it stands. A time of transition moves only with its status."""
    known = {one.type: one for one in before}
    findings = {
        "Ready": _ready(now),
        "Stale": _stale(now),
        "OverBudget": _over_budget(now),
        "Infeasible": _infeasible(now),
        "Paused": _paused(now),
    }
    return tuple(_condition(kind, known.get(kind), finding, now) for kind, finding in findings.items())


def _condition(kind: str, before: Condition | None, found: _Finding, now: Circumstances) -> Condition:
    since = None if before is None else spelling.unix_s(before.last_transition_time)
    if before is not None and since is not None and _still_shown(before, since, found, now):
        lately = f"lately: {before.message.removeprefix('lately: ')}"
        found = _Finding(before.status, before.reason, lately)
    unchanged = before is not None and before.status == found.status and since is not None
    moved_at = spelling.rfc3339(now.at_s)
    return Condition(
        type=kind,
        status=found.status,
        reason=found.reason,
        message=spelling.shortened(found.message),
        observed_generation=now.generation,
        last_transition_time=before.last_transition_time if before and unchanged else moved_at,
    )


def _still_shown(before: Condition, since_s: float, found: _Finding, now: Circumstances) -> bool:
    """Whether a promise was broken so lately that the condition goes on saying so, all being well now."""
    broken = (before.type, before.status, before.reason) in _BROKEN_PROMISES
    well = found.reason in _ALL_WELL
    return broken and well and before.observed_generation == now.generation and now.at_s - since_s < SHOWN_S


_BROKEN_PROMISES = {
    *(("Ready", "False", one) for one in ("SloMissed", "ErrorBudgetSpent", "SloUnreachable", "OverBudget")),
    ("OverBudget", "True", "BudgetExceeded"),
    ("Infeasible", "True", "SloUnreachable"),
}
_ALL_WELL = {"SloMet", "NoTraffic", "WithinBudget", "Feasible"}


def _ready(now: Circumstances) -> _Finding:
    held = _not_in_force(now)
    if held is not None:
        return held
    decision = now.decision
    if decision is None:
        return _Finding("Unknown", "NotDecidedYet", _NOT_YET)
    codes = {reason.code for reason in decision.reasons}
    if ReasonCode.MISSING_REPORTS in codes:
        why = _why(decision, *_BLIND)
        if now.row is not None and now.row.replicas_ready == 0:
            return _Finding("False", "NoReplicaReady", f"{why}; {now.coming}" if now.coming else why)
        return _Finding("False", "ReportsMissing", why)
    for code, reason in _PROMISES.items():
        if code in codes:
            return _Finding("False", reason, _why(decision, code))
    return _holds_slo(now)


def _not_in_force(now: Circumstances) -> _Finding | None:
    if now.problem is not None:
        return _Finding("False", now.problem.reason, f"{now.problem.line}; {_instead(now)}")
    if now.obstacle is not None:
        return _Finding("False", now.obstacle.reason, now.obstacle.message)
    if now.paused:
        return _Finding(
            "False", "Paused", "nothing is moved while the annotation minwatt.dev/paused is there"
        )
    return None


def _instead(now: Circumstances) -> str:
    if now.in_force is None:
        return "no replica is moved"
    return f"generation {now.in_force.generation} stays in force"


def _holds_slo(now: Circumstances) -> _Finding:
    p99_s = None if now.row is None else now.row.p99_s
    if p99_s is None or now.in_force is None:
        return _Finding("True", "NoTraffic", "no request was answered lately")
    slo = now.in_force.policy.spec.slo
    objective = f"{format_duration(slo.latency_s)} for {slo.percentile:g}% of requests"
    return _Finding("True", "SloMet", f"p99 {spelling.duration(p99_s)}; the SLO is {objective}")


def _stale(now: Circumstances) -> _Finding:
    decision = now.decision
    if decision is None:
        return _Finding("Unknown", "NotDecidedYet", _NOT_YET)
    codes = {reason.code for reason in decision.reasons}
    if ReasonCode.STARTING in codes:
        return _Finding("False", "Starting", _why(decision, *_BLIND))
    if ReasonCode.FALLBACK in codes:
        return _Finding("True", "FallbackReplicas", _why(decision, *_BLIND))
    if ReasonCode.MISSING_REPORTS in codes:
        return _Finding("True", "ReportsMissing", f"{_why(decision, *_BLIND)}: the fleet is held as it is")
    return _Finding("False", "ReportsFresh", "replicas report")


def _over_budget(now: Circumstances) -> _Finding:
    decision, budget_w = now.decision, _budget_w(now)
    if now.in_force is not None and budget_w is None:
        return _Finding("False", "NoBudget", "the policy sets no spec.power.budget")
    if decision is None or budget_w is None:
        return _Finding("Unknown", "NotDecidedYet", _NOT_YET)
    if any(reason.code is ReasonCode.OVER_BUDGET for reason in decision.reasons):
        message = _why(decision, ReasonCode.OVER_BUDGET, ReasonCode.BUDGET_LADDER)
        return _Finding("True", "BudgetExceeded", message)
    if now.row is None or now.row.watts is None:
        planned = decision.predicted_watts
        with_what = "" if planned is None else f", planned {spelling.watts(planned)} with the profile's watts"
        return _Finding("Unknown", "WattsUnknown", f"no meter knows the fleet's watts{with_what}")
    drawn = f"{spelling.watts(now.row.watts)} ({now.row.watts_source})"
    return _Finding("False", "WithinBudget", f"{drawn} of {format_power(budget_w)}")


def _budget_w(now: Circumstances) -> float | None:
    return None if now.in_force is None else now.in_force.policy.spec.power.budget_w


def _infeasible(now: Circumstances) -> _Finding:
    if now.problem is not None:
        if now.problem.infeasible:
            return _Finding("True", now.problem.reason, f"{now.problem.line}; {_instead(now)}")
        return _Finding("Unknown", "InvalidPolicy", "the policy can't be read: the condition Ready says why")
    if now.decision is None:
        return _Finding("Unknown", "NotDecidedYet", _NOT_YET)
    codes = {reason.code for reason in now.decision.reasons}
    if ReasonCode.SLO_UNREACHABLE in codes:
        return _Finding("True", "SloUnreachable", _why(now.decision, ReasonCode.SLO_UNREACHABLE))
    if ReasonCode.MISSING_REPORTS in codes:
        return _Finding("False", "Feasible", "an operating point meets the policy; the load is not known")
    return _Finding("False", "Feasible", "an operating point meets the policy at this load")


def _paused(now: Circumstances) -> _Finding:
    if not now.paused:
        return _Finding("False", "NotPaused", "minwatt acts on its decisions")
    if now.problem is not None and now.problem.reason == "InvalidAnnotation":
        return _Finding("True", "InvalidAnnotation", f"{now.problem.line}; paused until that is mended")
    return _Finding("True", "Annotation", "minwatt.dev/paused: decisions are shown and not acted on")


def _why(decision: Decision, *codes: ReasonCode) -> str:
    return "; ".join(reason.message for reason in decision.reasons if reason.code in codes)


_NOT_YET = "the controller has just begun to look at this fleet"
_BLIND = (ReasonCode.MISSING_REPORTS, ReasonCode.FALLBACK, ReasonCode.STARTING)
_PROMISES = {
    ReasonCode.OVER_BUDGET: "OverBudget",
    ReasonCode.SLO_UNREACHABLE: "SloUnreachable",
    ReasonCode.SLO_MISSED: "SloMissed",
    ReasonCode.ERROR_BUDGET_SPENT: "ErrorBudgetSpent",
}
