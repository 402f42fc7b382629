"""How long a batch will compute: α + β·padded tokens, fitted online to the batches that were computed.

Pure. The queue asks it when a batch must leave, admission whether a deadline can be met and when to retry.
Fed by `batcher` after each batch, and by the warm-up's batch shapes before the first request.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

MEMORY = 0.98  # weight kept per batch: the last ~50 batches decide
MIN_SPREAD = 0.05  # of the mean batch: below it the batches are of one size and say nothing of the slope


@dataclass(frozen=True, slots=True)
class ServiceTime:
    """`alpha_s` + `beta_s_per_token` × padded tokens; `residual_fraction` is the usual error of that."""

    alpha_s: float = 0.0
    beta_s_per_token: float = 0.0
    residual_fraction: float = 0.0

    def batch_s(self, padded_tokens: float) -> float:
        """Expected seconds of a batch of that many tokens, padding included."""
        return self.alpha_s + self.beta_s_per_token * padded_tokens

    def cautious_batch_s(self, padded_tokens: float) -> float:
        """As `batch_s`, later by the usual error: for who must not be late."""
        return self.batch_s(padded_tokens) * (1 + self.residual_fraction)

    def tokens_within(self, span_s: float) -> float:
        """The padded tokens of the largest batch that is cautiously expected to end within `span_s`."""
        for_tokens_s = span_s / (1 + self.residual_fraction) - self.alpha_s
        if self.beta_s_per_token == 0.0:
            return math.inf if for_tokens_s >= 0 else 0.0
        return for_tokens_s / self.beta_s_per_token

    @property
    def worth_padding_tokens(self) -> float:
        """Padding that costs as much as another batch's start, α."""
        return self.alpha_s / self.beta_s_per_token if self.beta_s_per_token else math.inf


class ServiceTimeEstimate:
    """Least squares of relative errors with exponential forgetting; neither part is ever negative."""

    def __init__(self) -> None:
        self._weight = self._x = self._y = self._xx = self._xy = 0.0
        self.current = ServiceTime()  # all zero until the first batch

    def observe(self, padded_tokens: int, compute_s: float) -> None:
        """Learns from one computed batch."""
        expected_s = self.current.batch_s(padded_tokens)
        error = min(1.0, abs(compute_s / expected_s - 1)) if expected_s else 0.0
        weight = 1 / padded_tokens**2  # errors grow with the batch: without it the largest would decide alone
        self._weight = MEMORY * self._weight + weight
        self._x = MEMORY * self._x + weight * padded_tokens
        self._y = MEMORY * self._y + weight * compute_s
        self._xx = MEMORY * self._xx + weight * padded_tokens**2
        self._xy = MEMORY * self._xy + weight * padded_tokens * compute_s
        alpha_s, beta = self._fit()
        residual = MEMORY * self.current.residual_fraction + (1 - MEMORY) * error
        self.current = ServiceTime(alpha_s, beta, residual)

    def _fit(self) -> tuple[float, float]:
        mean_x, mean_y = self._x / self._weight, self._y / self._weight
        variance = self._xx / self._weight - mean_x**2
        if variance > (MIN_SPREAD * mean_x) ** 2:
            beta = (self._xy / self._weight - mean_x * mean_y) / variance
        else:
            beta = self.current.beta_s_per_token
        beta = min(max(beta, 0.0), mean_y / mean_x)  # more would take alpha below zero
        return max(0.0, mean_y - beta * mean_x), beta


class ServiceTimes:
    """An estimate for each clock of the card: what batches took at a slow clock is wrong of a fast one."""

    def __init__(self, learned: ServiceTimeEstimate) -> None:
        """`learned` at the card's own clock, 0."""
        self._by_clock_mhz = {0: learned}

    def at(self, clock_mhz: int) -> ServiceTimeEstimate:
        """A clock that was never used begins with what is known of the nearest."""
        known = self._by_clock_mhz
        estimate = known.get(clock_mhz)
        if estimate is None:
            nearest_mhz = min(known, key=lambda one_mhz: abs(one_mhz - clock_mhz))
            estimate = known[clock_mhz] = copy.copy(known[nearest_mhz])
        return estimate
