"""The ready replicas of a fleet with every request and every batch: what `binned` is checked against.

Pure; seeded. Arrivals lie inside their step as gamma renewals of the world's burstiness, and go to a ready
replica at random. A second costs about as much as its batches: for minutes or hours, not for weeks.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from scaler.operating_point import OperatingPoint
from scaler.simulate.latency_grid import shape_of
from scaler.simulate.replica import Replica, Totals, gamma_gaps, noise_factors
from scaler.simulate.rules import rules_of
from scaler.simulate.served import Served
from scaler.simulate.world import World

_Floats = NDArray[np.float64]
Arrivals = Callable[[float, float, float], _Floats]


class ExactServing:
    """Implements `fleet.Serving`.

    `arrivals(from_s, until_s, requests)` gives the sorted times in that span; None draws them.
    """

    def __init__(self, world: World, point: OperatingPoint, arrivals: Arrivals | None = None) -> None:
        self._world = world
        self._rules = rules_of(world, point)
        self._noise = noise_factors(world.service_noise, world.seed)
        self._rng = np.random.default_rng([world.seed, 4])
        self._arrivals = arrivals or self._drawn
        self._owed = 0.0  # requests; the parts of a step get whole ones
        self._replicas: list[Replica] = []
        self._leaving: list[tuple[float, Replica]] = []  # drained ones, with when

    @property
    def ready(self) -> int:
        return len(self._replicas)

    def draining(self, now_s: float) -> int:
        return sum(replica.free_s > now_s for _, replica in self._leaving)

    def join(self, replicas: int, now_s: float) -> None:
        self._replicas += [Replica(self._rules, self._noise, now_s) for _ in range(replicas)]

    def drain(self, replicas: int, now_s: float) -> None:
        """The latest that were ready."""
        keep = len(self._replicas) - replicas
        for replica in self._replicas[keep:]:
            replica.advance([], math.inf)
            self._leaving.append((now_s, replica))
        del self._replicas[keep:]

    def crash(self, now_s: float) -> Served:
        replica = self._replicas.pop(int(self._rng.integers(self.ready)))
        waiting, computed = replica.lost(now_s)
        return Served(failed=waiting + computed, answered=-computed)

    def retune(self, point: OperatingPoint, now_s: float) -> None:
        self._rules = rules_of(self._world, point)
        for replica in self._replicas:
            replica.retune(self._rules, now_s)

    def serve(self, from_s: float, until_s: float, requests: float, expected: float) -> Served:  # noqa: ARG002
        times_s = self._arrivals(from_s, until_s, requests)
        served = Served(arrivals=len(times_s), ready_s=self.ready * (until_s - from_s))
        self._absorb_drained(served, from_s)
        if not self.ready:
            served.failed = len(times_s)
            return served.rest(self._rules.engine.idle_w)
        chosen = self._rng.integers(self.ready, size=len(times_s))
        for index, replica in enumerate(self._replicas):
            replica.advance(times_s[chosen == index].tolist(), until_s)
            self._absorb(served, replica)
            served.waiting += replica.waiting
        return served.rest(self._rules.engine.idle_w)

    def finish(self, now_s: float) -> Served:
        served = Served()
        self._absorb_drained(served, math.inf)
        for replica in self._replicas:
            replica.advance([], math.inf)
            self._absorb(served, replica)
            served.ready_s += max(0.0, replica.free_s - now_s)
        return served.rest(self._rules.engine.idle_w)

    def _absorb_drained(self, served: Served, now_s: float) -> None:
        for drained_s, replica in self._leaving:
            served.ready_s += max(0.0, replica.free_s - drained_s) if replica.totals.batches else 0.0
            self._absorb(served, replica)
        self._leaving = [one for one in self._leaving if one[1].free_s > now_s]

    def _absorb(self, served: Served, replica: Replica) -> None:
        """What it did since the last time, its requests by the start of their batch."""
        totals, latency_s = replica.totals, replica.answered().latency_s
        replica.totals = Totals()
        served.refused += totals.refused
        served.batches += totals.batches
        served.computed += totals.computed
        served.busy_s += totals.busy_s
        served.busy_j += totals.busy_j
        if len(latency_s):
            served.answered += len(latency_s)
            served.over += int(np.count_nonzero(latency_s > self._world.slo_latency_s))
            served.in_flight_s += float(latency_s.sum())
            served.latencies.append((shape_of(latency_s), len(latency_s)))

    def _drawn(self, from_s: float, until_s: float, requests: float) -> _Floats:
        self._owed += requests
        count = math.floor(self._owed + 1e-6)
        self._owed -= count
        passed = np.cumsum(gamma_gaps(count + 1, self._world.arrival_cv**2, self._rng))
        return np.asarray(from_s + (until_s - from_s) * passed[:-1] / passed[-1])
