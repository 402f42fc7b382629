"""What the scaler carries from tick to tick.

Pure. Owns how it begins, and for how long nothing is moved then. Made anew by `control` and its parts once a
tick.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from scaler.candidate import Corrections
from scaler.error_account import ErrorAccount
from scaler.forecast import ForecastState
from scaler.operating_point import OperatingPoint
from scaler.settings import Settings
from scaler.signals import SignalMemory
from scaler.stabilise import StabiliseState
from scaler.variants import VariantState

# For so long no fewer run than were found: who sized the fleet may have known of bursts that the scaler has
# yet to see, and these come no closer together where replicas start sooner. The Kubernetes HPA does the same:
# its first recommendation is what it finds, and counts for its default window of 300 s.
_FOUND_COUNTS_S = 300.0


@dataclass(frozen=True, slots=True)
class ControlState:
    """All that is carried from tick to tick. A restart loses it, and lives: the fleet itself is read anew."""

    started_s: float
    found_running: bool
    memory: SignalMemory = field(default_factory=SignalMemory)
    forecast: ForecastState | None = None
    beats_rps: tuple[float, ...] = ()  # arrivals of each beat since the last tick
    found: int | None = None  # replicas that ran or started at the first tick
    devices: int = 0  # most replicas there ever were: the devices of those that left are parked
    stabilised: StabiliseState = field(default_factory=StabiliseState)
    corrections: Corrections = field(default_factory=Corrections)
    errors: ErrorAccount = field(default_factory=ErrorAccount)
    point: OperatingPoint | None = None
    missing_since_s: float | None = None
    expected_since_s: float | None = None  # reports; None: no replica was ever ready, silence is no fault
    variants: VariantState = field(default_factory=VariantState)
    steady: tuple[float, int, int] = (-math.inf, 0, 0)  # since when: ready replicas, point's version


def start_beside(now_s: float) -> ControlState:
    """For replicas that run already: none of them is moved in the first window."""
    return ControlState(started_s=now_s, found_running=True, expected_since_s=now_s)


def start_fresh(now_s: float, point: OperatingPoint) -> ControlState:
    """For a fleet that is yet to start, at `point`."""
    variants = VariantState(asked=point.variant)
    return ControlState(started_s=now_s, found_running=False, point=point, variants=variants)


def expecting(state: ControlState, now_s: float, expected: bool) -> ControlState:
    """Whether replicas must be heard from now on: a fleet that none of whose replicas was ever ready starts,
    however long that takes, and is no larger sooner for more that start.
    """
    if expected == (state.expected_since_s is not None):
        return state
    return replace(state, expected_since_s=now_s if expected else None)


def carried(state: ControlState, before: Settings, after: Settings) -> ControlState:
    """Under an edited policy: what was learnt of traffic and machines stays, what was weighed by old rules is
    weighed anew. The point stays too: its version must go on growing.
    """
    same_machines = before.profile == after.profile
    variants, accuracy = after.limits.variants, after.limits.min_accuracy
    same_variants = same_machines and (variants, accuracy) == (
        before.limits.variants,
        before.limits.min_accuracy,
    )
    same_window = before.forecast_rules.window_s == after.forecast_rules.window_s
    return replace(
        state,
        forecast=state.forecast if same_window else None,
        beats_rps=(),
        stabilised=StabiliseState(),
        corrections=state.corrections if same_machines else Corrections(),
        variants=state.variants if same_variants else VariantState(),
        errors=state.errors if before.policy.spec.slo == after.policy.spec.slo else ErrorAccount(),
        steady=(-math.inf, 0, 0),
    )


def in_first_window(state: ControlState, now_s: float, settings: Settings) -> bool:
    return state.found_running and now_s - state.started_s < settings.first_window_s


def least_known(state: ControlState, now_s: float) -> int:
    """Replicas that a fleet of which little is known yet does not shrink below."""
    return (state.found or 0) if now_s - state.started_s < _FOUND_COUNTS_S else 0
