"""The decisions that people should see: what changed something, and what began or ended a condition.

Pure. A fleet decides every few seconds and mostly keeps what it has. Called by `board`.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from scaler.dashboard.words import Before, Patience, changes, conditions, headline, why
from scaler.decision import Decision

MOST_ENTRIES = 500  # of a busy day, a hundred kilobytes


@dataclass(frozen=True, slots=True)
class Entry:
    """`number` counts from 1 and never comes again."""

    number: int
    at_s: float  # unix
    action: str
    current: int
    desired: int
    headline: str
    why: tuple[str, ...]
    conditions: tuple[str, ...]


class DecisionLog:
    def __init__(self) -> None:
        self.entries = deque[Entry](maxlen=MOST_ENTRIES)
        self.conditions: tuple[tuple[str, str], ...] = ()  # (name, why) by the last decision
        self._count = 0
        self._desired: int | None = None
        self._before = Before()

    def add(self, decision: Decision, at_s: float, patience: Patience) -> Entry | None:
        """None where nothing is new: replicas that were asked for and are still to start are no news."""
        now = tuple(conditions(decision))
        names = tuple(name for name, _ in now)
        before, point = self._before, decision.operating_point
        moved = decision.desired_replicas != self._desired
        retuned = point is not None and bool(changes(before.point, point))
        self.conditions, self._desired = now, decision.desired_replicas
        self._before = Before(point or before.point, names)
        if not moved and not retuned and names == before.conditions:
            return None
        self._count += 1
        entry = Entry(
            number=self._count,
            at_s=at_s,
            action=decision.action.value,
            current=decision.current_replicas,
            desired=decision.desired_replicas,
            headline=headline(decision, before),
            why=tuple(why(decision, patience)),
            conditions=names,
        )
        self.entries.append(entry)
        return entry
