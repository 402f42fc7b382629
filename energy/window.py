"""Mean watts from a growing count of joules, over a sliding window.

Owns the arithmetic only; time comes in with each sample. Called by the meters whose hardware counts joules.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field


@dataclass(slots=True)
class MeanPower:
    """Mean power over the shortest run of samples that spans window_s; at first over all since `restart`.

    window_s: a counter that the hardware refreshes every 0.1 s is off by up to 0.1 s at each end of a window:
        4 % over 5 s, 20 % over 1 s.
    least_s: a shorter span than this gives None.
    """

    window_s: float
    least_s: float
    _samples: deque[tuple[float, float]] = field(default_factory=deque)  # (at_s, joules), oldest first

    def restart(self, at_s: float, joules: float) -> None:
        """Forgets what was: the next mean starts here."""
        self._samples.clear()
        self._samples.append((at_s, joules))

    def add(self, at_s: float, joules: float) -> float | None:
        """Takes a sample; the mean watts up to it, or None while too little time is covered."""
        samples = self._samples
        samples.append((at_s, joules))
        while len(samples) > 2 and at_s - samples[1][0] >= self.window_s:
            samples.popleft()
        since_s, since_j = samples[0]
        span_s = at_s - since_s
        if span_s <= 0 or span_s < self.least_s:
            return None
        return (joules - since_j) / span_s
