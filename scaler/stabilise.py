"""From what each fleet size costs to the replicas to run: up at once where the SLO asks, otherwise lazily.

Pure. Lazy capacity provisioning (LCP: Lin, Wierman, Andrew, Thereska, "Dynamic right-sizing for
power-proportional data centers", INFOCOM 2011): with costs of running that are convex in the fleet's size
and a cost β of each start, the size stays where it is as long as it lies between two optima of the past,
one that pays β for each start and one that pays it for each stop. Whatever comes, the joules spent are at
most three times those of an optimum that knows the future. In plain words: a replica goes once it has idled
away as many joules as its next start would cost, and one that only saves joules (slower clocks need more
cards) comes once it would have saved its start. Called by `control` once a tick.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from scaler.profile import Profile

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class StabiliseRules:
    """`window_s` None: the break-even rule; else a surplus must have lasted that long, whatever it costs."""

    start_j: float  # what a start costs more than to leave the device as it is
    window_s: float | None = None
    tolerance: float = 0.005  # of the fleet's watts: what saves less is not worth a stop
    start_tolerance: float = 0.03  # nor a start, where the SLO does not ask for it
    max_step_up: float = 2.0  # replicas at most doubled in a tick, and at least max_step_up_count added
    max_step_up_count: int = 4
    max_step_down: float = 0.5  # at most half of the replicas leave in a tick


@dataclass(frozen=True, slots=True, eq=False)
class Needs:
    """What the plan found this tick. `watts[n]` of n replicas; infinite where they miss the SLO or the
    budget."""

    now_s: float
    watts: Floats
    required: int  # to hold the SLO, or as many as help
    required_calm: int  # the same, were more to come than has been seen: a fleet shrinks only to this
    affordable: int | None  # None: the present fleet is within the budget; else the most that may run


@dataclass(frozen=True, slots=True, eq=False)
class StabiliseState:
    """`work[n]`: fewest joules spent so far, starts included, by a past that ends with n replicas."""

    at_s: float | None = None
    work: Floats | None = None
    wanted: tuple[
        tuple[float, int], ...
    ] = ()  # (when last, replicas): an entry goes once more were wanted later
    since_s: float | None = None
    surplus_since_s: float | None = None


@dataclass(frozen=True, slots=True)
class Stabilised:
    replicas: int
    surplus_for_s: float | None  # how long fewer would have done; None: they would not now
    limited: bool  # by the step
    saves_joules: bool = False  # more replicas than the SLO needs, because they save more than they cost


def break_even_s(profile: Profile) -> float:
    """Start-up joules over the watts that an idle replica draws more than a parked one."""
    power = profile.variants[0].power
    saved_w = power.idle_w - power.parked_w
    return start_cost_j(profile) / saved_w if saved_w > 0 else math.inf


def start_cost_j(profile: Profile) -> float:
    """What a start costs beyond what the parked device would have drawn meanwhile."""
    start_up, power = profile.start_up, profile.variants[0].power
    return max(0.0, start_up.joules - power.parked_w * start_up.seconds)


def stabilise(
    state: StabiliseState, needs: Needs, current: int, rules: StabiliseRules
) -> tuple[StabiliseState, Stabilised]:
    """`current`: replicas that run or start now."""
    state = _spend(state, needs, current, rules)
    state = _remember(state, needs, current, rules)
    if needs.affordable is not None and needs.affordable < current:
        return state, Stabilised(needs.affordable, None, limited=False)
    low, high = _between(state, needs, current, rules)
    if needs.required > current or low > current:
        wanted = max(needs.required, low)
        allowed = max(math.ceil(current * rules.max_step_up), current + rules.max_step_up_count)
        chosen = min(wanted, allowed)
        return state, Stabilised(chosen, None, wanted > allowed, saves_joules=chosen > needs.required)
    surplus_for_s = None if state.surplus_since_s is None else needs.now_s - state.surplus_since_s
    if high >= current:
        return state, Stabilised(current, surplus_for_s, limited=False)
    floor = current - max(1, math.floor(current * rules.max_step_down))
    return state, Stabilised(max(high, floor), surplus_for_s, limited=high < floor)


def _spend(state: StabiliseState, needs: Needs, current: int, rules: StabiliseRules) -> StabiliseState:
    """One tick more of work: every size pays its watts, and a start costs `start_j` a replica."""
    sizes = np.arange(len(needs.watts), dtype=np.float64)
    work = state.work
    if work is None or state.at_s is None or len(work) != len(sizes):
        work, elapsed_s = rules.start_j * np.maximum(0.0, sizes - current), 0.0
        since_s = needs.now_s
    else:
        elapsed_s = needs.now_s - state.at_s
        since_s = needs.now_s if state.since_s is None else state.since_s
    allowed = np.isfinite(needs.watts)
    if allowed.any():
        fewer = np.minimum.accumulate(work - rules.start_j * sizes) + rules.start_j * sizes
        more = np.minimum.accumulate(work[::-1])[::-1]  # to stop costs nothing
        work = np.minimum(fewer, more) + np.where(allowed, needs.watts, np.inf) * max(elapsed_s, 1e-9)
        work -= work.min()
    return replace(state, at_s=needs.now_s, work=work, since_s=since_s)


def _between(state: StabiliseState, needs: Needs, current: int, rules: StabiliseRules) -> tuple[int, int]:
    """The optima of the past: the one that pays for starts, and the one that pays for stops."""
    if rules.window_s is not None:
        since_s = state.since_s if state.since_s is not None else needs.now_s
        lasted = needs.now_s - since_s >= rules.window_s - 1e-6
        most = max(state.wanted[0][1], needs.required_calm)
        return needs.required, (most if lasted else max(current, most))
    work = state.work
    if work is None or not np.isfinite(needs.watts).any():
        return needs.required, current  # no size holds the SLO within the budget: nothing to save by
    sizes = np.arange(len(work), dtype=np.float64)
    low = int(np.argmin(work))
    paying_stops = work - rules.start_j * sizes
    high = len(work) - 1 - int(np.argmin(paying_stops[::-1]))
    if low > current and not _saves(needs, current, low, rules.start_tolerance):
        low = current
    high = max(high, needs.required_calm)
    if high < current and not _saves(needs, current, high, rules.tolerance):
        high = current
    return low, max(low, high)


def _saves(needs: Needs, current: int, other: int, share: float) -> bool:
    """Whether that many draw less by more than the share; always where the present size may not be kept."""
    if current >= len(needs.watts) or not math.isfinite(needs.watts[current]):
        return True
    return bool(needs.watts[other] < needs.watts[current] * (1 - share))


def _remember(state: StabiliseState, needs: Needs, current: int, rules: StabiliseRules) -> StabiliseState:
    wanted = max(needs.required, needs.required_calm)
    surplus = wanted < current
    began_s = state.surplus_since_s if state.surplus_since_s is not None else needs.now_s
    state = replace(state, surplus_since_s=began_s if surplus else None)
    if rules.window_s is None:
        return state
    oldest_s = needs.now_s - rules.window_s
    above = [entry for entry in state.wanted if entry[1] > wanted and entry[0] >= oldest_s]
    return replace(state, wanted=(*above, (needs.now_s, wanted)))
