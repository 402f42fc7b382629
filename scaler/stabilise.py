"""From the replicas a plan wants to the replicas to run: up at once, down when the surplus has lasted.

Pure. The lazy rule for right-sizing: a replica that is not needed goes once it has idled away as many
joules as its next start would cost. Whatever comes then, the joules spent are at most three times those of
an optimum that knows the future (lazy capacity provisioning: Lin, Wierman, Andrew, Thereska, "Dynamic
right-sizing for power-proportional data centers", INFOCOM 2011). Called by `control` once a tick.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from scaler.profile import Profile


@dataclass(frozen=True, slots=True)
class StabiliseRules:
    window_s: float  # the surplus must have lasted
    max_step_up: float = 2.0  # replicas at most doubled in a tick, and at least max_step_up_count added
    max_step_up_count: int = 4
    max_step_down: float = 0.5  # at most half of the replicas leave in a tick


@dataclass(frozen=True, slots=True)
class Needs:
    """What the plan wants this tick."""

    now_s: float
    wanted: int  # to hold the SLO
    wanted_calm: int  # the same, were the load to rise by its own scatter: a fleet shrinks only to this
    affordable: int | None  # None: the plan is within the budget; else the most that may run


@dataclass(frozen=True, slots=True)
class StabiliseState:
    """What was wanted since `since_s`, as (when last, replicas); an entry goes once more were wanted later.

    `since_s` None: nothing is known yet, after a restart or blind time; the first window begins with the
    next tick.
    """

    since_s: float | None = None
    wanted: tuple[tuple[float, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Stabilised:
    replicas: int
    surplus_for_s: float | None  # how long fewer would have done, up to the window; None: they would not now
    limited: bool  # by the step


def break_even_s(profile: Profile) -> float:
    """Start-up joules over the watts that an idle replica draws more than a parked one."""
    saved_w = profile.power.idle_w - profile.power.parked_w
    return profile.start_up.joules / saved_w if saved_w > 0 else math.inf


def stabilise(
    state: StabiliseState, needs: Needs, current: int, rules: StabiliseRules
) -> tuple[StabiliseState, Stabilised]:
    """`current`: replicas that run or start now."""
    state = _remember(state, needs, rules.window_s)
    if needs.affordable is not None and needs.affordable < current:
        return state, Stabilised(needs.affordable, None, limited=False)
    if needs.wanted > current:
        allowed = max(math.ceil(current * rules.max_step_up), current + rules.max_step_up_count)
        return state, Stabilised(min(needs.wanted, allowed), None, limited=needs.wanted > allowed)
    surplus_for_s = needs.now_s - _surplus_since_s(state, current)
    most_wanted = state.wanted[0][1]
    if most_wanted >= current or surplus_for_s < rules.window_s:
        waiting = state.wanted[-1][1] < current
        return state, Stabilised(current, surplus_for_s if waiting else None, limited=False)
    floor = current - max(1, math.floor(current * rules.max_step_down))
    return state, Stabilised(max(most_wanted, floor), rules.window_s, limited=most_wanted < floor)


def _remember(state: StabiliseState, needs: Needs, window_s: float) -> StabiliseState:
    wanted = max(needs.wanted, needs.wanted_calm)
    above = [entry for entry in state.wanted if entry[1] > wanted and entry[0] >= needs.now_s - window_s]
    since_s = needs.now_s if state.since_s is None else state.since_s
    return StabiliseState(since_s, (*above, (needs.now_s, wanted)))


def _surplus_since_s(state: StabiliseState, current: int) -> float:
    """When `current` were last wanted, as far as the window remembers, or when it began."""
    began_s = state.since_s if state.since_s is not None else math.inf
    return max([at_s for at_s, wanted in state.wanted if wanted >= current], default=began_s)
