"""Who holds what on which card, until when; and what a card is to be set to.

Pure: time is an argument, a change gives a new table. Leaves who may ask to `peers`, what may be asked for to
`bounds`, and the cards to `hold`. Called by `keeper`.

Nobody slows another's work. Of several leases on one card the highest value is wanted; a lease that names no
value, and someone who computes there without a lease, want the card's own default, which is higher than any.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

Key = tuple[str, int]  # card, holder


@dataclass(frozen=True, slots=True)
class Setting:
    """Of one card; None: its own default."""

    clock_mhz: int | None = None
    limit_w: float | None = None


DEFAULT = Setting()


@dataclass(frozen=True, slots=True)
class Lease:
    """owner: who is behind the holder, e.g. a pod. `wish` is within what is allowed."""

    owner: str
    wish: Setting
    ends_s: float


@dataclass(frozen=True, slots=True)
class Leases:
    """The table. A holder, e.g. a connection, has one lease a card at most."""

    by_key: Mapping[Key, Lease] = field(default_factory=dict)

    def granted(self, card: str, holder: int, lease: Lease) -> Leases:
        """In the place of the holder's lease of the card, if it has one."""
        return Leases({**self.by_key, (card, holder): lease})

    def renewed(self, card: str, holder: int, ends_s: float) -> Leases:
        """Raises KeyError where there is no such lease."""
        return self.granted(card, holder, replace(self.by_key[card, holder], ends_s=ends_s))

    def released(self, card: str, holder: int) -> Leases:
        return self._without(lambda key, _: key == (card, holder))

    def left(self, holder: int) -> Leases:
        """All that a holder has ends."""
        return self._without(lambda key, _: key[1] == holder)

    def at(self, now_s: float) -> Leases:
        """Without those that have run out."""
        return self._without(lambda _, lease: lease.ends_s <= now_s)

    @property
    def next_end_s(self) -> float:
        """When `at` will leave one out; infinite where there is none."""
        return min((lease.ends_s for lease in self.by_key.values()), default=math.inf)

    @property
    def cards(self) -> frozenset[str]:
        return frozenset(card for card, _ in self.by_key)

    def of(self, card: str) -> tuple[Lease, ...]:
        return tuple(lease for (on, _), lease in self.by_key.items() if on == card)

    def owners(self, card: str) -> frozenset[str]:
        return frozenset(lease.owner for lease in self.of(card))

    def bystanders(self, card: str, computing: Iterable[str]) -> frozenset[str]:
        """Those of `computing` that hold no lease of the card."""
        return frozenset(computing) - self.owners(card)

    def wanted(self, card: str, computing: Iterable[str] = ()) -> Setting:
        """What the card is to be set to; `computing`: owners whose work on it counts."""
        wishes = [lease.wish for lease in self.of(card)]
        if not wishes or self.bystanders(card, computing):
            return DEFAULT
        return Setting(
            _highest([wish.clock_mhz for wish in wishes]), _highest([wish.limit_w for wish in wishes])
        )

    def _without(self, ended: Callable[[Key, Lease], bool]) -> Leases:
        kept = {key: lease for key, lease in self.by_key.items() if not ended(key, lease)}
        return self if len(kept) == len(self.by_key) else Leases(kept)


_Value = TypeVar("_Value", int, float)


def _highest(values: list[_Value | None]) -> _Value | None:
    """None, the card's own default, is above all."""
    known = [value for value in values if value is not None]
    return max(known) if known and len(known) == len(values) else None
