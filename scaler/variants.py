"""Which precision variant the fleet is told to answer with: another one where the present can't hold the SLO
within the budget, or once it would have saved what the switch costs.

Pure. A metrical task system: each variant costs its fleet's watts, a switch costs joules. The work function
(Borodin, Linial, Saks: "An optimal online algorithm for metrical task systems", JACM 1992) keeps of each
variant the fewest joules of a past that ends with it; the present one is left once it does no better than
the other and the switch to it. With two variants the joules spent are at most three times those of an optimum
that knows the future, and at a constant load there is at most one switch. Called by `variant_offers` once a
tick, with what `plan` found of each variant by itself: none is asked for that the policy does not allow.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

_SLACK_J = 1e-6


@dataclass(frozen=True, slots=True)
class SwitchRules:
    """`switch_j`, `start_j`: of one replica."""

    switch_j: float
    start_j: float
    switch_s: float  # until a replica answers with another variant
    tolerance: float = 0.03  # of the fleet's watts: what saves less is not worth a switch
    # Replicas that have not switched by then do not have the variant, or are of another version of the model.
    left_after: float = 10.0  # times switch_s
    # Of whenOverBudget, the rungs before the one of a cheaper variant; None: it is not among them.
    rungs_before: int | None = 0

    def waits(self, asked_s: float, now_s: float) -> bool:
        """Whether replicas with another variant than was asked for then are still taken to be loading it."""
        return now_s - asked_s <= self.left_after * self.switch_s


@dataclass(frozen=True, slots=True)
class Offer:
    """What the fleet would do with one variant. `watts` are infinite where it would miss SLO or budget; what
    its best effort would come to, the others say.
    """

    watts: float
    replicas: int
    calm: bool = True  # fine too, were more to come than has been seen
    overload: float = 1.0  # load over the most that is planned for, at least 1
    within_budget: bool = True
    rungs: int = 0  # of whenOverBudget that it takes


@dataclass(frozen=True, slots=True)
class VariantState:
    """`asked`: what replicas are told; None before the first tick. `work`: joules above the least."""

    asked: str | None = None
    asked_s: float = -math.inf
    at_s: float | None = None
    work: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Choice:
    """`running`: the variant that the fleet is planned as; another than `asked` while some still answer with
    it.
    """

    asked: str
    running: str
    loading: bool = False  # some replicas load what was asked for
    instead_of: str = ""  # where it was asked for just now
    why: str = ""


def choose(
    state: VariantState,
    offers: Mapping[str, Offer],
    answering: Mapping[str, int],
    replicas: int,
    now_s: float,
    rules: SwitchRules,
) -> tuple[VariantState, Choice]:
    """`answering`: ready replicas by variant, those that are not offered too. `replicas`: of the fleet."""
    before = state.asked
    if before is None or before not in offers:
        before = _first(offers, answering)
        state = VariantState(before, now_s)
    others = _others(state, offers, answering, now_s, rules)
    state, leaves = _work(state, offers, max(1, replicas), now_s, rules)
    wanted, why = (before, "") if others else _wanted(before, offers, leaves, rules)
    if wanted != before:
        others = (*others, before) if answering.get(before) else others
        state = replace(state, asked=wanted, asked_s=now_s)
    # As long as the old one answers somewhere, the fleet is planned as what needs the most replicas.
    running = max((wanted, *others), key=lambda one: (offers[one].replicas, offers[one].overload))
    return state, Choice(wanted, running, bool(others), before if wanted != before else "", why)


def _first(offers: Mapping[str, Offer], answering: Mapping[str, int]) -> str:
    """What most replicas answer with; where that is not allowed, what draws least."""
    there = {one: count for one, count in answering.items() if one in offers}
    if there:
        return max(there, key=lambda one: there[one])
    return min(offers, key=lambda one: (offers[one].watts, offers[one].overload))


def _others(
    state: VariantState,
    offers: Mapping[str, Offer],
    answering: Mapping[str, int],
    now_s: float,
    rules: SwitchRules,
) -> tuple[str, ...]:
    """Variants that some replicas answer with still, and are to leave."""
    if not rules.waits(state.asked_s, now_s):
        return ()
    return tuple(one for one in answering if one != state.asked and one in offers)


def _work(
    state: VariantState, offers: Mapping[str, Offer], replicas: int, now_s: float, rules: SwitchRules
) -> tuple[VariantState, frozenset[str]]:
    """One tick more of work, and the variants that the present one does no better than with a switch."""
    asked = state.asked or ""

    def switch_j(to: str) -> float:
        return rules.switch_j * replicas + rules.start_j * max(0, offers[to].replicas - replicas)

    work = {one: state.work.get(one, 0.0 if one == asked else switch_j(one)) for one in offers}
    elapsed_s = 0.0 if state.at_s is None else now_s - state.at_s
    if any(math.isfinite(offer.watts) for offer in offers.values()):
        work = {one: joules + offers[one].watts * max(elapsed_s, 1e-9) for one, joules in work.items()}
    leaves = frozenset(
        one for one in offers if one != asked and work[asked] >= work[one] + switch_j(one) - _SLACK_J
    )
    reached = {
        one: min(work[other] + (switch_j(one) if other != one else 0.0) for other in offers) for one in offers
    }
    least = min(reached.values())
    return replace(state, at_s=now_s, work={one: joules - least for one, joules in reached.items()}), leaves


def _wanted(
    asked: str, offers: Mapping[str, Offer], leaves: frozenset[str], rules: SwitchRules
) -> tuple[str, str]:
    """The variant to run, and why it is another."""
    own = offers[asked]
    fine = {one: offer for one, offer in offers.items() if math.isfinite(offer.watts)}
    if not fine:
        return _of_least_harm(asked, offers, rules)
    if asked not in fine:
        best = min(fine, key=lambda one: (not fine[one].calm, fine[one].watts))
        return best, f"with {asked} no fleet within bounds and budget holds the SLO"
    saving = {
        one: fine[one].watts
        for one in leaves & fine.keys()
        if fine[one].calm and fine[one].watts < (1 - rules.tolerance) * own.watts
    }
    if not saving:
        return asked, ""
    best = min(saving, key=lambda one: saving[one])
    return best, f"{saving[best]:.1f} W where {asked} draws {own.watts:.1f} W, and that has lasted"


def _of_least_harm(asked: str, offers: Mapping[str, Offer], rules: SwitchRules) -> tuple[str, str]:
    """No variant holds the SLO: the present one stays unless another carries more, or the policy would rather
    have a cheaper variant than the rungs that this one has climbed.
    """
    own = offers[asked]
    if rules.rungs_before is None:
        return asked, ""

    def harm(one: str) -> tuple[bool, float]:
        return not offers[one].within_budget, offers[one].overload

    best = min(offers, key=harm)
    if harm(best) < (not own.within_budget, (1 - rules.tolerance) * own.overload):
        return best, f"over what {asked} can carry: cheaperVariant"
    fewer = {one for one in offers if harm(one) <= harm(asked) and offers[one].rungs < own.rungs}
    if own.rungs > rules.rungs_before and fewer:
        return min(
            fewer, key=lambda one: offers[one].rungs
        ), f"before {asked} with more given up: cheaperVariant"
    return asked, ""
