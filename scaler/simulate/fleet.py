"""Replicas by number: who starts, is ready, drains or is parked, and what that costs.

Pure. Owns start-up, pending, crashes, the loading of another variant, and the watts of all these and of
devices without a ready replica. What ready replicas do with requests is the `Serving`'s matter, of which
there are two: `binned` and `exact`. Called by `run`.

A fleet told another variant loads it beside the one that answers, within the new bounds at once: for as long
and for as many joules a replica as the profile's `switch` says. That loading slows the answers is not in it.
"""

from __future__ import annotations

import math
from bisect import insort
from dataclasses import replace
from typing import Protocol

import numpy as np

from scaler.operating_point import OperatingPoint
from scaler.simulate.served import Served
from scaler.simulate.world import World

_SAME_S = 1e-6  # times that far apart are one: sums of steps are not exact


class Serving(Protocol):
    """The ready replicas, and those that still drain."""

    @property
    def ready(self) -> int: ...

    def draining(self, now_s: float) -> int: ...

    def join(self, replicas: int, now_s: float) -> None: ...

    def drain(self, replicas: int, now_s: float) -> None:
        """They get no more requests and finish those they have."""
        ...

    def crash(self, now_s: float) -> Served:
        """One of the ready replicas is gone: the requests that failed with it, and those of them that were
        already counted as answered, below 0.
        """
        ...

    def retune(self, point: OperatingPoint, now_s: float) -> None: ...

    def serve(self, from_s: float, until_s: float, requests: float, expected: float) -> Served:
        """`requests` come; `expected` is the mean of what could have come, the rate that they came at."""
        ...

    def finish(self, now_s: float) -> Served:
        """What is in the fleet is answered; after it nothing waits."""
        ...


class Fleet:
    """All replicas of the world."""

    def __init__(self, world: World, serving: Serving, initial: int, point: OperatingPoint) -> None:
        """All answer with the point's variant already."""
        self._world = world
        self._serving = serving
        self._starting_s: list[float] = []  # when each will be ready, sorted
        self._most = initial  # devices that this fleet ever had
        self._rng = np.random.default_rng([world.seed, 3])
        self.desired = initial
        self.reversals = 0
        self._direction = 0
        self.variant = point.variant  # that they answer with
        self._told = point
        self._loaded_s = math.inf  # when they answer with the variant that they were told
        self._loading_j = (
            0.0  # of replicas that were starting when it was told: they load it once they are up
        )
        serving.join(initial, 0.0)

    @property
    def ready(self) -> int:
        return self._serving.ready

    @property
    def starting(self) -> int:
        return len(self._starting_s)

    def draining(self, now_s: float) -> int:
        return self._serving.draining(now_s)

    def resize(self, desired: int, now_s: float) -> None:
        """More are started; fewer: first those that start are given up, the latest first, then ready ones
        drain.
        """
        if desired != self.desired:
            direction = 1 if desired > self.desired else -1
            self.reversals += direction == -self._direction
            self._direction = direction
            self.desired = desired
        missing = desired - self.ready - self.starting
        if missing > 0:
            ready_s = now_s + self._world.pending_s + self._world.profile.start_up.seconds
            self._starting_s += [ready_s] * missing
            self._starting_s.sort()
            self._most = max(self._most, self.ready + self.starting + self.draining(now_s))
        elif missing < 0:
            given_up = min(-missing, self.starting)
            del self._starting_s[self.starting - given_up :]
            if -missing > given_up:
                self._serving.drain(-missing - given_up, now_s)

    def retune(self, point: OperatingPoint, now_s: float) -> None:
        """Another variant comes once it is loaded; the rest of the point is in force at once."""
        if point.variant == self.variant:
            self._loaded_s = math.inf
        elif point.variant != self._told.variant:
            switch = self._world.profile.switch
            self._loaded_s = now_s + switch.seconds
            self._loading_j += self.starting * switch.joules
        self._told = point
        self._serving.retune(replace(point, variant=self.variant), now_s)

    def step(self, from_s: float, until_s: float, requests: float, expected: float) -> Served:
        """Serves the requests that come in that time, in parts between which replicas become ready."""
        served = Served()
        if math.isfinite(self._world.crash_mtbf_s):
            self._crash(from_s, until_s, served)
        at_s = from_s
        while at_s < until_s:
            self._join_ready(at_s)
            self._take_loaded(at_s)
            part_s = until_s
            if self._starting_s and self._starting_s[0] < until_s - _SAME_S:
                part_s = self._starting_s[0]
            if self._loaded_s < part_s - _SAME_S:
                part_s = self._loaded_s
            share = (part_s - at_s) / (until_s - from_s)
            part = self._serving.serve(at_s, part_s, requests * share, expected * share)
            if self._starting_s or self._most > self.ready:
                self._rest(at_s, part_s, part)
            if math.isfinite(self._loaded_s):
                self._load(part_s - at_s, part)
            if share == 1 and not served.failed:
                return part
            served.add(part)
            served.latencies += part.latencies
            at_s = part_s
        return served

    def skip(self, until_s: float) -> Served:
        """Time without data: what was waiting is answered, and nothing else is counted."""
        served = self._serving.finish(until_s)
        self._join_ready(until_s)
        self._take_loaded(until_s)
        return served

    def _join_ready(self, now_s: float) -> None:
        came = 0
        while came < len(self._starting_s) and self._starting_s[came] <= now_s + _SAME_S:
            came += 1
        if came:
            del self._starting_s[:came]
            self._serving.join(came, now_s)

    def _take_loaded(self, now_s: float) -> None:
        if self._loaded_s <= now_s + _SAME_S:
            self._loaded_s, self.variant = math.inf, self._told.variant
            self._serving.retune(self._told, now_s)

    def _load(self, seconds: float, served: Served) -> None:
        """Adds the joules of loading another variant beside the one that answers."""
        switch = self._world.profile.switch
        served.startup_j += self.ready * seconds * switch.joules / switch.seconds + self._loading_j
        self._loading_j = 0.0

    def _crash(self, from_s: float, until_s: float, served: Served) -> None:
        """At the beginning of the step. A crashed replica starts again on its device."""
        chance = -math.expm1(-(until_s - from_s) / self._world.crash_mtbf_s)
        for _ in range(int(self._rng.binomial(self.ready, chance))):
            served.add(self._serving.crash(from_s))
            insort(self._starting_s, from_s + self._world.profile.start_up.seconds)

    def _rest(self, from_s: float, until_s: float, served: Served) -> None:
        """Adds the joules of replicas that start and of devices that are parked."""
        world = self._world
        start_up_s = world.profile.start_up.seconds
        for ready_s in self._starting_s:
            served.startup_j += world.start_up_w * max(0.0, until_s - max(from_s, ready_s - start_up_s))
        parked = self._most - self.ready - self.starting - self._serving.draining(from_s)
        served.parked_j += max(0, parked) * world.parked_watts * (until_s - from_s)
