"""What runs when no fleet within the power budget holds the SLO: `whenOverBudget`, rung by rung.

Pure. Each rung gives up the SLO's latency for more levers, in the policy's order. No replica may raise its
clock by itself then. Called by `plan`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from scaler.latency import Floats
from scaler.lever import Lever
from scaler.levers import Limits

ReplicaWatts = Callable[[Floats], Floats]  # of one replica, by how many answer
FleetWatts = Callable[[Floats, ReplicaWatts], Floats]  # of fleets, by their sizes


@dataclass(frozen=True, slots=True)
class Load:
    """`max_load`: texts a second that a replica is planned to carry, over its capacity."""

    upper_tps: float
    max_load: float


@dataclass(frozen=True, slots=True)
class Choice:
    """So many replicas at a lever, and the fleet's watts at what of the load they carry."""

    lever: Lever
    replicas: int
    carried_tps: float
    watts: float
    within_budget: bool
    rungs: tuple[str, ...] = ()


def climb(levers: Sequence[Lever], default: str, limits: Limits, load: Load, fleet_w: FleetWatts) -> Choice:
    """The first rung that carries the load within the budget, at its fewest watts.

    Where none does, the whole ladder: what carries most within the budget, or the fewest watts where nothing
    is within it. `default` is the variant before the rung of a cheaper one.
    """
    ladder = limits.when_over_budget
    found: dict[int, Choice] = {}  # by lever: worked out for the first rung that allows it

    def allowed(rungs: tuple[str, ...]) -> Iterator[Choice]:
        for k, lever in enumerate(levers):
            if _allowed(lever, default, rungs):
                found[k] = found.get(k) or _most_within(lever, limits, load, fleet_w)
                yield found[k]

    for rungs in (ladder[:count] for count in range(len(ladder) + 1)):
        carrying = [
            one for one in allowed(rungs) if one.within_budget and one.carried_tps > 0.999 * load.upper_tps
        ]
        if carrying:
            return _on_rung(min(carrying, key=lambda one: one.watts), rungs)
    choices = list(allowed(ladder))
    within = [one for one in choices if one.within_budget]
    if within:
        return _on_rung(max(within, key=lambda one: (one.carried_tps, -one.watts)), ladder)
    return _on_rung(min(choices, key=lambda one: one.watts), ladder)


def without_reflex(lever: Lever) -> Lever:
    pinned = replace(lever.point, reflex_sm_clock_mhz=lever.point.sm_clock_mhz)
    return replace(lever, point=pinned, raised=lever.engine)


def _allowed(lever: Lever, default: str, rungs: tuple[str, ...]) -> bool:
    full_clock, own_variant = lever.engine == lever.raised, lever.point.variant == default
    return (full_clock or "lowerClocks" in rungs) and (own_variant or "cheaperVariant" in rungs)


def _on_rung(choice: Choice, rungs: tuple[str, ...]) -> Choice:
    lever = without_reflex(choice.lever)
    point = replace(lever.point, shed_low_priority="shedLowPriority" in rungs)
    return replace(choice, lever=replace(lever, point=point), rungs=rungs)


def _most_within(lever: Lever, limits: Limits, load: Load, fleet_w: FleetWatts) -> Choice:
    """The smallest size that carries all, if it is within the budget; else the largest that is."""
    pinned, fewest = without_reflex(lever), max(1, limits.min_replicas)
    full_tps = load.max_load * pinned.capacity_tps
    needed = min(limits.max_replicas, max(fewest, math.ceil(load.upper_tps / full_tps)))
    sizes = np.arange(fewest, needed + 1, dtype=np.float64)
    rates = np.minimum(load.upper_tps / sizes, full_tps)

    def replica_w(answering: Floats) -> Floats:
        shares_tps = load.upper_tps / answering
        draws_tps = np.where(shares_tps < full_tps, shares_tps, pinned.capacity_tps)  # overloaded: no rest
        rated_tps, of_each = np.unique(draws_tps, return_inverse=True)
        return np.asarray(pinned.watts(rated_tps, limits.slo_latency_s)[of_each])

    watts = fleet_w(sizes, replica_w)
    affordable = np.flatnonzero(watts <= (math.inf if limits.budget_w is None else limits.budget_w))
    best = int(affordable[-1]) if affordable.size else 0
    carried_tps = float(sizes[best] * rates[best])
    return Choice(lever, int(sizes[best]), carried_tps, float(watts[best]), affordable.size > 0)
