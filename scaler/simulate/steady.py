"""What one replica does for long at one rate: batches, busy seconds, joules, latencies, in tables by rate.

Made by running `replica` with fixed seeds, a cell of the table when it is first asked for; kept as long as
the process runs, as the rules alone decide what is in them. `binned` simulates fleets with them, `capacity`
reads what a replica can do within the SLO.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from scaler.simulate.latency_grid import BINS, Shape, counts, quantile_s
from scaler.simulate.replica import Replica, gamma_gaps, noise_factors
from scaler.simulate.rules import Rules

# Of the capacity. Dense where the clock's reflex sets in and where the queue grows; the last is where the
# steady state still comes about within seconds (a queue's relaxation time grows with 1 / (1 - load)²).
_LOADS = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.13, 0.16, 0.2, 0.25, 0.3, 0.35),
    *(n / 100 for n in range(40, 97, 2)),
    *(0.97, 0.98, 0.985, 0.99, 0.995),
)
_SEED = 20_130
_CHUNK_TEXTS = 1 << 14
_LEAST_BATCHES = 4_000  # the means are then right to some 0.5%
_RELAXATIONS = 100  # of the queue, that a run lasts at least where its tail is near the SLO
# Texts over the SLO come in bursts. A run that could end at any time would end with one, so those with
# such texts end at set lengths: the more, the surer is a share near the error budgets.
_FEW_TEXTS = 1 << 15  # enough if a twentieth is over
_MANY_TEXTS = 1 << 18  # enough if a hundredth is over, or as good as none
_LITTLE = 5e-5  # of requests over the SLO
_MOST_TEXTS = 1 << 19
_Floats = NDArray[np.float64]
_NEGLIGIBLE = 1e-7  # a share over the SLO that is none, where it is to have a logarithm
# Squared coefficients of variation that tables are made for.
_C2 = (
    0.0,
    0.25,
    0.5,
    0.75,
    0.9,
    1.0,
    1.05,
    1.1,
    1.2,
    1.35,
    1.6,
    2.0,
    2.5,
    3.2,
    4.0,
    5.5,
    8.0,
    12.0,
    20.0,
    40.0,
)


@dataclass(frozen=True, slots=True, eq=False)
class Cell:
    """One replica's steady state at `rate_rps`."""

    rate_rps: float
    batches_per_s: float
    busy_fraction: float
    busy_w: float  # joules of computing, by time
    waiting: float  # texts, mean
    in_flight: float  # texts waiting or in the engine, mean
    over: float  # share of requests slower than the SLO, or refused
    latencies: Shape


@dataclass(frozen=True, slots=True)
class Now:
    """The steady state at any rate: between two cells, `share` of the way to the `upper` one."""

    lower: int
    upper: int
    share: float
    batches_per_s: float
    busy_fraction: float
    busy_w: float
    waiting: float
    in_flight: float
    over: float


class SteadyTable:
    """Of one set of rules under arrivals of one burstiness."""

    def __init__(self, rules: Rules, c2: float) -> None:
        self.rules = rules
        self.rates_rps = [load * rules.capacity_rps for load in _LOADS]
        self._c2 = c2
        self._cells: dict[int, Cell] = {}
        self._over: dict[int, float] = {}

    @property
    def cells(self) -> int:
        return len(self.rates_rps)

    def cell(self, index: int) -> Cell:
        if index not in self._cells:
            self._cells[index] = _run(self.rules, self._c2, self.rates_rps[index])
        return self._cells[index]

    def over(self, index: int) -> float:
        """The share over the SLO, not less than in the cells below: what is less there is chance.

        Only so far down as it matters to an error budget.
        """
        if index not in self._over:
            own = self.cell(index).over
            below = self.over(index - 1) if own > _LITTLE and index > 0 else 0.0
            self._over[index] = max(own, below)
        return self._over[index]

    @property
    def over_at_most(self) -> float:
        """The share over the SLO next to the capacity."""
        return self.over(self.cells - 1)

    def at(self, rate_rps: float) -> Now:
        """Linear between cells, the share over the SLO geometric. Above the last cell as in the last; below
        the first as in the first at less of the time.
        """
        upper = bisect_right(self.rates_rps, rate_rps)
        if upper == 0:
            cell, part = self.cell(0), rate_rps / self.rates_rps[0]
            return Now(
                *(0, 0, 0.0, part * cell.batches_per_s, part * cell.busy_fraction, part * cell.busy_w),
                *(part * cell.waiting, part * cell.in_flight, self.over(0)),
            )
        if upper == self.cells:
            cell = self.cell(upper - 1)
            return Now(
                *(upper - 1, upper - 1, 0.0, cell.batches_per_s, cell.busy_fraction, cell.busy_w),
                *(cell.waiting, cell.in_flight, self.over(upper - 1)),
            )
        low, high = self.cell(upper - 1), self.cell(upper)
        share = (rate_rps - low.rate_rps) / (high.rate_rps - low.rate_rps)
        rest = 1 - share
        over_low, over_high = self.over(upper - 1), self.over(upper)
        return Now(
            upper - 1,
            upper,
            share,
            rest * low.batches_per_s + share * high.batches_per_s,
            rest * low.busy_fraction + share * high.busy_fraction,
            rest * low.busy_w + share * high.busy_w,
            rest * low.waiting + share * high.waiting,
            rest * low.in_flight + share * high.in_flight,
            0.0 if over_high == 0 else _between(over_low, over_high, share),
        )

    def rate_at(self, miss: float) -> float:
        """The highest rate with at most `miss` of the requests over the SLO; 0 where there is none."""
        low, high = -1, self.cells  # the last cell within, the first one not
        while high - low > 1:
            middle = (low + high) // 2
            if self.over(middle) <= miss:
                low = middle
            else:
                high = middle
        if low < 0:
            return 0.0
        if high == self.cells:
            return self.rates_rps[-1]
        within, beyond = max(self.over(low), _NEGLIGIBLE), self.over(high)
        share = math.log(max(miss, _NEGLIGIBLE) / within) / math.log(beyond / within)
        return self.rates_rps[low] + min(1.0, max(0.0, share)) * (self.rates_rps[high] - self.rates_rps[low])


def steady_table(rules: Rules, arrival_c2: float) -> SteadyTable:
    """The one table of these rules and of the burstiness nearest to `arrival_c2`."""
    return _table(rules, min(_C2, key=lambda c2: abs(math.log((1 + c2) / (1 + arrival_c2)))))


def arrival_c2(arrival_cv: float, replicas: float) -> float:
    """Of what one of `replicas` sees of a stream that goes to them at random: thinned, it is more Poisson."""
    return 1 + (arrival_cv**2 - 1) / max(1.0, replicas)


@lru_cache(maxsize=512)
def _table(rules: Rules, c2: float) -> SteadyTable:
    return SteadyTable(rules, c2)


def _between(low: float, high: float, share: float) -> float:
    low = max(low, _NEGLIGIBLE)
    return float(low * (high / low) ** share) if high > low else high


def _run(rules: Rules, c2: float, rate_rps: float) -> Cell:
    """The same arrivals at every rate, only faster: so that neighbours differ by rate, not by chance."""
    rng = np.random.default_rng(_SEED)
    replica = Replica(rules, noise_factors(rules.noise, _SEED))
    least_texts = _least_texts(rules, c2, rate_rps)
    weights = np.zeros(BINS)
    heard_s = latency_s = 0.0
    texts = over = refused = 0
    done = False
    while not done:
        arrivals_s = heard_s + np.cumsum(gamma_gaps(_CHUNK_TEXTS, c2, rng)) / rate_rps
        heard_s = float(arrivals_s[-1])
        replica.advance(arrivals_s.tolist(), heard_s)
        answered = replica.answered().latency_s
        weights += counts(answered)
        latency_s += float(answered.sum())
        texts += _CHUNK_TEXTS
        over += int(np.count_nonzero(answered > rules.slo_latency_s)) + replica.totals.refused - refused
        refused = replica.totals.refused
        clear = over == 0 and texts >= least_texts and _is_far(weights, rules.slo_latency_s)
        done = replica.totals.batches >= _LEAST_BATCHES and (clear or _is_sure(texts, over))
    totals = replica.totals
    # By what was computed, not by the time it took: so that chance in the arrivals' number drops out.
    seconds = (totals.computed + totals.refused) / rate_rps
    return Cell(
        rate_rps=rate_rps,
        batches_per_s=totals.batches / seconds,
        busy_fraction=min(1.0, totals.busy_s / seconds),
        busy_w=totals.busy_j / seconds,
        waiting=max(0.0, (latency_s - totals.ridden_s) / seconds),
        in_flight=latency_s / seconds,
        over=over / texts,
        latencies=Shape(weights / weights.sum()),
    )


def _least_texts(rules: Rules, c2: float, rate_rps: float) -> float:
    """In a time of B·c² / (1 - load)² texts a queue forgets how long it was (heavy traffic).

    With two clocks there are two loads that are near 1.
    """
    size = rules.batch_texts
    capacities = (rules.engine.capacity_tps(size), rules.capacity_rps)
    spare = min(abs(1 - rate_rps / one) for one in capacities)
    return min(_MANY_TEXTS, _RELAXATIONS * size * max(1.0, c2) / max(spare, 1e-3) ** 2)


def _is_sure(texts: int, over: int) -> bool:
    share = over / texts
    return (
        (texts == _FEW_TEXTS and share > 0.05)
        or (texts == _MANY_TEXTS and not _LITTLE < share < 0.01)
        or texts >= _MOST_TEXTS
    )


def _is_far(weights: _Floats, slo_latency_s: float) -> bool:
    """A tail that goes on as it falls from 1e-2 to 1e-3 is at 1e-6 before it comes to the SLO."""
    rare_s, rarer_s = quantile_s(weights, 99), quantile_s(weights, 99.9)
    return rarer_s + 3 * (rarer_s - rare_s) < slo_latency_s
