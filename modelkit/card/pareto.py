"""Which variants are worth having, and which of them one that sets limits should run.

Pure. Owns the Pareto front accuracy × joules and the choice within limits, with its reasons. Leaves the
measuring to `run` and the rule itself to `minwatt.v1.variant_rule`, which the scaler keeps too.
Called by `run` and `minwatt model choose`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from minwatt.v1.variant_rule import accurate_enough, leanest


@dataclass(frozen=True)
class Candidate:
    """A measured variant. `joules`: of 1,000 texts; None where the meter had none."""

    name: str
    accuracy: float
    entity_f1: float | None  # None: the model reads no entities
    joules: float | None
    p99_s: float


@dataclass(frozen=True)
class Limits:
    """What a variant must keep; None: anything."""

    min_accuracy: float | None = None
    min_f1: float | None = None
    max_p99_s: float | None = None


@dataclass(frozen=True)
class Pick:
    """`chosen` is None where none fits. `reasons`: a line a variant, in the card's order."""

    chosen: str | None
    reasons: dict[str, str]


def dominates(one: Candidate, other: Candidate) -> bool:
    """No less accurate and no more joules, and better in one of the two. Nobody is better than unknown."""
    if one.joules is None or other.joules is None:
        return False
    no_worse = one.accuracy >= other.accuracy and one.joules <= other.joules
    return no_worse and (one.accuracy > other.accuracy or one.joules < other.joules)


def front(candidates: Sequence[Candidate]) -> tuple[str, ...]:
    """Names of those that no other dominates, fewest joules first. Who has no joules is not among them."""
    known = [one for one in candidates if one.joules is not None]
    best = [one for one in known if not any(dominates(other, one) for other in known)]
    return tuple(one.name for one in sorted(best, key=_cost))


def pick(candidates: Sequence[Candidate], limits: Limits) -> Pick:
    """Of those within the limits, the one of their front with the fewest joules."""
    faults = {one.name: _faults(one, limits) for one in candidates}
    chosen = leanest([one for one in candidates if not faults[one.name]], _cost)
    if chosen is None:
        return Pick(None, {one.name: "; ".join(faults[one.name]) for one in candidates})
    reasons = {
        one.name: "; ".join(faults[one.name]) or (_praise(one) if one is chosen else _costs_more(one, chosen))
        for one in candidates
    }
    return Pick(chosen.name, reasons)


def relaxed(one: Candidate, limits: Limits) -> Limits | None:
    """The limits, moved as little as lets this one in, to four digits; None where no limit would do."""
    if one.joules is None or (one.entity_f1 is None and limits.min_f1 is not None):
        return None
    broken = Limits(
        min_accuracy=None if accurate_enough(one.accuracy, limits.min_accuracy) else _down(one.accuracy),
        min_f1=None if one.entity_f1 is None or _reads_enough(one, limits) else _down(one.entity_f1),
        max_p99_s=None if _fast_enough(one, limits) else math.ceil(one.p99_s * 1e5) / 1e5,
    )
    return Limits(
        limits.min_accuracy if broken.min_accuracy is None else broken.min_accuracy,
        limits.min_f1 if broken.min_f1 is None else broken.min_f1,
        limits.max_p99_s if broken.max_p99_s is None else broken.max_p99_s,
    )


def _cost(one: Candidate) -> tuple[float, float]:
    return math.inf if one.joules is None else one.joules, -one.accuracy


def _reads_enough(one: Candidate, limits: Limits) -> bool:
    if one.entity_f1 is None:
        return limits.min_f1 is None
    return accurate_enough(one.entity_f1, limits.min_f1)


def _fast_enough(one: Candidate, limits: Limits) -> bool:
    return limits.max_p99_s is None or one.p99_s <= limits.max_p99_s


def _faults(one: Candidate, limits: Limits) -> list[str]:
    faults = []
    if not accurate_enough(one.accuracy, limits.min_accuracy):
        faults.append(f"accuracy {one.accuracy:.4f} is below {limits.min_accuracy:g}")
    if not _reads_enough(one, limits):
        fault = "it reads no entities"
        if one.entity_f1 is not None:
            fault = f"F1 {one.entity_f1:.4f} is below {limits.min_f1:g}"
        faults.append(fault)
    if limits.max_p99_s is not None and not _fast_enough(one, limits):
        faults.append(f"p99 {1000 * one.p99_s:.2f} ms is over {1000 * limits.max_p99_s:g} ms")
    if one.joules is None:
        faults.append("its joules are unknown")
    return faults


def _praise(one: Candidate) -> str:
    return f"{one.joules:.3g} J a thousand texts, the fewest of those within the limits"


def _costs_more(one: Candidate, chosen: Candidate) -> str:
    if one.joules is None or chosen.joules is None or one.joules == chosen.joules:
        return "as many joules, and no more accurate"
    times = one.joules / chosen.joules if chosen.joules else math.inf
    return f"{times:.2f} times the joules, for {one.accuracy - chosen.accuracy:+.4f} of accuracy"


def _down(score: float) -> float:
    return math.floor(score * 1e4) / 1e4
