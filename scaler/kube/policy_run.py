"""One policy's loop on Kubernetes, from what it sees of its target to what its status is told.

Assembles sight, fleet, bus and control loop, and starts them anew, later each time, when one of them fails
for a reason that nobody foresaw: another policy's loop must not notice. Decides nothing. Made and run by
`leading`.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from scaler.bus import FleetBus
from scaler.control_state import start_beside
from scaler.dashboard.server import Dashboard
from scaler.decision import Decision
from scaler.fleet_joules import FleetJoules
from scaler.kube.api import KubeApi
from scaler.kube.conditions import Obstacle
from scaler.kube.decision_events import EventNote
from scaler.kube.desired_replicas import DesiredReplicas
from scaler.kube.fleet import FleetRules, KubeFleet
from scaler.kube.gated_bus import GatedBus
from scaler.kube.policy_object import Accepted, was_heard
from scaler.kube.reconcile import Wanted, identity_of
from scaler.kube.sight import Sight
from scaler.kube.status_moment import ReplicaCounts, StatusMoment
from scaler.kube.target import Kinds
from scaler.kube.watches import Watches
from scaler.loop import ControlLoop, Surroundings, Watcher, beats
from scaler.metrics import Metrics
from scaler.record import FleetRow
from scaler.settings import Settings
from scaler.terminal import Terminal

log = logging.getLogger(__name__)

_BEAT_S = 1.0
_FIRST_AGAIN_S, _LAST_AGAIN_S = 1.0, 60.0
_STEADY_S = 120.0  # a loop that ran for so long has come up: the next failure is a first one again


class Fleets(Protocol):
    """A `Hub`."""

    def fleet(self, name: str) -> FleetBus: ...


@dataclass(frozen=True, slots=True)
class Shared:
    """What all policies' loops have in common. `api` is fenced; `may_act` is what its fence asks."""

    api: KubeApi
    watches: Watches
    kinds: Kinds
    fleets: Fleets
    metrics: Metrics
    dashboard: Dashboard | None
    desired: DesiredReplicas
    may_act: Callable[[], bool]
    clock: Callable[[], float]
    unix_s: Callable[[], float]
    rng: random.Random
    say: Callable[[str], None]


class PolicyRun:
    """`run` until `stop`, then until the present beat has ended."""

    def __init__(self, wanted: Wanted, shared: Shared, note: Callable[[EventNote], None]) -> None:
        self.wanted = wanted
        self._shared = shared
        self._note = note
        self._stopped = asyncio.Event()
        self._sight: Sight | None = None
        self._fleet: KubeFleet | None = None
        self._loop: ControlLoop | None = None
        self._failure: Obstacle | None = None
        self._decision: tuple[Decision, float] | None = None
        self._row: FleetRow | None = None

    @property
    def accepted(self) -> Accepted:
        if self.wanted.accepted is None:
            raise ValueError("a loop is run of an accepted policy")
        return self.wanted.accepted

    @property
    def settings(self) -> Settings:
        if self.wanted.settings is None:
            raise ValueError("a loop is run of a policy that fits a profile")
        return self.wanted.settings

    def edit(self, wanted: Wanted) -> None:
        """The policy as it stands now; what the loop has learnt stays."""
        before, self.wanted = self.settings, wanted
        if self._fleet is not None:
            self._fleet.rules = self._rules()
        if self._loop is not None and self.settings is not before:
            self._loop.follow(self.settings)
        self._shared.metrics.of(self.accepted.namespace, self.accepted.policy)
        if self._shared.dashboard is not None:
            self._shared.dashboard.of(self._shown_as, self.settings)
        if not self.accepted.external:
            self._shared.desired.forget(self.accepted.namespace, self.accepted.name)

    def stop(self) -> None:
        self._stopped.set()

    async def run(self) -> None:
        bus = self._shared.fleets.fleet(self.accepted.fleet)
        failures = 0
        try:
            while not self._stopped.is_set():
                began_s = self._shared.clock()
                try:
                    await self._attempt(bus)
                except Exception as error:
                    failures = 0 if self._shared.clock() - began_s >= _STEADY_S else failures
                    wait_s = min(_LAST_AGAIN_S, _FIRST_AGAIN_S * 2.0 ** min(failures, 10))
                    failures += 1
                    self._failed(error, wait_s)
                    await self._wait(wait_s)
        finally:
            self._shared.metrics.forget(self.accepted.namespace, self.accepted.name)
            if self._shared.dashboard is not None:
                self._shared.dashboard.forget(self._shown_as)
            self._shared.desired.forget(self.accepted.namespace, self.accepted.name)
            await bus.close()

    def observed(self, row: FleetRow) -> None:
        self._row = row
        self._failure = None
        accepted = self.accepted
        if accepted.external and self._shared.may_act():
            desired = row.replicas_desired
            if accepted.paused and self._sight is not None and self._sight.scale is not None:
                desired = self._sight.scale.replicas
            self._shared.desired.publish(accepted.namespace, accepted.name, desired)

    def decided(self, decision: Decision, at_s: float) -> None:
        self._decision = decision, at_s

    def moment(self, moment: StatusMoment) -> StatusMoment:
        """With what this loop knows."""
        decision, at_s = self._decision or (None, None)
        return replace(
            moment,
            obstacle=self._obstacle(),
            replicas=self._counts(),
            decision=decision,
            decided_at_s=at_s,
            row=self._row,
        )

    def _obstacle(self) -> Obstacle | None:
        if self._failure is not None:
            return self._failure
        own = None if self._fleet is None else self._fleet.obstacle
        return own or (None if self._sight is None else self._sight.complaint) or self.wanted.complaint

    def _counts(self) -> ReplicaCounts | None:
        facts = None if self._sight is None else self._sight.facts()
        if facts is None:
            return None
        counts = facts.counts
        return ReplicaCounts(
            current=facts.scale.replicas,
            ready=counts.ready,
            starting=counts.starting,
            pending=counts.pending,
            unschedulable=counts.unschedulable,
            terminating=counts.terminating,
        )

    async def _attempt(self, bus: FleetBus) -> None:
        """Until stopped. Raises whatever nobody foresaw."""
        shared, identity = self._shared, identity_of(self.wanted)
        if identity is None:
            return
        sight = self._sight = Sight(
            shared.api,
            shared.watches,
            shared.kinds,
            identity.target,
            identity.api_version,
            clock=shared.clock,
            rng=shared.rng,
        )
        earlier = self._fleet
        was_ready = was_heard(self.wanted.obj, self.accepted) if earlier is None else earlier.ever_ready
        fleet = self._fleet = KubeFleet(
            sight,
            shared.api,
            self._rules(),
            self._note,
            was_ready=was_ready,
            clock=shared.clock,
            unix_s=shared.unix_s,
        )
        looking = asyncio.create_task(sight.run())
        controlling = asyncio.create_task(self._control(sight, fleet, bus))
        stopped = asyncio.create_task(self._stopped.wait())
        try:
            await asyncio.wait({looking, controlling, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if stopped.done() and self._loop is not None:
                await controlling  # the present beat
            for task in (looking, controlling):
                if task.done():
                    task.result()
        finally:
            self._loop = None
            looking.cancel()
            controlling.cancel()
            stopped.cancel()
            await asyncio.gather(looking, controlling, stopped, return_exceptions=True)

    async def _control(self, sight: Sight, fleet: KubeFleet, bus: FleetBus) -> None:
        await sight.known()
        shared, accepted = self._shared, self.accepted
        watchers: list[Watcher] = [
            fleet,
            self,
            shared.metrics.of(accepted.namespace, accepted.policy),
            Terminal(lambda line: shared.say(f"{accepted.fleet}: {line}")),
        ]
        if shared.dashboard is not None:
            board = shared.dashboard.of(self._shown_as, self.settings)
            bus = board.read_along(bus)
            watchers.append(board)
        around = Surroundings(GatedBus(bus, self._may_speak), fleet, watchers, shared.unix_s)
        state, joules = start_beside(shared.clock()), FleetJoules(owns_processes=False)
        self._loop = ControlLoop(self.settings, state, around, joules)
        await self._loop.run(beats(min(_BEAT_S, self.settings.tick_s), shared.clock, self._stopped))

    @property
    def _shown_as(self) -> str:
        """On the dashboard."""
        return f"{self.accepted.namespace}/{self.accepted.name}"

    def _may_speak(self) -> bool:
        """Replicas that can't be added or taken are told their point all the same: it is what keeps them
        within the budget, and nobody else sets it."""
        return self._shared.may_act() and not self.accepted.paused and self.wanted.obstacle is None

    def _rules(self) -> FleetRules:
        return FleetRules(
            min_replicas=self.settings.limits.min_replicas,
            paused=self.accepted.paused,
            external=self.accepted.external,
            obstacle=self.wanted.obstacle,
        )

    def _failed(self, error: Exception, wait_s: float) -> None:
        log.error("%s: its loop failed; again in %g s", self.accepted.fleet, wait_s, exc_info=error)
        line = f"its loop failed ({type(error).__name__}: {error}); begun anew in {wait_s:g} s"
        self._failure = Obstacle("LoopFailed", line[:1000])
        self._note(EventNote("Warning", "LoopFailed", "Reconcile", self._failure.message))

    async def _wait(self, wait_s: float) -> None:
        try:
            await asyncio.wait_for(self._stopped.wait(), wait_s)
        except TimeoutError:
            return
