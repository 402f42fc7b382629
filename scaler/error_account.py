"""What past requests left of the error budget, and how much of it the forecast may therefore use.

Pure. What comes beyond a forecast is seldom late as a whole: fleets are whole replicas, they shrink lazily,
and a burst of a second waits in a queue. Elsewhere more is late than was foreseen. So the forecast may let
more come beyond it, or less, as requests show: adaptive conformal inference (Gibbs & Candès, "Adaptive
conformal inference under distribution shift", NeurIPS 2021), in logarithms. Each request that is not late
makes the next forecast a little bolder, and each late one makes it less bold by as much as 1 / `target`
requests make it bolder.

**Law.** At a constant rate r, since it was last as careful as it gets, no more were late than `target` ×
(requests + r × EARNED_OVER_S × ln(MOST_BOLD / LEAST_BOLD)). However traffic comes, it grows bolder no faster
than EARNED_OVER_S / MOST_EARNED says. Called by `control` once a tick.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from scaler.signals import Signals

MOST_BOLD, LEAST_BOLD = 8.0, 0.25  # times what the forecast is allowed at first
# Of traffic without a late request, for a forecast e times as bold: a fleet is trusted with more once it has
# done well for a good part of a day.
EARNED_OVER_S = 6 * 3600.0
MOST_EARNED = 4.0  # times what mean traffic earns in that time: after a silence the first requests are a peak
_DAY_S = 86_400.0
_LONGEST_S = 60.0  # that one observation stands for


@dataclass(frozen=True, slots=True)
class ErrorAccount:
    at_s: float | None = None
    known_s: float = 0.0  # of traffic
    mean_rps: float = 0.0  # of the last day, or of what is known
    log_boldness: float = 0.0

    @property
    def boldness(self) -> float:
        """What the forecast may let come beyond it, over what it may at first."""
        return math.exp(self.log_boldness)

    def after(self, now_s: float, arrivals_rps: float, late_rps: float, target: float) -> ErrorAccount:
        """With one observation. `target`: the share of requests that may be late."""
        if self.at_s is None or now_s <= self.at_s:
            return replace(self, at_s=now_s)
        elapsed_s = min(now_s - self.at_s, _LONGEST_S)
        known_s = min(self.known_s + elapsed_s, _DAY_S)
        mean_rps = self.mean_rps + (arrivals_rps - self.mean_rps) * elapsed_s / known_s
        earned = arrivals_rps / max(mean_rps, arrivals_rps / MOST_EARNED, 1e-9)
        spent = late_rps / (target * max(mean_rps, 1e-9))
        log_boldness = self.log_boldness + (earned - spent) * elapsed_s / EARNED_OVER_S
        bounded = min(math.log(MOST_BOLD), max(math.log(LEAST_BOLD), log_boldness))
        return ErrorAccount(now_s, known_s, mean_rps, bounded)


def late_rps(seen: Signals, slo_latency_s: float) -> float | None:
    """Requests a second that were answered too late, or refused for overload; None: unknown."""
    if seen.recent_latencies is None:
        return None if seen.completions_rps > 0 else seen.overload_refusals_rps
    late = seen.completions_rps * seen.recent_latencies.share_over(slo_latency_s)
    return late + seen.overload_refusals_rps
