"""When replicas of this machine are started again, and when one that says nothing any more is given up.

Pure: time is an argument. Owns the rules alone; `processes` starts and kills.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable

STEADY_S = 10.0  # a replica that was ready for so long has come up for good
_FIRST_BACKOFF_S, _LAST_BACKOFF_S = 0.5, 30.0
_LONGEST_LOOK_S = 2.0  # beats are a second apart: what is longer, the scaler itself was not there to hear


class Backoff:
    """Waits that double with each replica that didn't last, until one does."""

    def __init__(self) -> None:
        self._failures = 0
        self._failed_at_s = -math.inf
        self._not_before_s = -math.inf

    def failed(self, now_s: float) -> float:
        """Told of a start that never came up, or a replica soon gone. Returns the wait for the next."""
        wait_s = min(_LAST_BACKOFF_S, _FIRST_BACKOFF_S * 2.0 ** min(self._failures, 10))
        self._failures += 1
        self._failed_at_s = now_s
        self._not_before_s = now_s + wait_s
        return wait_s

    def may_start(self, now_s: float) -> bool:
        return now_s >= self._not_before_s

    def lasting(self, ready_at_s: Iterable[float], now_s: float) -> None:
        """Told since when the replicas are ready. One that came after the last failure and stayed ends it.

        Those from before say nothing: it may be the next one that this machine has no memory for.
        """
        if any(self._failed_at_s < at_s <= now_s - STEADY_S for at_s in ready_at_s):
            self._failures = 0


class Silences:
    """How long each ready replica has said nothing, in time that the scaler was there to hear it."""

    def __init__(self, most_s: float) -> None:
        self._most_s = most_s
        self._silent_s: dict[str, float] = {}
        self._looked_s: float | None = None

    def overdue(self, now_s: float, ready: Iterable[str], heard: Collection[str]) -> list[str]:
        """Those silent for longer than allowed, the longest first. Call each beat."""
        passed_s = 0.0 if self._looked_s is None else min(now_s - self._looked_s, _LONGEST_LOOK_S)
        self._looked_s = now_s
        self._silent_s = {
            name: self._silent_s.get(name, 0.0) + passed_s for name in ready if name not in heard
        }
        late = [name for name, silent_s in self._silent_s.items() if silent_s > self._most_s]
        return sorted(late, key=lambda name: -self._silent_s[name])
