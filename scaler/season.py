"""What the same time of day did before: the mean rate of each few minutes of the day.

Pure. Called by `forecast`. It speaks from the second period on, and only of how the rate *moves*: the level
comes from the present.
"""

from __future__ import annotations

from dataclasses import dataclass, field

_DAY_S = 86_400.0
_SLOTS = 288  # of five minutes
_SLOT_S = _DAY_S / _SLOTS
_GAIN = 0.3  # of a new day: a slot is the mean of about three
_MOST_GROWTH = 4.0


@dataclass(frozen=True, slots=True)
class Season:
    """`slots` of the days before, None where no data was. The present slot is gathered until it is over."""

    slots: tuple[float | None, ...] = field(default=(None,) * _SLOTS)
    slot: int = -1
    gathered: float = 0.0  # sum of rates × seconds of the present slot
    gathered_s: float = 0.0

    def after(self, now_s: float, rate_rps: float, span_s: float) -> Season:
        """With the mean rate of the `span_s` before `now_s`. `now_s` counts from any fixed time."""
        slot = int(now_s % _DAY_S / _SLOT_S)
        if slot == self.slot:
            return Season(self.slots, slot, self.gathered + rate_rps * span_s, self.gathered_s + span_s)
        slots = self.slots
        if self.slot >= 0 and self.gathered_s > 0:
            mean = self.gathered / self.gathered_s
            before = slots[self.slot]
            entry = mean if before is None else before + _GAIN * (mean - before)
            slots = (*slots[: self.slot], entry, *slots[self.slot + 1 :])
        return Season(slots, slot, rate_rps * span_s, span_s)

    def growth(self, now_s: float, horizon_s: float) -> float:
        """How many times the rate of now it was a horizon later, on days before; 1 where that is unknown."""
        now, later = self._at(now_s), self._at(now_s + horizon_s)
        if now is None or later is None or now <= 0:
            return 1.0
        return min(_MOST_GROWTH, max(1 / _MOST_GROWTH, later / now))

    def _at(self, now_s: float) -> float | None:
        """Between the middles of two slots."""
        place = now_s % _DAY_S / _SLOT_S - 0.5
        low = int(place // 1)
        share = place - low
        before, after = self.slots[low % _SLOTS], self.slots[(low + 1) % _SLOTS]
        if before is None or after is None:
            return None
        return before * (1 - share) + after * share
