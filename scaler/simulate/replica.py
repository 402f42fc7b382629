"""One replica, exactly: a step of the loop for every batch that it computes.

Pure. Owns the server's batching rule for texts of one length, the reflex, the delay of a clock's change, the
bounded queue, and the replica's busy seconds and joules. `steady` runs it for long at one rate; `exact`
runs one for every replica of a fleet and changes its rules between calls.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import cycle

import numpy as np
from numpy.typing import NDArray

from minwatt.v1.reflex import Reflex
from scaler.engine import Engine
from scaler.simulate.rules import FULL_LOAD, OFFERED_OVER_S, SPARE_LOAD, Rules

_NOISE_FACTORS = 1 << 15
_Floats = NDArray[np.float64]


@dataclass(slots=True)
class Totals:
    """Since the replica was ready. Of a batch that is being computed, all of it."""

    batches: int = 0
    computed: int = 0  # texts
    busy_s: float = 0.0
    busy_j: float = 0.0
    ridden_s: float = 0.0  # of all texts together, in the engine
    refused: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Answered:
    """Requests whose batch has started; their answer is known, though it may lie ahead."""

    arrived_s: _Floats
    latency_s: _Floats


def noise_factors(noise: float, seed: int) -> Iterator[float]:
    """Lognormal, of mean 1 and standard deviation `noise`; a long row of them, over and over."""
    sigma2 = math.log1p(noise * noise)
    normal = np.random.default_rng([seed, 2]).standard_normal(_NOISE_FACTORS)
    return cycle(np.exp(math.sqrt(sigma2) * normal - sigma2 / 2).tolist())


class Replica:
    """Ready from `now_s` on. Times are the simulation's."""

    def __init__(self, rules: Rules, noise: Iterator[float], now_s: float = 0.0) -> None:
        self.totals = Totals()
        self._rules = rules
        self._noise = noise
        self._reflex = Reflex(rules.reflex)
        self._engine = self._asked = rules.engine
        self._turns_s = -math.inf  # when the engine becomes the one that was asked for
        self._heard_s = now_s  # all arrivals before are known
        self._free_s = now_s
        self._waiting: list[float] = []  # arrival times; those before `_head` have left
        self._head = 0
        self._left_s = now_s  # when the last batch started
        self._riding = 0  # its texts
        self._offered_s = 0.0  # work that was asked for until then; it fades
        self._sizes: list[int] = []  # of the batches since the last `answered`
        self._ends_s: list[float] = []

    @property
    def waiting(self) -> int:
        return len(self._waiting) - self._head

    @property
    def free_s(self) -> float:
        """When the engine has done what was started."""
        return self._free_s

    def retune(self, rules: Rules, now_s: float) -> None:
        """The rules from `now_s` on: up to which it was advanced. Another clock comes with its delay."""
        self._rules = rules
        self._turn(now_s)

    def advance(self, arrivals_s: list[float], until_s: float) -> None:
        """Takes the sorted arrivals before `until_s` and starts every batch that leaves before it.

        What the reflex hears is written out where it mostly says nothing, and what does not change from batch
        to batch is looked up by its size: this loop is what a simulation's time goes to.
        """
        waiting, rules, reflex, totals = self._waiting, self._rules, self._reflex, self.totals
        waiting += arrivals_s
        known, most, full, overload = len(waiting), rules.batch_texts, rules.full_texts, rules.overload_texts
        short_s, text_s, delay_s = rules.short_s, rules.backlog_s_per_text, rules.delay_s
        gather, loose_s = min(full, rules.raising_texts) - 1, rules.loose_s
        head, heard_s, free_s, left_s = self._head, self._heard_s, self._free_s, self._left_s
        engine = self._engine
        service_by_size, joules_by_size, work_by_size = _by_size(engine, most)
        noise, exp, sized, ended = self._noise, math.exp, self._sizes.append, self._ends_s.append
        while head < known:
            now_s = oldest_s = waiting[head]
            if free_s > now_s:
                now_s = free_s
            if heard_s > now_s:
                now_s = heard_s
            if now_s >= until_s:
                break
            if head + 1 < known and waiting[head + 1] <= now_s:
                here = bisect_right(waiting, now_s, head) - head
            else:
                here = 1
            if here > overload:
                bound = self._bound(now_s)
                if here > bound:
                    self._offered_s += (here - bound) / self._engine.capacity_tps(most)
                    totals.refused += here - bound
                    del waiting[head + bound : head + here]
                    known -= here - bound
                    here = bound
            if reflex.raised:
                if free_s < oldest_s and reflex.back_from_s < oldest_s:
                    self._rest(oldest_s)
                if here * text_s > short_s or now_s >= reflex.back_from_s:
                    self._hear(now_s, here * text_s)
            elif free_s - left_s + here * text_s > short_s:
                self._hear_arrivals(head, here)
            start_s, ride = now_s, most
            if here < full and not reflex.raised:
                start_s = oldest_s + delay_s
                if head + gather < known and waiting[head + gather] < start_s:
                    start_s = waiting[head + gather]
                if start_s < now_s:
                    start_s = now_s
            if start_s > oldest_s + loose_s:
                start_s, ride = self._by_slack(head, here, now_s, start_s)
            if start_s >= until_s:
                break
            if start_s > now_s:
                here = bisect_right(waiting, start_s, head) - head
                if here * text_s > short_s:
                    self._hear(start_s, here * text_s)
            if start_s >= self._turns_s:
                self._engine = self._asked
            if engine is not self._engine:
                engine = self._engine
                service_by_size, joules_by_size, work_by_size = _by_size(engine, most)
            size = here if here < ride else ride
            expected_s = service_by_size[size]
            factor = next(noise)
            service_s = expected_s * factor
            backlog_s = expected_s + (here - size) * text_s
            if backlog_s > short_s:
                self._hear(start_s, backlog_s)
            self._offered_s = self._offered_s * exp((left_s - start_s) / OFFERED_OVER_S) + work_by_size[size]
            self._left_s = left_s = start_s
            totals.batches += 1
            totals.computed += size
            totals.busy_s += service_s
            totals.ridden_s += size * service_s
            totals.busy_j += factor * joules_by_size[size]
            self._free_s = free_s = start_s + service_s
            self._riding = size
            sized(size)
            ended(free_s)
            head += size
        self._head = head
        if until_s < math.inf:
            self._heard_s = until_s

    def lost(self, now_s: float) -> tuple[int, int]:
        """It crashes: requests that wait, and those in the engine, whose answer is known but never comes."""
        return self.waiting, self._riding if self._free_s > now_s else 0

    def answered(self) -> Answered:
        """Since the last call, in order of arrival."""
        arrived_s = np.array(self._waiting[: self._head], dtype=np.float64)
        ends_s = np.repeat(np.array(self._ends_s, dtype=np.float64), self._sizes)
        del self._waiting[: self._head]
        self._head = 0
        self._sizes.clear()
        self._ends_s.clear()
        return Answered(arrived_s, ends_s - arrived_s)

    def _bound(self, now_s: float) -> int:
        """How many may wait: the fewer, the more is asked for."""
        rules = self._rules
        load = self._offered_s * math.exp((self._left_s - now_s) / OFFERED_OVER_S) / OFFERED_OVER_S
        counts = min(1.0, max(0.0, (load - SPARE_LOAD) / (FULL_LOAD - SPARE_LOAD)))
        return round(rules.queue_texts + counts * (rules.overload_texts - rules.queue_texts))

    def _by_slack(self, head: int, here: int, now_s: float, start_s: float) -> tuple[float, int]:
        """When a batch starts whose oldest text has little slack, not after `start_s`, and how many may ride.

        It leaves when its slack ends, or with those who were there before a text came that makes it too long.
        What is too long already is cut to what is in time; where not even one text is, it is as large as any.
        """
        rules, waiting = self._rules, self._waiting
        engine = self._asked if now_s >= self._turns_s else self._engine
        due_s = waiting[head] + rules.due_s

        def latest_s(texts: int) -> float:
            return due_s - rules.caution * engine.service_s(texts)

        ride = min(here, rules.batch_texts)
        if now_s > latest_s(1):
            return now_s, ride
        if now_s > latest_s(ride):
            span_s = (due_s - now_s) / rules.caution - engine.alpha_s
            return now_s, max(1, min(ride, math.floor(span_s / engine.beta_s_per_text)))
        while ride < rules.batch_texts and head + ride < len(waiting):
            comes_s = waiting[head + ride]
            if comes_s > min(start_s, latest_s(ride)):
                break
            if comes_s > latest_s(ride + 1):
                return max(now_s, comes_s), ride
            ride += 1
        return max(now_s, min(start_s, latest_s(ride))), ride

    def _hear(self, now_s: float, backlog_s: float) -> None:
        before = self._reflex.raised
        if self._reflex.update(now_s, backlog_s, self._rules.slo_latency_s) is not before:
            self._turn(now_s)

    def _hear_arrivals(self, head: int, here: int) -> None:
        """Texts that came while the last batch computed may have raised the reflex then."""
        rules = self._rules
        for nth in range(here):
            comes_s = self._waiting[head + nth]
            computing_s = max(0.0, self._free_s - max(comes_s, self._left_s))
            backlog_s = computing_s + (nth + 1) * rules.backlog_s_per_text
            if backlog_s > rules.short_s:
                self._hear(max(comes_s, self._left_s), backlog_s)
                return

    def _rest(self, until_s: float) -> None:
        """The reflex comes back while nothing waits and nothing is computed."""
        at_s = max(self._free_s, self._reflex.back_from_s)
        if at_s < until_s:
            self._hear(at_s, 0.0)

    def _turn(self, now_s: float) -> None:
        """Asks for the clock that is due now."""
        wanted = self._rules.raised if self._reflex.raised else self._rules.engine
        if wanted != self._asked:
            if now_s >= self._turns_s:
                self._engine = self._asked
            self._asked = wanted
            self._turns_s = now_s + self._rules.clock_delay_s


@lru_cache(maxsize=256)
def _by_size(engine: Engine, most: int) -> tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]:
    """Of batches of 0 to `most` texts: seconds, joules, and the seconds of work if all were full."""
    sizes, full_tps = range(most + 1), engine.capacity_tps(most)
    return (
        tuple(engine.service_s(size) for size in sizes),
        tuple(engine.batch_j(size) for size in sizes),
        tuple(size / full_tps for size in sizes),
    )


def gamma_gaps(count: int, c2: float, rng: np.random.Generator) -> _Floats:
    """Times between arrivals of rate 1 with that squared coefficient of variation; 0 is even."""
    if c2 < 1e-6:
        return np.ones(count)
    if c2 == 1:
        return rng.standard_exponential(count)
    return rng.gamma(1 / c2, c2, size=count)
