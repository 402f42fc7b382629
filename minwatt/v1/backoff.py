"""How long to wait before the next try. Pure: the draw is an argument.

Used by replicas and scalers that lost the other, or the Redis between them.
"""

from __future__ import annotations

import random

FIRST_BACKOFF_S, LAST_BACKOFF_S = 0.2, 5.0


def backoff_s(failures: int, draw: random.Random) -> float:
    """Before try `failures` + 1: doubles up to a bound; half is jitter, so that a fleet is spread."""
    bound_s: float = min(LAST_BACKOFF_S, FIRST_BACKOFF_S * 2 ** min(failures - 1, 10))
    return bound_s * draw.uniform(0.5, 1.0)
