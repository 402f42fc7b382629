"""The arrivals a simulation offers to a fleet: counts by bin, already scaled to the fleet, and their draw.

Pure; reading and scaling a trace is the command's matter. A world's counts are drawn once, in steps of about
a second, so that every contender gets the same ones whatever the step it is simulated at.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_FINE_STEP_S = 1.0
_LONGEST_STEP_S = 5.0  # a start-up is some tens of seconds: longer steps would blur what happens meanwhile
_Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Traffic:
    """`counts[i]` requests are expected from i × `bin_s` on; NaN where no data was collected."""

    bin_s: float
    counts: _Floats  # [bins], 0 or more

    @property
    def duration_s(self) -> float:
        """Bins without data included."""
        return self.bin_s * len(self.counts)

    @property
    def observed_s(self) -> float:
        """Seconds with data."""
        return self.bin_s * int(np.count_nonzero(~np.isnan(self.counts)))

    @property
    def requests(self) -> float:
        """Expected."""
        return float(np.nansum(self.counts))

    @property
    def mean_rps(self) -> float:
        """Over the time with data; 0 without any."""
        return self.requests / self.observed_s if self.observed_s > 0 else 0.0

    @property
    def peak_rps(self) -> float:
        """Of the busiest bin; 0 without data."""
        return float(np.nanmax(self.counts)) / self.bin_s if self.observed_s > 0 else 0.0

    @property
    def fine_steps(self) -> int:
        """Steps of about a second that a bin is drawn in."""
        return max(1, math.ceil(self.bin_s / _FINE_STEP_S - 1e-9))

    def step_s(self, tick_s: float) -> float:
        """What a simulation advances by: at most a bin, a tick and 5 s, and where it can a whole part of a
        tick.
        """
        fine_s = self.bin_s / self.fine_steps
        longest_s = min(tick_s, _LONGEST_STEP_S)
        widths_s = [
            n * fine_s
            for n in range(1, self.fine_steps + 1)
            if self.fine_steps % n == 0 and (n == 1 or n * fine_s <= longest_s + 1e-9)
        ]
        whole_s = [one for one in widths_s if abs(tick_s / one - round(tick_s / one)) < 1e-6]
        return max(whole_s or widths_s)

    def expected(self, step_s: float) -> _Floats:
        """[steps] mean requests of each step, NaN without data; `step_s` as `step_s()` gives it."""
        steps = round(self.bin_s / step_s)
        return np.repeat(self.counts / steps, steps)

    def drawn(self, step_s: float, cv: float, seed: int) -> _Floats:
        """[steps] whole numbers of requests, NaN without data; `step_s` as `step_s()` gives it.

        Poisson for a cv of 1; above, negative binomial of variance cv² × mean, the variance that renewals
        with gaps of that cv have in the long run; below 1 a rounded normal of that variance.
        """
        mean = np.repeat(self.counts / self.fine_steps, self.fine_steps)
        known = ~np.isnan(mean)
        rng = np.random.default_rng([seed, 1])
        counts = np.full(len(mean), np.nan)
        counts[known] = _counts(mean[known], cv, rng)
        together = round(step_s * self.fine_steps / self.bin_s)
        return np.asarray(counts.reshape(-1, together).sum(axis=1), dtype=np.float64)


def _counts(mean: _Floats, cv: float, rng: np.random.Generator) -> _Floats:
    if abs(cv - 1) < 1e-6:
        return np.asarray(rng.poisson(mean), dtype=np.float64)
    if cv < 1:
        return np.asarray(np.maximum(0.0, np.rint(rng.normal(mean, cv * np.sqrt(mean)))))
    counts = np.zeros(len(mean))
    some = mean > 0
    counts[some] = rng.negative_binomial(mean[some] / (cv**2 - 1), cv**-2)
    return counts
