"""The only place of the scaler that ticks: looks each beat, decides each tick, acts, and tells who watches.

Owns the order of things and nothing of their substance: deciding is `control`, starting and stopping
replicas is the fleet, carrying words is the bus. Time comes in through the ticker.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from scaler.bus import FleetBus
from scaler.control import decide, observe_fleet
from scaler.control_state import ControlState, carried, expecting
from scaler.decision import Decision
from scaler.fleet_joules import FleetJoules
from scaler.operating_point import OperatingPoint
from scaler.record import FleetMoment, FleetRow, fleet_row
from scaler.settings import Settings
from scaler.signals import Missing, Signals

_EARLY_S = 0.02  # a timer may wake this much before its time: the tick is of this beat all the same


class Fleet(Protocol):
    """Where replicas run."""

    def running(self, seen: Signals | Missing) -> int:
        """Replicas that run or start now, those that leave left out."""

    def awaited(self, seen: Signals | Missing) -> bool:
        """Whether replicas must be heard: their silence is a fault, and no start that takes its time."""

    async def scale_to(self, desired: int, seen: Signals | Missing) -> None:
        """Starts or stops as many as it takes, and returns before they are done. Called each beat."""


class Watcher(Protocol):
    """Records, metrics, a terminal. `at_s` is unix time."""

    def observed(self, row: FleetRow) -> None: ...

    def decided(self, decision: Decision, at_s: float) -> None: ...


async def beats(every_s: float, clock: Callable[[], float], stopped: asyncio.Event) -> AsyncIterator[float]:
    """The present time, each `every_s`, until stopped. A beat that was missed is not made up for."""
    next_s = clock()
    while not stopped.is_set():
        yield clock()
        next_s = max(next_s + every_s, clock())
        try:
            await asyncio.wait_for(stopped.wait(), next_s - clock())
        except TimeoutError:
            continue


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the loop acts on and tells. `unix_s` dates the rows."""

    bus: FleetBus
    fleet: Fleet
    watchers: Sequence[Watcher]
    unix_s: Callable[[], float]


class ControlLoop:
    """`run` until the ticker ends, then `settle` once the fleet has drained."""

    def __init__(
        self, settings: Settings, state: ControlState, around: Surroundings, joules: FleetJoules
    ) -> None:
        self._settings = settings
        self._state = state
        self._around = around
        self._joules = joules
        self._decision: Decision | None = None
        self._published: object = None
        self._next_tick_s = state.started_s

    async def run(self, ticker: AsyncIterator[float]) -> None:
        async for now_s in ticker:
            await self._beat(now_s)

    @property
    def point(self) -> OperatingPoint | None:
        """What the replicas were told last."""
        return self._state.point

    def follow(self, settings: Settings) -> None:
        """A policy that was edited, from the next beat on."""
        self._state = carried(self._state, self._settings, settings)
        self._settings = settings

    async def settle(self, now_s: float) -> None:
        """The last row: what the replicas reported when they left counts."""
        seen = await self._look(now_s)
        self._tell(seen, desired=0)

    async def _beat(self, now_s: float) -> None:
        seen = await self._look(now_s)
        if now_s >= self._next_tick_s - _EARLY_S:
            self._next_tick_s = max(self._next_tick_s + self._settings.tick_s, now_s)
            await self._tick(seen)
        if self._decision is not None:
            await self._around.fleet.scale_to(self._decision.desired_replicas, seen)
            self._tell(seen, self._decision.desired_replicas)

    async def _look(self, now_s: float) -> Signals | Missing:
        view = await self._around.bus.collect()
        self._joules = self._joules.after(view.pages)
        self._state, seen = observe_fleet(self._state, view, now_s, self._settings)
        return seen

    async def _tick(self, seen: Signals | Missing) -> None:
        fleet = self._around.fleet
        self._state = expecting(self._state, seen.at_s, fleet.awaited(seen))
        self._state, self._decision = decide(self._state, seen, fleet.running(seen), self._settings)
        point = self._decision.operating_point
        if point is not None and point != self._published:
            await self._around.bus.publish(point)
            self._published = point
        for watcher in self._around.watchers:
            watcher.decided(self._decision, self._around.unix_s())

    def _tell(self, seen: Signals | Missing, desired: int) -> None:
        moment = FleetMoment(
            at_s=self._around.unix_s(),
            seen=seen,
            running=self._around.fleet.running(seen),
            desired=desired,
            joules=self._joules,
            point=self._state.point,
            forecast_rps=self._decision.forecast_rps if self._decision else None,
            slo_latency_s=self._settings.limits.slo_latency_s,
        )
        row = fleet_row(moment)
        for watcher in self._around.watchers:
            watcher.observed(row)
