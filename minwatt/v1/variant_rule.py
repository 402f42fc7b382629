"""Which variants may be chosen at all, and which of those is: the one rule for the fleet and the energy card.

Pure. `scaler.profile` asks `accurate_enough` of each variant that a policy allows; `modelkit.card.pareto`
asks it too, and `leanest` of those that are left. A fleet's own watts, its SLO and what a switch costs are
`scaler.variants`' matter: where a switch costs nothing, it comes to the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

T = TypeVar("T")


def accurate_enough(accuracy: float | None, least: float | None) -> bool:
    """Unknown is not enough, unless nothing is asked."""
    return least is None or (accuracy is not None and accuracy >= least)


def leanest(fit: Iterable[T], cost: Callable[[T], tuple[float, float]]) -> T | None:
    """The one of the least energy, and of those the one that `cost` ranks first; None of none.

    cost: (energy, what decides where that is equal), less is better.
    """
    return min(fit, key=cost, default=None)
