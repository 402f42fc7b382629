"""Whether something that has failed is worth asking again. Pure: time and the draw are arguments.

Used by `redis_store`, so that a server that is away costs a few waits and then none.
"""

from __future__ import annotations

import random

TOLERATED = 3  # failures in a row
FIRST_BACKOFF_S, LAST_BACKOFF_S = 0.1, 5.0


class Breaker:
    """Closed while all is well; open after `TOLERATED` failures in a row, until a try succeeds."""

    def __init__(self) -> None:
        self._failures = 0

    @property
    def open(self) -> bool:
        return self._failures >= TOLERATED

    def succeeded(self) -> None:
        self._failures = 0

    def failed(self) -> None:
        self._failures += 1

    def backoff_s(self, draw: random.Random) -> float:
        """Before the next try while open: doubles up to a bound; half is jitter, so that replicas spread."""
        tries = min(max(0, self._failures - TOLERATED), 20)
        bound_s: float = min(LAST_BACKOFF_S, FIRST_BACKOFF_S * 2**tries)
        return bound_s * draw.uniform(0.5, 1.0)
