"""The ready replicas of a fleet at the level of steps: steady states from tables, and backlogs as a fluid.

Pure but for the tables' cache. In a step each replica gets the same share of the requests. Below its capacity
it is in the steady state of that rate; above, what it can't compute waits as a fluid, at the highest clock
that its reflex may ask for, until the bounded queue is full. Replicas whose backlogs differ, as some were
ready later, are cohorts of their own: a request stays where it came.

`exact` is the same with every request; tests/sim compares the two.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from scaler.operating_point import OperatingPoint
from scaler.simulate.latency_grid import ramp
from scaler.simulate.rules import rules_of
from scaler.simulate.served import Served
from scaler.simulate.steady import SteadyTable, arrival_c2, steady_table
from scaler.simulate.world import World


@dataclass(slots=True)
class _Cohort:
    replicas: int
    backlog: float = 0.0  # texts of each


@dataclass(frozen=True, slots=True)
class _Span:
    """Requests come to each replica at one rate for some seconds; `counted` of each that is expected."""

    replicas: int
    seconds: float
    rate_rps: float
    counted: float

    @property
    def requests(self) -> float:
        return self.replicas * self.seconds * self.rate_rps * self.counted


class BinnedServing:
    """Implements `fleet.Serving`."""

    def __init__(self, world: World, point: OperatingPoint) -> None:
        self._world = world
        self._rules = rules_of(world, point)
        self._cohorts: list[_Cohort] = []
        self._drained = Served()  # by replicas that left with a backlog, since the last step
        self._drains: list[tuple[float, int]] = []  # until when, how many
        self.ready = 0
        self._in_flight = 0.0  # of each replica in the last step, where it had no backlog
        self._table: SteadyTable | None = None  # None: to be looked up again

    def draining(self, now_s: float) -> int:
        if self._drains:
            self._drains = [one for one in self._drains if one[0] > now_s]
        return sum(replicas for _, replicas in self._drains)

    def join(self, replicas: int, now_s: float) -> None:  # noqa: ARG002 - a fluid has no clock of its own
        if replicas:
            self._cohorts.append(_Cohort(replicas))
            self._changed(replicas)

    def drain(self, replicas: int, now_s: float) -> None:
        """The latest that were ready."""
        for left in self._take(replicas):
            seconds = left.backlog / self._rules.overload_rps
            if seconds > 0:
                self._full(self._drained, left.replicas, seconds)
                self._drained.ready_s += left.replicas * seconds
                self._drains.append((now_s + seconds, left.replicas))

    def crash(self, now_s: float) -> Served:  # noqa: ARG002
        (left,) = self._take(1)
        lost = max(left.backlog, self._in_flight)
        return Served(failed=lost, answered=-lost)  # they were counted as they came in

    def retune(self, point: OperatingPoint, now_s: float) -> None:  # noqa: ARG002
        self._rules = rules_of(self._world, point)
        self._table = None

    def serve(self, from_s: float, until_s: float, requests: float, expected: float | None = None) -> Served:
        """At the expected rate, as the tables hold what chance does to it. None: at the rate of what came."""
        expected = requests if expected is None else expected
        served = self._drained
        self._drained = Served()
        seconds = until_s - from_s
        served.arrivals += requests
        if not self.ready:
            served.failed += requests
            return served.rest(self._rules.engine.idle_w)
        served.ready_s += self.ready * seconds
        rate_rps = expected / seconds / self.ready
        counted = requests / expected if expected > 0 else 0.0
        capacity_rps = self._rules.capacity_rps
        backlogs = False
        for cohort in self._cohorts:
            if cohort.backlog <= 0 and rate_rps <= capacity_rps:
                self._steady(served, _Span(cohort.replicas, seconds, rate_rps, counted))
            else:
                self._backlog(served, cohort, _Span(cohort.replicas, seconds, rate_rps, counted))
                backlogs = True
        if not backlogs and len(self._cohorts) > 1:
            self._cohorts = [_Cohort(self.ready)]
        return served.rest(self._rules.engine.idle_w)

    def finish(self, now_s: float) -> Served:  # noqa: ARG002
        """Its latencies were counted as it came in; what is left is the work."""
        served = self._drained
        self._drained = Served()
        for cohort in self._cohorts:
            seconds = cohort.backlog / self._rules.overload_rps
            self._full(served, cohort.replicas, seconds)
            served.ready_s += cohort.replicas * seconds
        self._cohorts = [_Cohort(self.ready)] if self.ready else []
        self._drains.clear()
        return served.rest(self._rules.engine.idle_w)

    def _steady(self, served: Served, span: _Span) -> None:
        table = self._steady_table()
        now = table.at(span.rate_rps)
        time_s = span.replicas * span.seconds
        requests = span.requests
        served.answered += requests
        served.over += requests * now.over
        served.batches += time_s * now.batches_per_s
        served.computed += time_s * span.rate_rps
        served.busy_s += time_s * now.busy_fraction
        served.busy_j += time_s * now.busy_w
        served.in_flight_s += time_s * now.in_flight
        served.waiting += span.replicas * now.waiting
        self._in_flight = now.in_flight
        served.latencies.append((table.cell(now.lower).latencies, requests * (1 - now.share)))
        if now.share > 0:
            served.latencies.append((table.cell(now.upper).latencies, requests * now.share))

    def _steady_table(self) -> SteadyTable:
        if self._table is None:
            self._table = steady_table(self._rules, arrival_c2(self._world.arrival_cv, self.ready))
        return self._table

    def _backlog(self, served: Served, cohort: _Cohort, span: _Span) -> None:
        """A backlog that grows to its bound or shrinks to nothing, in up to two parts."""
        rules, before = self._rules, cohort.backlog
        most_texts = rules.overload_backlog_texts
        growth_rps = span.rate_rps - rules.overload_rps
        after = before + growth_rps * span.seconds
        if after < 0:
            backlog_s = before / -growth_rps
            self._ramp(served, replace(span, seconds=backlog_s), (before, 0.0))
            cohort.backlog = 0.0
            self._steady(served, replace(span, seconds=span.seconds - backlog_s))
        elif after > most_texts:
            growing_s = max(0.0, most_texts - before) / growth_rps
            self._ramp(served, replace(span, seconds=growing_s), (before, most_texts))
            full = replace(span, seconds=span.seconds - growing_s)
            served.refused += full.requests * growth_rps / span.rate_rps
            bounds = (most_texts, most_texts)
            self._ramp(served, replace(full, rate_rps=rules.overload_rps), bounds)
            cohort.backlog = float(most_texts)
        else:
            self._ramp(served, span, (before, after))
            cohort.backlog = after
        served.waiting += cohort.replicas * cohort.backlog

    def _ramp(self, served: Served, span: _Span, backlog: tuple[float, float]) -> None:
        """What comes to each replica is answered, after a backlog that moves from one to another."""
        rules, requests = self._rules, span.requests
        passing_s = rules.passing_s
        from_s, to_s = (passing_s + texts / rules.overload_rps for texts in backlog)
        served.answered += requests
        late = _beyond(rules.slo_latency_s, from_s, to_s)
        if late < 1:  # what is late by chance near the capacity is late beyond it, too
            late = max(late, self._steady_table().over_at_most)
        served.over += requests * late
        served.in_flight_s += span.replicas * span.seconds * (sum(backlog) / 2 + rules.overload_batch_texts)
        served.latencies.append((ramp(from_s, to_s), requests))
        self._full(served, span.replicas, span.seconds)

    def _full(self, served: Served, replicas: int, seconds: float) -> None:
        """Full batches, one after another; the time is already counted as ready."""
        rules = self._rules
        size, engine = rules.overload_batch_texts, rules.fastest
        batches = replicas * seconds / engine.service_s(size)
        served.batches += batches
        served.computed += batches * size
        served.busy_s += replicas * seconds
        served.busy_j += batches * engine.batch_j(size)

    def _take(self, replicas: int) -> list[_Cohort]:
        taken: list[_Cohort] = []
        while replicas > 0:
            last = self._cohorts[-1]
            part = min(replicas, last.replicas)
            taken.append(_Cohort(part, last.backlog))
            last.replicas -= part
            replicas -= part
            if not last.replicas:
                self._cohorts.pop()
        self._changed(-sum(one.replicas for one in taken))
        return taken

    def _changed(self, more: int) -> None:
        self.ready += more
        if self._world.arrival_cv != 1:
            self._table = None


def _beyond(limit_s: float, from_s: float, to_s: float) -> float:
    """The part of an even spread between two latencies that lies above the limit."""
    low_s, high_s = min(from_s, to_s), max(from_s, to_s)
    if high_s <= limit_s:
        return 0.0
    return 1.0 if low_s >= limit_s else (high_s - limit_s) / (high_s - low_s)
