"""A decision and its reasons, for machines (codes and values) and for people (one line). Values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Literal

from scaler.operating_point import OperatingPoint


class Action(Enum):
    UP = "up"
    DOWN = "down"
    RETUNE = "retune"  # the operating point alone
    KEEP = "keep"
    HOLD = "hold"  # nothing is known well enough to change anything


class ReasonCode(Enum):
    LOAD = "load"  # what the plan was made for
    BACKLOG = "backlog"
    SLO_MISSED = "slo_missed"
    ERROR_BUDGET_SPENT = "error_budget_spent"
    SLO_UNREACHABLE = "slo_unreachable"
    OVER_BUDGET = "over_budget"
    BUDGET_LADDER = "budget_ladder"  # what of whenOverBudget was done
    VARIANT = "variant"  # another precision variant is asked for, or not all replicas have it yet
    SAVES_JOULES = "saves_joules"  # more replicas at a slower clock draw less
    LEARNING = "learning"  # the traffic is too little known to shrink
    SURPLUS_LASTED = "surplus_lasted"
    SURPLUS_WAITS = "surplus_waits"
    STEP_LIMITED = "step_limited"
    OUT_OF_BOUNDS = "out_of_bounds"
    MISSING_REPORTS = "missing_reports"
    FALLBACK = "fallback"
    STARTING = "starting"  # no replica has been ready yet
    RESTARTED = "restarted"
    WATTS_UNKNOWN = "watts_unknown"
    NOT_ACTED_ON = "not_acted_on"


@dataclass(frozen=True, slots=True)
class Reason:
    code: ReasonCode
    message: str
    values: Mapping[str, float | int | str | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Decision:
    """Made at `at_s` on the clock of the caller. None: nothing was predicted."""

    at_s: float
    action: Action
    current_replicas: int
    desired_replicas: int
    operating_point: OperatingPoint | None
    forecast_rps: float | None
    predicted_p99_s: float | None  # None too when overloaded: the queue would grow without end
    predicted_watts: float | None
    watts_basis: Literal["measured", "profile"]
    reasons: tuple[Reason, ...]

    def line(self) -> str:
        """For a log or a terminal."""
        change = (
            f"{self.current_replicas} → {self.desired_replicas} replicas"
            if self.current_replicas != self.desired_replicas
            else f"{self.current_replicas} replicas"
        )
        point = self.operating_point
        tuned = f" · {_tuned(point)}" if point else ""
        why = "; ".join(
            reason.message for reason in self.reasons if reason.code is not ReasonCode.NOT_ACTED_ON
        )
        return f"{self.action.value}: {change}{tuned} · {why}"


def _tuned(point: OperatingPoint) -> str:
    text = f"batch ≤ {point.max_batch_texts}, delay ≤ {point.max_delay_s * 1e3:g} ms"
    text = f"{text}, {point.variant}" if point.variant else text
    return f"{text}, {point.sm_clock_mhz} MHz" if point.sm_clock_mhz else text
