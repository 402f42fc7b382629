"""What past requests left of the error budget, and how much of it the forecast may therefore use.

Pure. What comes beyond a forecast is seldom late as a whole: fleets are whole replicas, they shrink lazily,
and a burst of a second waits in a queue. Elsewhere more is late than was foreseen. So the forecast may let
more come beyond it, or less, as requests show: adaptive conformal inference (Gibbs & Candès, "Adaptive
conformal inference under distribution shift", NeurIPS 2021), in logarithms. Each request that is not late
makes the next forecast a little bolder, and each late one makes it less bold by as much as 1 / `target`
requests make it bolder.

**Law.** Whatever comes at a constant rate: since it was last as careful as it gets, no more than `target` of
the requests were late, and those that the way from there to the boldest is worth. Called by `control` once a
tick.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from scaler.signals import Signals

MOST_BOLD, LEAST_BOLD = 8.0, 0.25  # times what the forecast is allowed at first
# Of mean traffic without a late request, for a forecast e times as bold: a fleet is trusted with more once it
# has done well for a good part of a day.
EARNED_OVER_S = 6 * 3600.0
_DAY_S = 86_400.0
_LONGEST_S = 60.0  # that one observation stands for


@dataclass(frozen=True, slots=True)
class ErrorAccount:
    at_s: float | None = None
    mean_rps: float = 0.0  # of the last day
    earned: float = 0.0  # natural logarithm of the boldness

    @property
    def boldness(self) -> float:
        """What the forecast may let come beyond it, over what it may at first."""
        return math.exp(self.earned)

    def after(self, now_s: float, arrivals_rps: float, late_rps: float, target: float) -> ErrorAccount:
        """With one observation. `target`: the share of requests that may be late."""
        if self.at_s is None or now_s <= self.at_s:
            return ErrorAccount(now_s, self.mean_rps or arrivals_rps, self.earned)
        elapsed_s = min(now_s - self.at_s, _LONGEST_S)
        mean_rps = self.mean_rps + (arrivals_rps - self.mean_rps) * -math.expm1(-elapsed_s / _DAY_S)
        gained = (arrivals_rps - late_rps / target) * elapsed_s / (max(mean_rps, 1e-9) * EARNED_OVER_S)
        bounded = min(math.log(MOST_BOLD), max(math.log(LEAST_BOLD), self.earned + gained))
        return ErrorAccount(now_s, mean_rps, bounded)


def late_rps(seen: Signals, slo_latency_s: float) -> float | None:
    """Requests a second that were answered too late, or refused for overload; None: unknown."""
    if seen.recent_latencies is None:
        return None if seen.completions_rps > 0 else seen.overload_refusals_rps
    late = seen.completions_rps * seen.recent_latencies.share_over(slo_latency_s)
    return late + seen.overload_refusals_rps
