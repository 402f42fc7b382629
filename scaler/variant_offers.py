"""What the fleet would do with each variant of the profile, so that `variants` can choose among them.

Pure. Owns which of them are safe to save joules with, and the budget that is left while replicas load one.
Called by `control` once a tick.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from scaler.candidate import Demand, Present
from scaler.control_state import ControlState, in_first_window
from scaler.levers import LeverTables
from scaler.plan import Planner
from scaler.settings import Settings
from scaler.signals import Signals
from scaler.variants import Choice, Offer, choose


def choose_variant(
    state: ControlState,
    seen: Signals,
    demand: Demand,
    calm_demand: Demand | None,
    present: Present,
    current: int,
    settings: Settings,
) -> tuple[ControlState, Choice]:
    """Which variant the fleet is asked for, and which it is planned as. Where there is one, that one."""
    tables = settings.tables_by_variant
    if len(tables) == 1 or in_first_window(state, seen.at_s, settings):
        there = [one for one in tables if one in seen.variants]
        name = state.variants.asked if state.variants.asked in tables else (there or list(tables))[0]
        return state, Choice(name or "", name or "")
    offers = {
        name: _offer(Planner(one, state.corrections), demand, calm_demand, present)
        for name, one in tables.items()
    }
    own = state.variants.asked or ""
    if settings.limits.budget_w is None and own in tables:
        # What carries as much as the present one would hold whatever that holds.
        most = {
            name: Planner(one, state.corrections).most_tps(1, demand.text_tokens)
            for name, one in tables.items()
        }
        offers = {
            name: replace(offer, calm=offer.calm or most[name] >= most[own]) for name, offer in offers.items()
        }
    elif own in tables:
        loading = Planner(while_loading(tables[own], seen.ready), state.corrections)
        if not np.isfinite(loading.costs(demand, present).watts).any():  # no room for what only saves joules
            offers = {name: replace(offer, calm=False) for name, offer in offers.items()}
    variants, chosen = choose(
        state.variants, offers, seen.variants, current, seen.at_s, settings.switch_rules
    )
    return replace(state, variants=variants), chosen


def while_loading(tables: LeverTables, replicas: int) -> LeverTables:
    """With the budget that is left while so many replicas load another variant."""
    limits, switch = tables.limits, tables.profile.switch
    if limits.budget_w is None:
        return tables
    left_w = max(1e-3, limits.budget_w - replicas * switch.joules / switch.seconds)
    return replace(tables, limits=replace(limits, budget_w=left_w))


def _offer(planner: Planner, demand: Demand, calm_demand: Demand | None, present: Present) -> Offer:
    costs = planner.costs(demand, present)
    calm = calm_demand is not None and bool(np.isfinite(planner.costs(calm_demand, present).watts).any())
    return Offer(
        watts=float(costs.watts.min()),
        replicas=costs.best.replicas,
        calm=calm,
        overload=max(1.0, costs.best.load / planner.rules.max_load),
        within_budget=costs.best.within_budget,
        rungs=len(costs.best.rungs),
    )
