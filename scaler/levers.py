"""Every operating point that a policy allows on a profile: what one replica can carry at it, at how many
watts.

Pure. Owns the list of levers (max batch × max delay × variant × clock), each with the most texts a second
that hold the SLO, and the tables by rate that `plan` reads many times a tick. Latency comes from `latency`,
watts from `lever`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from minwatt.v1.reflex import ReflexRule
from scaler.engine import Engine
from scaler.latency import BatchServer, Floats, tail_s
from scaler.lever import DUE_SHARE, Lever, RaiseTimes
from scaler.operating_point import OperatingPoint
from scaler.profile import ClockStep, Profile

_GRID = 80  # rates a table knows; closer together where few texts come
_CAP_STEPS = (
    60  # of a lever's capacity, closer together near it, in the search for the most that holds the SLO
)
_DELAY_SHARES = (0.0, 0.25, 0.5, 1.0)  # of the longest delay allowed
_MOST_ASKED = 16  # keys whose tables are found without rounding them
# Backlogs above which a slow clock may be raised, of the SLO: early where bursts come, late where they do not
# and the batches are short enough; and the reflex' own.
_EARLY_SHARE = 0.2
_LATE_SHARES = (0.7, 0.6, 0.5)
_BUCKET = 0.02  # corrections and text lengths this close share a table


@dataclass(frozen=True, slots=True)
class PlanRules:
    """Margins of the plan, each with its reason."""

    slo_share: float = 0.9  # of the SLO that a predicted tail may take: the fit's own residual is near 10%
    # Load over capacity of the fullest replica. Above it small errors of the rate are large ones of the tail.
    max_load: float = 0.97
    # The fullest replica's arrivals over the mean: 1 where each request is routed by itself. Replicas that
    # connections stay with are never loaded evenly.
    imbalance: float = 1.0
    # Points this close to the fewest watts are as good: the present one stays.
    keep_within: float = 0.02
    reflex: ReflexRule = field(default_factory=ReflexRule)
    reflex_delay_s: float = 0.05  # assumed: from asking for a clock to having it


@dataclass(frozen=True, slots=True)
class Limits:
    """What the policy allows. `miss`: the fraction of texts that may be slower than the SLO while the load is
    as forecast.
    """

    min_replicas: int
    max_replicas: int
    slo_latency_s: float
    percentile: float
    miss: float
    budget_w: float | None
    max_batch_texts: int
    max_delay_s: float
    clocks: bool = False
    variants: tuple[str, ...] = ()  # empty: any
    min_accuracy: float | None = None
    when_over_budget: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class LeverTable:
    """The levers, those that carry most first, for texts of one length.

    `best_w[k]` are the fewest watts a replica draws at each rate of `grid_tps` with one of the first k
    levers, and `best[k]` which one that is; row 0 is infinite.
    """

    levers: tuple[Lever, ...]
    cap_tps: Floats  # [levers] most texts a second of one replica that hold the SLO; falling
    grid_tps: Floats  # [rates] rising
    watts: Floats  # [levers, rates]
    best_w: Floats  # [levers + 1, rates]
    best: NDArray[np.intp]  # [levers + 1, rates]

    def enough(self, fullest_tps: Floats | float) -> NDArray[np.intp]:
        """How many of the levers, from the first, hold the SLO at each rate."""
        return self._spent_tps.searchsorted(np.negative(fullest_tps), side="right")

    def index_of(self, point: OperatingPoint) -> int | None:
        """Of the lever that is that point."""
        return self._index_by_setting.get(_setting(point))

    @cached_property
    def _spent_tps(self) -> Floats:
        return -self.cap_tps  # rising

    @cached_property
    def _index_by_setting(self) -> dict[tuple[int, float, str, int, float], int]:
        places = range(len(self.levers) - 1, -1, -1)  # of equals the first
        return {_setting(self.levers[k].point): k for k in places}

    @cached_property
    def top_capacity_tps(self) -> float:
        return max(lever.capacity_tps for lever in self.levers)

    @cached_property
    def strongest(self) -> int:
        """Which carries most at the full clock, with the least delay."""
        full = [k for k, one in enumerate(self.levers) if one.engine == one.raised]
        strength = [(one.capacity_tps, -one.point.max_delay_s) for one in self.levers]
        return max(full or range(len(strength)), key=lambda k: strength[k])


def _setting(point: OperatingPoint) -> tuple[int, float, str, int, float]:
    return (
        point.max_batch_texts,
        point.max_delay_s,
        point.variant,
        point.sm_clock_mhz,
        point.reflex_backlog_s,
    )


@dataclass(frozen=True, slots=True)
class TableKey:
    """What a table depends on besides the profile and the limits; rounded, so that noise shares tables."""

    text_tokens: float
    service: float  # measured over predicted compute
    latency: float  # measured over predicted tail

    def rounded(self) -> TableKey:
        def near(value: float) -> float:
            return math.exp(round(math.log(value) / _BUCKET) * _BUCKET)

        return TableKey(near(self.text_tokens), near(self.service), near(self.latency))


@dataclass(slots=True)
class LeverTables:
    """Makes each table once. A memo: the same question has the same answer. `dataclasses.replace` keeps
    it, so replace only what no table depends on (a budget).
    """

    profile: Profile
    limits: Limits
    rules: PlanRules
    clock_set: str = ""
    _made: dict[TableKey, LeverTable] = field(default_factory=dict, repr=False, compare=False)
    # The last keys as they were asked for: a tick asks many times for the same.
    _asked: dict[TableKey, LeverTable] = field(default_factory=dict, repr=False, compare=False)

    def at(self, key: TableKey) -> LeverTable:
        if key not in self._asked:
            near = key.rounded()
            if near not in self._made:
                self._made[near] = make_table(self, near)
            if len(self._asked) >= _MOST_ASKED:
                self._asked.clear()
            self._asked[key] = self._made[near]
        return self._asked[key]


def make_table(source: LeverTables, key: TableKey) -> LeverTable:
    """A table anew. The steady state of each lever at each rate: some milliseconds of work."""
    limits, rules = source.limits, source.rules
    levers = list(_levers(source, key))
    caps = [most_within_slo(lever, limits, rules, key.latency) for lever in levers]
    order = sorted(range(len(levers)), key=lambda i: -caps[i])
    levers, caps = [levers[i] for i in order], [caps[i] for i in order]
    top_tps = max(lever.capacity_tps for lever in levers)
    grid = top_tps * np.linspace(0.0, 1.0, _GRID) ** 2
    watts = np.array([lever.watts(grid, limits.slo_latency_s) for lever in levers])
    best_w = np.full((len(levers) + 1, _GRID), np.inf)
    best = np.zeros((len(levers) + 1, _GRID), dtype=np.intp)
    for k in range(len(levers)):
        better = watts[k] < best_w[k]
        best_w[k + 1] = np.where(better, watts[k], best_w[k])
        best[k + 1] = np.where(better, k, best[k])
    return LeverTable(tuple(levers), np.array(caps), grid, watts, best_w, best)


def most_within_slo(lever: Lever, limits: Limits, rules: PlanRules, slower: float = 1.0) -> float:
    """Texts a second that one replica carries with its tail within the SLO; 0 where even one text is too
    slow.

    `slower`: measured over predicted tail.
    """
    within_s = rules.slo_share * limits.slo_latency_s / slower
    own = _first_slow(lever.server(limits.slo_latency_s), within_s, limits.miss, rules.max_load)
    if lever.engine == lever.raised:
        return own
    # What raised the clock is there when it has moved.
    full, raised = lever.engine.capacity_tps(lever.fits), BatchServer(lever.raised, lever.fits, 0.0)
    there_s = lever.times.short_s * full / lever.capacity_tps
    fast = _first_slow(raised, within_s - there_s, limits.miss, rules.max_load)
    # Until the clock has moved, the backlog grows by what comes beyond the set clock's capacity.
    due_s = min(within_s, DUE_SHARE * limits.slo_latency_s)
    spare_s = min(due_s - lever.until_raised_s(0.0), lever.until_refused_s(due_s))
    if spare_s <= 0:
        return own
    steepest = lever.engine.capacity_tps(lever.fits) * (1 + spare_s / rules.reflex_delay_s)
    return max(own, min(fast, steepest))


@lru_cache(maxsize=1024)  # one engine at its full clock stands behind the levers of all slower ones
def _first_slow(server: BatchServer, within_s: float, miss: float, max_load: float) -> float:
    """The highest rate up to which every rate has its tail within `within_s`."""
    rates = max_load * server.capacity_tps * (1 - (1 - np.arange(1, _CAP_STEPS + 1) / _CAP_STEPS) ** 2)
    return _up_to(rates, tail_s(server, rates, miss) <= within_s)


def _up_to(rates: Floats, fine: NDArray[np.bool_]) -> float:
    """The last of the rates that are all fine; 0 if the first is not."""
    count = len(rates) if fine.all() else int(np.argmin(fine))
    return float(rates[count - 1]) if count else 0.0


def _levers(source: LeverTables, key: TableKey) -> Iterator[Lever]:
    profile, limits = source.profile, source.limits
    steps: Sequence[ClockStep] = profile.clock_steps(source.clock_set) if limits.clocks else ()
    clocks: list[ClockStep | None] = list(steps) or [None]
    full = clocks[0]
    for variant in allowed_variants(profile, limits):
        raised = _slower(profile.engine(key.text_tokens, variant, full), key.service)
        for clock in clocks:
            engine = _slower(profile.engine(key.text_tokens, variant, clock), key.service)
            for size, delay_s in _batchings(limits):
                point = OperatingPoint(
                    version=0,
                    max_batch_texts=size,
                    max_batch_tokens=profile.replica.max_batch_tokens,
                    max_delay_s=delay_s,
                    slo_latency_s=limits.slo_latency_s,
                    variant=told_name(profile, variant),
                    sm_clock_mhz=clock.sm_clock_mhz if clock else 0,
                    reflex_sm_clock_mhz=full.sm_clock_mhz if full else 0,
                )
                fits = max(1, min(size, int(point.max_batch_tokens / key.text_tokens)))
                usual_s = source.rules.reflex.short_share * limits.slo_latency_s
                reflex = source.rules.reflex
                times = RaiseTimes(usual_s, reflex.hold_s, reflex.longest_hold_s, source.rules.reflex_delay_s)
                lever = Lever(point, engine, raised, fits, times)
                yield lever
                for backlog_s in _other_backlogs_s(lever) if engine != raised and not delay_s else ():
                    moved = replace(point, reflex_backlog_s=backlog_s)
                    yield replace(lever, point=moved, times=replace(times, short_s=backlog_s))


def _other_backlogs_s(lever: Lever) -> Iterator[float]:
    """Above which the clock may be raised, beside the usual one: early, and the latest that is in time."""
    slo_s, usual_s = lever.point.slo_latency_s, lever.times.short_s
    yield _EARLY_SHARE * slo_s
    spare_s = DUE_SHARE * slo_s - lever.engine.service_s(lever.fits)
    late_s = [share * slo_s for share in _LATE_SHARES if usual_s < share * slo_s <= spare_s]
    yield from late_s[:1]


def allowed_variants(profile: Profile, limits: Limits) -> tuple[str, ...]:
    """Those that the policy allows, the one to begin with first. A policy that allows none is refused by
    `feasible`.
    """
    allowed = profile.allowed_variants(limits.variants, limits.min_accuracy) or profile.variants[:1]
    return tuple(one.name for one in allowed)


def told_name(profile: Profile, variant: str) -> str:
    """As operating points name it: where there is no other, replicas keep what they were started with."""
    return variant if len(profile.variants) > 1 else ""


def _batchings(limits: Limits) -> Iterator[tuple[int, float]]:
    """With a batch of one text there is nothing to wait for."""
    sizes = [2**k for k in range(limits.max_batch_texts.bit_length()) if 2**k < limits.max_batch_texts]
    for size in [*sizes, limits.max_batch_texts]:
        for share in _DELAY_SHARES if size > 1 and limits.max_delay_s > 0 else (0.0,):
            yield size, share * limits.max_delay_s


def _slower(engine: Engine, factor: float) -> Engine:
    return replace(engine, alpha_s=engine.alpha_s * factor, beta_s_per_text=engine.beta_s_per_text * factor)
