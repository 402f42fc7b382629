"""The fewest watts that hold the SLO: replicas × operating point over one profile.

Pure. Owns what each fleet size costs and carries, and the ladder when the budget can't be met; the values
that it takes and gives are `candidate`'s. Called by `control` once a tick, and by `pools`.

Two rates decide. Watts are counted at the *expected* rate; the SLO must hold at the *upper* one, with the
replicas' reflex: so headroom costs the idle watts of replicas, and no joules where a faster clock will do.
For one fleet size the best lever is a look-up in `levers`; all sizes are costed at once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from scaler.candidate import NOTHING_YET, Candidate, Corrections, Demand, FleetCosts, Present
from scaler.ladder import Load, ReplicaWatts, climb, without_reflex
from scaler.latency import BatchServer, Floats, tail_s
from scaler.lever import Lever
from scaler.levers import (
    LeverTable,
    LeverTables,
    Limits,
    PlanRules,
    TableKey,
    allowed_variants,
    told_name,
)
from scaler.operating_point import OperatingPoint
from scaler.profile import Profile


@dataclass(frozen=True, slots=True)
class Planner:
    """One profile under one policy's limits, with what was learnt."""

    tables: LeverTables
    corrections: Corrections = field(default_factory=Corrections)

    @property
    def profile(self) -> Profile:
        return self.tables.profile

    @property
    def limits(self) -> Limits:
        return self.tables.limits

    @property
    def rules(self) -> PlanRules:
        return self.tables.rules

    def costs(self, demand: Demand, present: Present = NOTHING_YET) -> FleetCosts:
        """Every fleet size at its best lever."""
        limits, table = self.limits, self._table(demand)
        sizes = np.arange(1, limits.max_replicas + 1, dtype=np.float64)
        enough = table.enough(demand.upper_tps / sizes * np.where(sizes > 1, self.rules.imbalance, 1.0))
        watts = self._fleets_w(sizes, _interpolate(table, enough, demand.expected_tps / sizes), present)
        fine = holds = np.isfinite(watts) & (sizes >= limits.min_replicas)
        if limits.budget_w is not None:
            upper_w = self._upper_w(table, demand, present, sizes, enough)
            fine = holds & (upper_w <= limits.budget_w)
        costs = np.concatenate(([np.inf], np.where(fine, watts, np.inf)))
        if fine.any():
            return FleetCosts(costs, self.at(int(np.argmax(fine)) + 1, demand, present))
        if holds.any() or limits.budget_w is not None:
            return FleetCosts(costs, self._within_budget(table, demand, present))
        return FleetCosts(costs, self.at(self._as_many_as_help(table, demand), demand, present))

    def required(self, demand: Demand) -> int:
        """The fewest replicas that hold the SLO at the upper rate, budget aside; the most allowed if none."""
        limits, table = self.limits, self._table(demand)
        least, most = max(1, limits.min_replicas), limits.max_replicas
        cap_tps = float(table.cap_tps[0])
        if demand.upper_tps <= cap_tps and least == 1:
            return 1
        if cap_tps <= 0 or demand.upper_tps > most * cap_tps:
            return most
        return min(most, max(least, math.ceil(demand.upper_tps * self.rules.imbalance / cap_tps - 1e-9)))

    def most_tps(self, replicas: int, text_tokens: float) -> float:
        """The highest rate that so many replicas hold the SLO at."""
        cap_tps = float(self._table(Demand(1.0, 1.0, text_tokens)).cap_tps[0])
        return replicas * cap_tps / (self.rules.imbalance if replicas > 1 else 1.0)

    def at(
        self,
        replicas: int,
        demand: Demand,
        present: Present = NOTHING_YET,
        current: OperatingPoint | None = None,
    ) -> Candidate:
        """The best lever for that many replicas. The current point stays where it is as good."""
        table = self._table(demand)
        lever = self._lever(table, replicas, demand, present, current)
        return self.predict(replicas, lever.point, demand, present)

    def predict(
        self, replicas: int, point: OperatingPoint, demand: Demand, present: Present = NOTHING_YET
    ) -> Candidate:
        """What that many replicas at that point will do; the corrections are in it."""
        table = self._table(demand)
        index = table.index_of(point) or 0  # a point that is no lever is taken as what carries most
        lever, rates = table.levers[index], table.grid_tps
        rated_w, cap_tps = table.watts[index], float(table.cap_tps[index])
        if point.sm_clock_mhz == point.reflex_sm_clock_mhz and lever.engine != lever.raised:
            lever, cap_tps = without_reflex(lever), 0.0  # over the budget: the SLO is given up
            rated_w = lever.watts(rates, self.limits.slo_latency_s)
        fullest_tps = self._fullest_tps(replicas, demand)
        size, budget_w = np.array([float(replicas)]), self.limits.budget_w

        def replica_w(answering: Floats) -> Floats:
            return np.asarray(np.interp(demand.upper_tps / answering, rates, rated_w))

        expected_w = np.interp(demand.expected_tps / size, rates, rated_w)
        return Candidate(
            replicas=replicas,
            point=point,
            load=fullest_tps / lever.capacity_tps,
            watts=float(self._fleets_w(size, expected_w, present)[0]),
            holds_slo=bool(fullest_tps <= cap_tps),
            within_budget=budget_w is None or bool(self._most_w(size, replica_w, present)[0] <= budget_w),
        )

    def tail_s(self, replicas: int, point: OperatingPoint, demand: Demand, percentile: float) -> float:
        """Latency of the fullest replica at that percentile and the upper rate; infinite when overloaded.

        With the reflex none takes longer than until the clock has moved, or than at the full clock.
        """
        table, slo_s = self._table(demand), self.limits.slo_latency_s
        lever = table.levers[table.index_of(point) or 0]
        rates, miss = np.array([self._fullest_tps(replicas, demand)]), 1 - percentile / 100
        tail = float(tail_s(lever.server(slo_s), rates, miss)[0])
        if lever.engine != lever.raised and point.sm_clock_mhz != point.reflex_sm_clock_mhz:
            until_raised_s = lever.until_raised_s(float(rates[0]))
            if tail > until_raised_s:
                raised_s = float(tail_s(BatchServer(lever.raised, lever.fits, 0.0), rates, miss)[0])
                tail = min(tail, max(raised_s, until_raised_s))
        return tail * self.corrections.latency

    def _fullest_tps(self, replicas: int, demand: Demand) -> float:
        return demand.upper_tps / replicas * (self.rules.imbalance if replicas > 1 else 1.0)

    def _table(self, demand: Demand) -> LeverTable:
        learnt = self.corrections
        return self.tables.at(TableKey(demand.text_tokens, learnt.service, learnt.latency))

    def _fleets_w(
        self, sizes: Floats, replica_w: Floats, present: Present, answering: Floats | None = None
    ) -> Floats:
        """By size, and the watts of one that answers: all do, but for where fewer are given."""
        parked_w = np.maximum(0.0, present.devices - sizes) * self.profile.variants[0].power.parked_w
        answering = sizes if answering is None else answering
        return np.asarray((answering * replica_w + parked_w) * self.corrections.watts)

    def _most_w(self, sizes: Floats, replica_w: ReplicaWatts, present: Present) -> Floats:
        """The most watts until all answer: while some start, the others carry their load, too."""
        watts = self._fleets_w(sizes, replica_w(sizes), present)
        if not present.ready or present.ready >= sizes[-1]:
            return watts
        start_up = self.profile.start_up
        answering = np.minimum(sizes, present.ready)
        starting_w = start_up.joules / start_up.seconds * (sizes - answering)
        return np.maximum(watts, self._fleets_w(sizes, replica_w(answering), present, answering) + starting_w)

    def _upper_w(
        self,
        table: LeverTable,
        demand: Demand,
        present: Present,
        sizes: Floats,
        enough: NDArray[np.intp],
    ) -> Floats:
        """By size, from 1 on: the most watts at the upper rate."""
        shares_tps = demand.upper_tps / sizes
        watts = _interpolate(table, enough, shares_tps)
        if not enough.all():
            overloaded_w = np.interp(shares_tps, table.grid_tps, table.watts[table.strongest])
            watts = np.where(enough > 0, watts, overloaded_w)
        return self._most_w(sizes, lambda answering: watts[answering.astype(np.intp) - 1], present)

    def _lever(
        self,
        table: LeverTable,
        replicas: int,
        demand: Demand,
        present: Present,
        current: OperatingPoint | None,
    ) -> Lever:
        """Of those that hold the SLO: the fewest watts at the expected rate, or at the upper one where those
        would be over the budget there.
        """
        fullest_tps = self._fullest_tps(replicas, demand)
        enough = int(table.enough(fullest_tps))
        if enough == 0:
            return self._least_harm(table, fullest_tps)
        rates = np.array([demand.expected_tps, demand.upper_tps]) / replicas
        cell, upper = np.minimum(len(table.grid_tps) - 1, np.searchsorted(table.grid_tps, rates)).tolist()
        best = int(table.best[enough, cell])
        if not self._affords(table, best, replicas, demand, present):
            best = int(table.best[enough, upper])
        kept = None if current is None else table.index_of(current)
        limit_w = table.watts[best, cell] * (1 + self.rules.keep_within)
        if kept is None or kept >= enough or table.watts[kept, cell] > limit_w:
            return table.levers[best]
        return table.levers[kept if self._affords(table, kept, replicas, demand, present) else best]

    def _affords(
        self, table: LeverTable, index: int, replicas: int, demand: Demand, present: Present
    ) -> bool:
        """Whether the budget allows that many replicas at a lever, at the upper rate."""
        if self.limits.budget_w is None:
            return True
        replica_w = np.interp(demand.upper_tps / replicas, table.grid_tps, table.watts[index])
        fleet_w = self._fleets_w(np.array([float(replicas)]), np.array([replica_w]), present)
        return bool(fleet_w[0] <= self.limits.budget_w)

    def _least_harm(self, table: LeverTable, fullest_tps: float) -> Lever:
        """Out of the SLO's reach: the full clock, and of the batches that carry the load the fastest."""
        fastest = [lever for lever in table.levers if lever.engine == lever.raised] or list(table.levers)
        carrying = [one for one in fastest if fullest_tps <= self.rules.max_load * one.capacity_tps]
        if not carrying:
            return table.levers[table.strongest]
        slo_s, miss, rates = self.limits.slo_latency_s, self.limits.miss, np.array([fullest_tps])
        return min(carrying, key=lambda one: float(tail_s(one.server(slo_s), rates, miss)[0]))

    def _as_many_as_help(self, table: LeverTable, demand: Demand) -> int:
        """All of them, so that as few texts as can be miss the SLO. Where even a lone text misses it, more
        than carry the load at the planned share of capacity would not make it much faster.
        """
        if table.cap_tps[0] > 0:
            return self.limits.max_replicas
        uneven = self.rules.imbalance if demand.upper_tps > table.top_capacity_tps else 1.0
        needed = math.ceil(demand.upper_tps * uneven / (self.rules.max_load * table.top_capacity_tps))
        return min(self.limits.max_replicas, max(self.limits.min_replicas, 1, needed))

    def _within_budget(self, table: LeverTable, demand: Demand, present: Present) -> Candidate:
        """No size holds the SLO within the budget: what the ladder leaves."""
        limits, rules = self.limits, self.rules
        default = told_name(self.profile, allowed_variants(self.profile, limits)[0])

        def fleet_w(sizes: Floats, replica_w: ReplicaWatts) -> Floats:
            return self._most_w(sizes, replica_w, present)

        load = Load(demand.upper_tps, rules.max_load)
        choice = climb(table.levers, default, limits, load, fleet_w)
        return replace(
            self.predict(choice.replicas, choice.lever.point, demand, present),
            watts=choice.watts,
            holds_slo=False,
            within_budget=choice.within_budget,
            rungs=choice.rungs,
        )


def _interpolate(table: LeverTable, enough: np.ndarray, rates_tps: Floats) -> Floats:
    """The fewest watts of a replica at each rate with one of the first `enough` levers."""
    grid = table.grid_tps
    high = np.minimum(np.maximum(grid.searchsorted(rates_tps), 1), len(grid) - 1)
    low = high - 1
    share = np.minimum(np.maximum((rates_tps - grid[low]) / (grid[high] - grid[low]), 0.0), 1.0)
    with np.errstate(invalid="ignore"):
        result: Floats = table.best_w[enough, low] * (1 - share) + table.best_w[enough, high] * share
    return np.where(enough > 0, result, np.inf)
