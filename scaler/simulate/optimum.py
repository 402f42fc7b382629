"""The clairvoyant optimum: the fewest joules that keep the SLO on arrivals that are all known beforehand.

Source: offline right-sizing (Lin, Wierman, Andrew, Thereska: "Dynamic right-sizing for power-proportional
data centers", INFOCOM 2011): a cost for each number of replicas in each slot, and a cost for each start;
solved by dynamic programming (`schedule`). A slot is a bin of the traffic; its costs are those of the model
that contenders are simulated with (`slot_costs`), at the best lever for that slot. It starts replicas in
time, moves levers at will, and has neither telemetry nor crashes. Within a bin all is steady, chance apart,
so that nothing is gained by changes inside one.

**The error budget** couples all slots: at most that share of all requests may be late. It is priced: at μ
joules a late request the slots are apart again, and L(μ) is the least of joules + μ · late requests.

- `bound_j`, the largest of L(μ) - μ · budget: by weak duality no schedule that keeps the budget takes less.
  This is the bound that no policy can beat, and what ratios are taken of.
- `outcome`: a schedule that keeps the budget, the optimum at the lowest price found at which it does. It
  takes at least the bound, over long traces hardly more; over a few slots the gap can be large.

What makes the bound lower than any policy could be: no backlog is carried into the next slot, and the levers
act at once; to switch the variant costs it no joules. What could make it too high: levers in between those
that are tried; and a fleet that stays within a percent of its capacity for some seconds, which `binned` sees
in time where the optimum counts it as late. Both are small where a slot is long against the SLO.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scaler.simulate.capacity import best_rate_at_slo
from scaler.simulate.ledger import Ledger, Yardstick
from scaler.simulate.outcome import Outcome
from scaler.simulate.schedule import Devices, Slots, cheapest, cheapest_choices
from scaler.simulate.served import Served
from scaler.simulate.slot_costs import UNREACHABLE, ReplicaCosts, left_j, replica_costs, served
from scaler.simulate.world import World

_PRICES = 16  # that one pass of the dynamic programming takes together
_PRICE_SPAN = 1e8  # from the highest price that makes sense to the lowest
_ZOOMS = 2  # passes after the first, each between the neighbours of the best price
_MOST_LEVELS = 4096  # different numbers of requests in a slot; more are rounded to that many, 0.4% apart
_MOST_CELLS = 2e7  # of a table: prices × levels × replicas
_GROUPS = (1, 2, 4, 8, 16, 32)  # replicas that share one burstiness, from there to the next
_Floats = NDArray[np.float64]
_Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Optimum:
    """`outcome` may exceed the error budget: then no schedule within replicas.max keeps it, and it is the one
    of the fewest late requests.
    """

    outcome: Outcome
    bound_j: float
    price_j: float  # of one late request: what a larger error budget would save


def optimum(world: World, initial: int) -> Optimum:
    """`initial` replicas are there at the start, as for every contender."""
    return _Problem(world, initial).solve()


class _Problem:
    def __init__(self, world: World, initial: int) -> None:
        self._world = world
        self._initial = initial
        self._slot_s = world.traffic.bin_s
        self._gaps = np.isnan(world.traffic.counts)
        self._counts = world.traffic.counts[~self._gaps]
        self._late_allowed = world.policy.spec.slo.error_budget * float(self._counts.sum())
        self._costs: dict[int, ReplicaCosts] = {}
        self._highest_j = 1e3 * (
            world.profile.start_up.joules + self._of(1).watts[:, -1].min() * self._slot_s
        )
        self._replicas = self._range()
        levels = int(min(_MOST_LEVELS, max(64, _MOST_CELLS / (_PRICES * len(self._replicas)))))
        self._level_counts, self._level_of = _levels(self._counts, levels)
        self._slots = Slots.of(self._level_of)

    def solve(self) -> Optimum:
        if len(self._counts) == 0:
            return Optimum(self._play(np.zeros(0, dtype=np.int64), 0.0), 0.0, 0.0)
        prices = np.concatenate(
            ([0.0], np.geomspace(self._highest_j / _PRICE_SPAN, self._highest_j, _PRICES - 1))
        )
        bound_j, best, prices = self._dual(prices)
        for _ in range(_ZOOMS):
            low, high = prices[max(best - 1, 0)], prices[min(best + 1, len(prices) - 1)]
            if low == high:
                break
            finer = np.geomspace(low, high, _PRICES) if low > 0 else np.linspace(low, high, _PRICES)
            better_j, best, prices = self._dual(finer)
            bound_j = max(bound_j, better_j)
        for price_j in prices[best:].tolist():
            outcome = self._play(self._path(price_j), price_j)
            if outcome.over_slo_fraction <= self._world.policy.spec.slo.error_budget:
                return Optimum(outcome, min(bound_j, outcome.energy_j), price_j)
        return Optimum(outcome, outcome.energy_j, price_j)

    def _dual(self, prices: _Floats) -> tuple[float, int, _Floats]:
        tables = np.stack([self._table(price_j) for price_j in prices.tolist()])
        totals = cheapest(tables, self._slots, self._devices())
        values = totals - prices * self._late_allowed
        best = int(values.argmax())
        return float(values[best]), best, prices

    def _path(self, price_j: float) -> _Ints:
        """[slots] replicas."""
        runs = cheapest_choices(self._table(price_j), self._slots, self._devices())
        return np.repeat(self._replicas[runs], self._slots.lengths.astype(np.int64))

    def _table(self, price_j: float) -> _Floats:
        """[levels, replicas] joules of a slot and the price of its late requests, at the best lever."""
        table = np.stack(
            [
                self._slot_costs(n, self._level_counts, price_j, self._limit_w(n))
                for n in self._replicas.tolist()
            ],
            axis=1,
        )
        beyond = table.min(axis=1) >= UNREACHABLE  # no number is within the budget: then none is refused
        if beyond.any():
            for column, n in enumerate(self._replicas.tolist()):
                table[beyond, column] = self._slot_costs(n, self._level_counts[beyond], price_j, math.inf)
        return table

    def _devices(self) -> Devices:
        start_up, parked_w = self._world.profile.start_up, self._world.parked_watts
        return Devices(
            first=self._initial - int(self._replicas[0]),
            again=max(0.0, start_up.joules - parked_w * start_up.seconds),
            new=start_up.joules,
            parked=parked_w * self._slot_s,
        )

    def _slot_costs(self, n: int, counts: _Floats, price_j: float, most_w: float) -> _Floats:
        costs = self._of(n)
        values, _ = costs.cheapest(price_j, most_w)
        each = np.interp(counts / (n * self._slot_s), costs.rates_rps, values)
        return np.asarray(each * n * self._slot_s)

    def _limit_w(self, n: int) -> float:
        """Of each of n replicas, so that the fleet is within the power budget."""
        budget_w = self._world.policy.spec.power.budget_w
        return math.inf if budget_w is None else budget_w / n

    def _of(self, n: int) -> ReplicaCosts:
        group = max(one for one in _GROUPS if one <= n) if self._world.arrival_cv != 1 else 1
        if group not in self._costs:
            self._costs[group] = replica_costs(self._world, group, self._slot_s)
        return self._costs[group]

    def _range(self) -> _Ints:
        """Numbers of replicas that are worth a thought: up to the best for the fullest slot if nothing may be
        late. More would idle there, and all the more elsewhere.
        """
        bounds = self._world.policy.spec.replicas
        most = bounds.min
        if len(self._counts):
            peak = np.array([self._counts.max()])
            costs = [
                self._slot_costs(n, peak, self._highest_j, math.inf)[0]
                for n in range(bounds.min, bounds.max + 1)
            ]
            most = bounds.min + int(np.argmin(costs))
        return np.arange(bounds.min, most + 1)

    def _play(self, path: _Ints, price_j: float) -> Outcome:
        """Counts what the schedule does, as a simulation would."""
        world, spec = self._world, self._world.policy.spec
        slo_rps = best_rate_at_slo(world, spec.slo.error_budget, self._initial)
        yardstick = Yardstick(slo_rps, spec.replicas.min)
        ledger = Ledger(yardstick, len(self._gaps), self._slot_s)
        starting, coming, startup_j = self._starting(path)
        devices = np.maximum.accumulate(np.maximum(self._initial, path + coming))
        parked_j = world.parked_watts * np.maximum(0.0, devices - path - starting) * self._slot_s
        known: dict[tuple[int, int], Served] = {}
        rest = zip(path.tolist(), self._level_of.tolist(), startup_j.tolist(), parked_j.tolist(), strict=True)
        for is_gap in self._gaps.tolist():
            if is_gap:
                ledger.gap(Served())
                continue
            n, level, start_j, park_j = next(rest)
            if (n, level) not in known:
                known[n, level] = self._serve(n, float(self._level_counts[level]), price_j)
            ledger.step(_with(known[n, level], start_j, park_j), n)
        return ledger.outcome("optimum", _reversals(path, self._initial))

    def _serve(self, n: int, requests: float, price_j: float) -> Served:
        costs = self._of(n)
        limit_w = self._limit_w(n)
        rate_rps = requests / (n * self._slot_s)
        values, levers = costs.cheapest(price_j, limit_w)
        if values.min() >= UNREACHABLE:
            values, levers = costs.cheapest(price_j, math.inf)
        at = int(np.searchsorted(costs.rates_rps, rate_rps))
        nearest = at if at < len(levers) else len(levers) - 1
        point = costs.points[levers[nearest]]
        done = served(self._world, point, n, requests, self._slot_s)
        done.busy_j += left_j(self._world, point, done, requests)
        return done

    def _starting(self, path: _Ints) -> tuple[_Floats, _Floats, _Floats]:
        """[slots] replicas that start, in the mean of the slot; how many that is at most; and their joules:
        over the slots before they are ready.
        """
        start_up = self._world.profile.start_up
        slots = max(1, math.ceil(start_up.seconds / self._slot_s))
        starting, coming, startup_j = np.zeros((3, len(path)))
        more = np.maximum(0, np.diff(path, prepend=self._initial))
        for at in np.flatnonzero(more).tolist():
            since = slice(max(0, at - slots), max(at, 1))
            share = more[at] / (since.stop - since.start)
            startup_j[since] += share * start_up.joules
            if at > 0:
                starting[since] += share * start_up.seconds / self._slot_s
                coming[since] += more[at]
        return starting, coming, startup_j


def _levels(counts: _Floats, most: int) -> tuple[_Floats, _Ints]:
    """The different numbers of requests, and which each slot has; rounded where there are too many."""
    values, level_of = np.unique(counts, return_inverse=True)
    if len(values) <= most:
        return values, level_of.astype(np.int64)
    edges = np.geomspace(max(1.0, values[0]), values[-1] + 1, most)
    group_of = np.searchsorted(edges, counts, side="right")
    _, level_of = np.unique(group_of, return_inverse=True)
    means = np.bincount(level_of, weights=counts) / np.bincount(level_of)
    return means, level_of.astype(np.int64)


def _with(done: Served, startup_j: float, parked_j: float) -> Served:
    slot = Served(startup_j=startup_j, parked_j=parked_j)
    slot.add(done)
    slot.latencies = done.latencies
    return slot


def _reversals(path: _Ints, initial: int) -> int:
    turns = np.sign(np.diff(path, prepend=initial))
    turns = turns[turns != 0]
    return int(np.count_nonzero(turns[1:] != turns[:-1]))
