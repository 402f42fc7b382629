"""What a lease may ask of a card: the card's own range and the node's policy, both.

Pure. Called by `keeper` with what `hold` read of the card.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from nodeagent.leases import Setting
from nodeagent.policy import CardPolicy

_Number = TypeVar("_Number", int, float)


class NotAllowed(Exception):  # noqa: N818
    """One line: what was asked, and what is allowed."""


@dataclass(frozen=True, slots=True)
class CardRange:
    """What a card says of itself.

    clocks_mhz: what it can be locked to, ascending; empty: it doesn't say. limit_w: lowest and highest power
    limit; None: it takes none.
    """

    clocks_mhz: tuple[int, ...] = ()
    limit_w: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Bounds:
    """The two together.

    clocks_mhz: lowest and highest, None where none is allowed. steps_mhz: the clocks in between; empty: each.
    why_no_clock, why_no_limit: the reason for a None.
    """

    clocks_mhz: tuple[int, int] | None
    steps_mhz: tuple[int, ...]
    limit_w: tuple[float, float] | None
    why_no_clock: str = ""
    why_no_limit: str = ""

    @classmethod
    def of(cls, card: CardRange, policy: CardPolicy) -> Bounds:
        steps = tuple(mhz for mhz in card.clocks_mhz if policy.allows_clock(mhz))
        clocks, why_no_clock = _clocks(card, policy, steps)
        limit, why_no_limit = _limit(card, policy)
        return cls(clocks, steps, limit, why_no_clock, why_no_limit)

    def within(self, wish: Setting) -> Setting:
        """The nearest that is allowed. Raises NotAllowed where nothing of the kind is."""
        if wish.clock_mhz is not None and self.clocks_mhz is None:
            raise NotAllowed(f"sm_clock_mhz = {wish.clock_mhz}: {self.why_no_clock}")
        if wish.limit_w is not None and self.limit_w is None:
            raise NotAllowed(f"power_limit_w = {wish.limit_w:g}: {self.why_no_limit}")
        clock_mhz, limit_w = wish.clock_mhz, wish.limit_w
        if clock_mhz is not None and self.clocks_mhz is not None:
            steps = self.steps_mhz
            clock_mhz = _nearest(clock_mhz, steps) if steps else _clamp(clock_mhz, self.clocks_mhz)
        if limit_w is not None and self.limit_w is not None:
            limit_w = _clamp(limit_w, self.limit_w)
        return Setting(clock_mhz, limit_w)


def _clocks(card: CardRange, policy: CardPolicy, steps: Sequence[int]) -> tuple[tuple[int, int] | None, str]:
    if "smClock" not in policy.may:
        return None, "the node's policy lets nobody set clocks"
    low, high = policy.sm_clock.min_mhz, policy.sm_clock.max_mhz
    if card.clocks_mhz:
        if steps:
            return (steps[0], steps[-1]), ""
        lowest, highest = card.clocks_mhz[0], card.clocks_mhz[-1]
        return None, f"the node's policy allows {_span(low, high)} MHz, the card has {lowest} to {highest}"
    if low is None or high is None:
        return None, "the card doesn't list its clocks, and the node's policy names no lowest and highest"
    return (low, high), ""


def _limit(card: CardRange, policy: CardPolicy) -> tuple[tuple[float, float] | None, str]:
    if "powerLimit" not in policy.may:
        return None, "the node's policy lets nobody set power limits"
    if card.limit_w is None:
        return None, "the card takes no power limit"
    lowest_w, highest_w = card.limit_w
    low_w = lowest_w if policy.power_limit.min_w is None else max(lowest_w, policy.power_limit.min_w)
    high_w = highest_w if policy.power_limit.max_w is None else min(highest_w, policy.power_limit.max_w)
    if low_w > high_w:
        allowed = _span(policy.power_limit.min_w, policy.power_limit.max_w)
        return None, f"the node's policy allows {allowed} W, the card takes {lowest_w:g} to {highest_w:g}"
    return (low_w, high_w), ""


def _span(low: float | None, high: float | None) -> str:
    return f"{'any' if low is None else format(low, 'g')} to {'any' if high is None else format(high, 'g')}"


def _nearest(value: int, steps: Sequence[int]) -> int:
    return min(steps, key=lambda step: (abs(step - value), -step))  # of two as near the faster


def _clamp(value: _Number, bounds: tuple[_Number, _Number]) -> _Number:
    low, high = bounds
    return min(max(value, low), high)
