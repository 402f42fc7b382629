"""What one replica costs in a slot at each rate, at the best of the levers.

Owns which levers are tried at which rate, and their joules and late requests, taken from `binned`, which the
contenders are simulated with: the optimum is of that model. The levers are the planner's (`scaler.levers`:
max batch × max delay × variant × clock, with the reflex), thinned out, as each takes seconds of steady states
to run; and slow clocks without the reflex, which no planner risks that does not know what comes. Called by
`optimum`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from scaler.levers import LeverTable, TableKey
from scaler.operating_point import OperatingPoint
from scaler.settings import Settings
from scaler.simulate.binned import BinnedServing
from scaler.simulate.rules import rules_of
from scaler.simulate.served import Served
from scaler.simulate.steady import SteadyTable, arrival_c2, steady_table
from scaler.simulate.world import World

# A clock whose best lever draws that much more than the best of all by the planner's formulas is not tried:
# they are up to 20% wrong where the reflex sets in.
_CLOCKS_WITHIN = 1.25
# Of requests: at rates above the one that makes so many late, one lever, the anchor, stands for all.
_LATE = 0.02
_BATCHES_IN_SLO = 2.5  # the one in the engine, one's own, and half of one that still waits
# Of the capacity: above it the reflex sets in and late requests begin, and each rate of the steady tables is
# taken; below, each second.
_DENSE_FROM = 0.5
_REFLEX_FROM = 0.4  # of the set clock's capacity: below it the reflex rests
_REFLEX_TO = 1.05  # above it it hardly rests, and a faster clock is the better choice
_ROUNDED = 1.02  # the planner's tables know the length of texts to 2%
_BETWEEN = 4  # rates between two of them
_OVER_CAPACITY = (1.0001, 1.01, 1.02, 1.03, 1.05, 1.07, 1.1, 1.2, 1.5, 2.0, 3.0, 5.0, 10.0, 100.0, 1e4, 1e6)
UNREACHABLE = 1e15  # joules of what must not be: not infinite, or differences would be nothing
_Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class ReplicaCosts:
    """Of one of `replicas` in a slot of `slot_s`. `watts` is UNREACHABLE where a lever was not tried."""

    points: tuple[OperatingPoint, ...]  # [levers]
    rates_rps: _Floats  # [rates] rising from 0
    watts: _Floats  # [levers, rates]
    late: _Floats  # [levers, rates] share of requests over the SLO or refused

    def cheapest(self, price_j: float, most_w: float) -> tuple[_Floats, NDArray[np.intp]]:
        """[rates] the least of watts + price_j · late requests/s, and at which lever.

        Levers that draw more than `most_w` are left out; UNREACHABLE where all do.
        """
        costs = self.watts + price_j * self.rates_rps * self.late
        costs = np.where(self.watts <= most_w, costs, UNREACHABLE)
        best = costs.argmin(axis=0)
        return np.asarray(costs[best, np.arange(len(best))]), best


def replica_costs(world: World, replicas: int, slot_s: float) -> ReplicaCosts:
    """`replicas` matter only where arrivals are not Poisson: a share of a bursty stream is less bursty."""
    settings = Settings(world.policy, world.profile, clock_set=world.clock_set)
    table = settings.tables.at(TableKey(world.profile.text_tokens, 1.0, 1.0))
    options = _options(table, world.slo_latency_s)
    anchor = max(options, key=lambda option: option.to_tps)
    rules = rules_of(world, anchor.point)
    nodes = _nodes(steady_table(rules, arrival_c2(world.arrival_cv, replicas)))
    tried = [_tried(options, table.grid_tps, rate_rps) for rate_rps in nodes]
    rates_rps, sets = [0.0], [tried[0]]
    for (low, high), (left, right) in zip(pairwise([0.0, *nodes]), pairwise([tried[0], *tried]), strict=True):
        for part in range(1, _BETWEEN + 1):
            rates_rps.append(low + (high - low) * part / _BETWEEN)
            sets.append(left | right)
    rates_rps += [share * rules.capacity_rps for share in _OVER_CAPACITY]
    sets += [set()] * len(_OVER_CAPACITY)
    watts = np.full((len(options), len(rates_rps)), UNREACHABLE)
    late = np.zeros(watts.shape)
    for row, option in enumerate(options):
        for column, rate_rps in enumerate(rates_rps):
            in_time = row in sets[column] and late[row, :column].max(initial=0.0) <= _LATE
            if in_time or option is anchor:
                watts[row, column], late[row, column] = _cost(world, option.point, replicas, rate_rps, slot_s)
        # A share that falls as the rate grows is chance, or the seam between steady state and overload.
        late[row] = np.maximum.accumulate(late[row])
    return ReplicaCosts(tuple(option.point for option in options), np.array(rates_rps), watts, late)


def served(world: World, point: OperatingPoint, replicas: int, requests: float, slot_s: float) -> Served:
    """What `replicas` do in a slot that begins without a backlog."""
    serving = BinnedServing(world, point)
    serving.join(replicas, 0.0)
    return serving.serve(0.0, slot_s, requests)


def left_j(world: World, point: OperatingPoint, done: Served, requests: float) -> float:
    """Joules above idle to work off what a slot of more than the capacity leaves. Its time is free: where the
    next slots have no room for it, the optimum lies lower than any schedule does.
    """
    rules = rules_of(world, point)
    if requests <= rules.capacity_rps * done.ready_s:
        return 0.0
    engine, size = rules.fastest, rules.batch_texts
    each_j = (engine.batch_j(size) - engine.idle_w * engine.service_s(size)) / size
    return each_j * done.waiting


def _cost(
    world: World, point: OperatingPoint, replicas: int, rate_rps: float, slot_s: float
) -> tuple[float, float]:
    """Watts of one replica, and the share of its requests that are late or refused."""
    requests = rate_rps * replicas * slot_s
    done = served(world, point, replicas, requests, slot_s)
    joules = max(0.0, done.idle_j) + done.busy_j + left_j(world, point, done, requests)
    late = (done.over + done.refused) / requests if requests > 0 else 0.0
    return joules / (replicas * slot_s), late


def _nodes(table: SteadyTable) -> list[float]:
    """Rates that steady states are run at."""
    dense_rps = _DENSE_FROM * table.rules.capacity_rps
    return [rate_rps for i, rate_rps in enumerate(table.rates_rps) if i % 2 == 0 or rate_rps >= dense_rps]


@dataclass(frozen=True, slots=True, eq=False)
class _Option:
    point: OperatingPoint
    from_tps: float  # below it another option does the same
    to_tps: float  # its capacity, or where it is never the best any more
    formula_w: _Floats  # at the rates of the planner's tables


def _options(levers: LeverTable, slo_latency_s: float) -> list[_Option]:
    """Of each variant and clock: no batches; the largest, at once and after the longest delay; and the
    largest of which some fit into the SLO. Their best is within about 1% of the best of all levers (tests/sim
    compares them).
    """
    fitting: dict[str, int] = {}
    for lever in levers.levers:
        if _BATCHES_IN_SLO * lever.raised.service_s(lever.fits) <= slo_latency_s:
            fitting[lever.point.variant] = max(lever.fits, fitting.get(lever.point.variant, 1))
    largest = max(lever.point.max_batch_texts for lever in levers.levers)
    longest_s = max(lever.point.max_delay_s for lever in levers.levers)
    options = []
    for lever, formula_w in zip(levers.levers, levers.watts, strict=True):
        large = {(largest, 0.0), (fitting.get(lever.point.variant, 1), 0.0)}
        batching = (lever.point.max_batch_texts, lever.point.max_delay_s)
        own_tps = lever.engine.capacity_tps(lever.fits)
        if batching in large | {(1, 0.0), (largest, longest_s)}:
            to_tps = min(lever.capacity_tps, _REFLEX_TO * own_tps)
            options.append(_Option(lever.point, 0.0, to_tps, formula_w))
        slow = lever.engine != lever.raised and not lever.point.reflex_backlog_s
        if batching in large and slow:
            pinned = replace(lever.point, reflex_sm_clock_mhz=0)
            options.append(_Option(pinned, _REFLEX_FROM * own_tps, own_tps, formula_w))
    return options


def _tried(options: list[_Option], grid_tps: _Floats, rate_rps: float) -> set[int]:
    """Those that can do the rate, of the variants and clocks that may be the best for it."""
    watts = {
        index: float(np.interp(rate_rps, grid_tps, option.formula_w))
        for index, option in enumerate(options)
        if option.from_tps <= rate_rps < _ROUNDED * option.to_tps
    }
    by_clock: dict[tuple[str, int], list[int]] = {}
    for index in watts:
        point = options[index].point
        by_clock.setdefault((point.variant, point.sm_clock_mhz), []).append(index)
    within_w = _CLOCKS_WITHIN * min(watts.values())
    return {
        index
        for indices in by_clock.values()
        if min(watts[i] for i in indices) <= within_w
        for index in indices
    }
