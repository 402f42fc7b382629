"""What each forecast's errors were: a fading histogram of observed / expected, weighted by requests.

Pure. Owns the bins, the forgetting, what is assumed before enough was seen, the upper quantiles and which
expert is best. Called by `forecast`.

**What comes beyond the forecast** is the part above it alone: a server that is asked for more than it can do
refuses the excess and answers the rest in time (service.admission). Of traffic at r × the expectation a
forecast of f × it misses 1 - f / r.

A forecast that all but one request in two thousand stay under needs thousands of ticks before it can be read
off. Until then traffic that has not been seen yet is counted in, its bursts heavy-tailed: a power law, the
steeper the shorter the horizon, as a random walk's spread grows with the root of time. To shrink, more of it
counts than to grow, and the first hour, of which the experts learn little, is little evidence: both ways need
some, and between them a fleet stays as it is. For a horizon of 50 s the factor is 1.01 to grow and 1.9 to
shrink after half an hour of quiet, 1 and 1.5 after an hour, 1 and 1.03 after six. The record of all that came
is no level that chance exceeds: to grow, its factor is 1; how far beyond it traffic may come bounds what
other experts fear.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_EXPERTS = 11  # the last is the record
_BINS = 120
_FIRST_EXCESS = 0.004  # width of the first bin, of observed / expected - 1
_BIN_GROWTH = 1.09  # each bin is that much wider than the one before: the last ends beyond 1,000 ×
_MEMORY_TICKS = 120_960.0  # a week of ticks of 5 s: what traffic does on no day of a week it seldom does
_UNKNOWN_TICKS = 2.0  # counted in, to grow
_UNKNOWN_TICKS_CALM = 24.0  # to shrink
_UNKNOWN_POWER = 6.0  # at a horizon of _UNKNOWN_HORIZON_S: P(observed > r × expected) = r^-6
_UNKNOWN_HORIZON_S = 50.0
_USUAL = 0.1  # what one request in ten comes beyond is usual
_LEARNER_TICKS = 720.0  # an hour: what an expert did not foresee before it knew an hour counts the less
_LOSS_MEMORY_TICKS = 17_280.0  # a day: which expert is best may change with the week

_EDGES: Floats = 1 + _FIRST_EXCESS * (np.power(_BIN_GROWTH, np.arange(1, _BINS + 1)) - 1) / (_BIN_GROWTH - 1)
_UPPER_EDGES = _EDGES.tolist()
_LOWER_EDGES: Floats = np.concatenate(([1.0], _EDGES[:-1]))
_LOG_GROWTH = math.log(_BIN_GROWTH)
RECORD = _EXPERTS - 1
_NEAR_LOSS = 1.25  # of the least: a handful of bursts decides between experts that near


@lru_cache(maxsize=1024)
def _unknown(horizon_s: float, typical: float) -> Floats:
    """Beyond each lower edge, of traffic that has not been seen: what is rare begins where what is usual
    ends, as in Weissman's estimate of extreme quantiles (JASA 73, 1978): P(r > x) = (x / typical)^-power.
    """
    power = _UNKNOWN_POWER * math.sqrt(_UNKNOWN_HORIZON_S / horizon_s)
    edges = _LOWER_EDGES / typical
    beyond = np.where(
        edges < 1, 1 - edges * power / (power + 1), np.maximum(edges, 1) ** -power / (power + 1)
    )
    return np.asarray(beyond, dtype=np.float64)


def _above(weights: Floats) -> Floats:
    """Of the weights by bin, what lies in each bin and higher ones."""
    return np.asarray(weights[..., ::-1].cumsum(axis=-1)[..., ::-1])


def _beyond(weights: Floats) -> Floats:
    """Of the weights by bin, what lies beyond each bin's lower edge."""
    return _above(weights) - _LOWER_EDGES * _above(weights / _EDGES)


def _factor(beyond: Floats, weight: float) -> float:
    """The upper edge of the last bin beyond whose lower one there is more than `weight`; 1 where none is."""
    bins = int((beyond > weight).sum())
    return _UPPER_EDGES[bins - 1] if bins else 1.0


def _bin(ratio: float) -> int:
    """-1 for what stayed under the expectation."""
    excess = ratio - 1
    if excess <= 0:
        return -1
    return min(_BINS - 1, int(math.log1p(excess * (_BIN_GROWTH - 1) / _FIRST_EXCESS) / _LOG_GROWTH))


def _beyond_record(rate_rps: float, record_rps: float) -> float:
    """A jump as large as the one to the new record, from there: a first burst after a quiet night is many
    times the record that it breaks, and says nothing of as many times itself. Nearly the ratio where it is
    small, never above 2.
    """
    return 2 - record_rps / rate_rps if rate_rps > record_rps else 1.0


@dataclass(frozen=True, slots=True)
class Allowance:
    """`miss`: of requests, that may come beyond the forecast. `forgiven_ticks`: of mean traffic, that may
    before it is learnt from.
    """

    miss: float
    horizon_s: float
    forgiven_ticks: float


@dataclass(frozen=True, slots=True, eq=False)
class ErrorMemory:
    """`excess[e, k]`: weight of expert e's observations in bin k; `total`: of all of them.

    Weights are relative to the mean rate, so that each tick weighs 1 on average.
    """

    excess: Floats = field(default_factory=lambda: np.zeros((_EXPERTS, _BINS)))
    total: float = 0.0
    learnt: float = 0.0  # of `total`, what counts in `excess`: less of the first hour
    # By expert, fading means in requests/s: `miss` of what was provided for and did not come, and what came
    # beyond less `miss` of all that came.
    spare: tuple[float, ...] = (0.0,) * _EXPERTS
    overdrawn: tuple[float, ...] = (0.0,) * _EXPERTS
    mean_rps: float = 0.0
    ticks: float = 0.0

    def after(
        self,
        expected_rps: tuple[float, ...],
        upper_rps: tuple[float, ...],
        seen_rps: tuple[tuple[float, ...], ...],
        miss: float,
    ) -> ErrorMemory:
        """With one tick: by expert its expectation, its upper bound, and the rates that came instead."""
        beats = len(seen_rps[0])
        now_rps = max(sum(rates) / beats for rates in seen_rps)
        ticks = self.ticks + 1
        mean_rps = self.mean_rps + (now_rps - self.mean_rps) / min(ticks, _MEMORY_TICKS)
        scale_rps = max(mean_rps, 1e-9)
        fade = 1 - 1 / _MEMORY_TICKS
        excess = self.excess * fade
        counts = min(1.0, ticks / _LEARNER_TICKS)
        weight = counts / scale_rps / beats
        gain = 1 / min(ticks, _LOSS_MEMORY_TICKS)
        spare, overdrawn = [], []
        for expert, expected in enumerate(expected_rps):
            base_rps, upper, idle, over = max(expected, 1e-3 * scale_rps), upper_rps[expert], 0.0, 0.0
            for rate in seen_rps[expert]:
                where = _bin(rate / base_rps if expert != RECORD else _beyond_record(rate, base_rps))
                if where >= 0:
                    excess[expert, where] += rate * weight
                idle += miss * max(0.0, upper - rate)
                over += max(0.0, rate - upper) - miss * rate
            spare.append(self.spare[expert] + (idle / beats - self.spare[expert]) * gain)
            overdrawn.append(self.overdrawn[expert] + (over / beats - self.overdrawn[expert]) * gain)
        share = now_rps / scale_rps
        total, learnt = self.total * fade + share, self.learnt * fade + counts * share
        return ErrorMemory(excess, total, learnt, tuple(spare), tuple(overdrawn), mean_rps, ticks)

    def upper_factors(self, allowance: Allowance) -> list[float]:
        """By expert: the factor that all but what is allowed stayed under; of the record 1."""
        beyond = np.maximum(0.0, _beyond(self.excess[:RECORD]) - allowance.forgiven_ticks)
        beyond += _UNKNOWN_TICKS * _unknown(allowance.horizon_s, 1.0)
        bins_over = (beyond > allowance.miss * (self.total + _UNKNOWN_TICKS)).sum(axis=1).tolist()
        return [*(_UPPER_EDGES[bins - 1] if bins else 1.0 for bins in bins_over), 1.0]

    def calm_factor(self, expert: int, allowance: Allowance) -> float:
        """The same of an expert that is not the record, were traffic for a while to do what it never did.

        That a start is not worth its joules is `stabilise`'s matter: here, too, only what came beyond counts.
        """
        typical = _factor(_above(self.excess[expert]), _USUAL * self.learnt)
        beyond = np.maximum(0.0, _beyond(self.excess[expert]) - allowance.forgiven_ticks)
        beyond += _UNKNOWN_TICKS_CALM * _unknown(allowance.horizon_s, typical)
        return _factor(beyond, allowance.miss * (self.learnt + _UNKNOWN_TICKS_CALM))

    def record_factor(self, record_rps: float, allowance: Allowance) -> float:
        """How far beyond its record traffic may come. Of n ticks the next one breaks the record with a chance
        of one in n, and it weighs as much more than others as the record is above their mean.
        """
        unknown = max(1.0, record_rps / max(self.mean_rps, 1e-9))
        beyond = _beyond(self.excess[RECORD])  # none forgiven: it bounds, it does not ask for more
        beyond += unknown * _unknown(allowance.horizon_s, 1.0)
        return _factor(beyond, allowance.miss * (self.total + unknown))

    @property
    def loss(self) -> tuple[float, ...]:
        """By expert. What may come beyond the forecast is no loss: each expert's factor is made to use it up,
        and they differ by what they provide for then (the sharpest of the calibrated ones: Gneiting,
        Balabdaoui, Raftery 2007). What comes beyond that costs as in the quantile loss, 1 to `miss`.
        """
        return tuple(idle + max(0.0, over) for idle, over in zip(self.spare, self.overdrawn, strict=True))

    @property
    def heard(self) -> list[int]:
        """The expert of the least loss, and those that can't be told from it, the record apart. Before
        any error is known, the record: what might come beyond it is a guess, and no reason to grow.
        """
        if not self.ticks:
            return [RECORD]
        loss = self.loss
        best = min(range(_EXPERTS), key=loss.__getitem__)
        near = _NEAR_LOSS * loss[best]
        return [best, *(one for one in range(RECORD) if one != best and loss[one] <= near)]
