"""How many replicas a fleet that nobody hears falls back to: what the policy asks for, within its budget.

Pure. What the load is can't be known then, so each replica counts as busy without a rest, at the operating
point that it was told last. Called by `control`.
"""

from __future__ import annotations

from bisect import bisect_left

from scaler.candidate import Demand, Present
from scaler.control_state import ControlState
from scaler.operating_point import OperatingPoint
from scaler.plan import Planner
from scaler.settings import Settings
from scaler.signals import Missing

_UNTOLD = OperatingPoint(0, 0, 0, 0.0, 0.0)  # no lever: taken as the one that carries most
_BUSY = 10.0  # times what replicas hold the SLO at: beyond what any of them can do


def fallback_replicas(state: ControlState, missing: Missing, current: int, settings: Settings) -> int:
    """`current` at least: what runs is not taken away in the dark."""
    asked = settings.policy.spec.fallback_replicas
    if settings.limits.budget_w is None or asked <= current:
        return max(asked, current)
    tables, point = settings.tables_by_variant, state.point or _UNTOLD
    planner = Planner(tables.get(point.variant) or next(iter(tables.values())), state.corrections)
    tokens = settings.profile.text_tokens
    present = Present(ready=missing.ready, devices=max(state.devices, current))

    def too_many(replicas: int) -> bool:
        busy_tps = _BUSY * planner.most_tps(replicas, tokens)
        demand = Demand(busy_tps, busy_tps, tokens)
        return not planner.predict(replicas, point, demand, present).within_budget

    return current + bisect_left(range(current + 1, asked + 1), True, key=too_many)
