"""A fleet whose replicas are pods: the loop's decisions become the `scale` of a target.

Owns when a number is written. A decision is written once at most, and only while the scale is what it was
decided on: what somebody else has written meanwhile is answered by the next decision, never overwritten. What
is seen is `sight`'s, how far a decision may go is `facts`', whether this process may act at all is the
fence's (`election`). `running` is the number that the target is to have, pods that are pending included:
nothing is asked for twice. Called by the loop each beat.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from scaler.decision import Decision
from scaler.kube.conditions import Obstacle
from scaler.kube.decision_events import EventNote, decision_events
from scaler.kube.errors import (
    ApiError,
    ConflictError,
    DeniedError,
    InvalidError,
    NotFoundError,
    ThrottledError,
    UnavailableError,
)
from scaler.kube.facts import Facts, Permit, allow
from scaler.kube.permissions import Resource
from scaler.kube.rivals import TargetKey
from scaler.kube.store import Object
from scaler.kube.target import Scale, TargetKind, scale_of, scale_to_write
from scaler.record import FleetRow
from scaler.signals import Missing, Signals

log = logging.getLogger(__name__)

_UNSCHEDULABLE_AFTER_S = 60.0  # a node that is being added takes minutes, a scheduler seconds
_TOLD_EVERY_S = 300.0
_REFUSED_AGAIN_S = 30.0
_REFUSED_SHOWN_S = 90.0  # a few tries, where a number is to be written
_STUCK_AFTER_S = 30.0  # what fails for longer is no hiccup


class ScaleWrites(Protocol):
    """A fenced `KubeApi`."""

    async def get(self, resource: Resource, namespace: str, name: str, *, target: bool = False) -> Object: ...

    async def replace(
        self, resource: Resource, namespace: str, name: str, body: Object, *, target: bool = False
    ) -> Object: ...


class Seen(Protocol):
    """`Sight`."""

    key: TargetKey

    @property
    def kind(self) -> TargetKind | None: ...

    @property
    def scale(self) -> Scale | None: ...

    @property
    def obstacle(self) -> Obstacle | None: ...

    @property
    def certain(self) -> bool: ...

    def facts(self) -> Facts | None: ...

    def doubt(self) -> None: ...

    def wrote(self, scale: Scale) -> None: ...


@dataclass(frozen=True, slots=True)
class FleetRules:
    """Of the policy as it stands. `obstacle`: one that the target does not show: an older policy's claim."""

    min_replicas: int
    paused: bool = False
    external: bool = False
    obstacle: Obstacle | None = None


class KubeFleet:
    """The loop's `Fleet`, and one of its watchers: `decided` is what `scale_to` acts on."""

    def __init__(
        self,
        sight: Seen,
        writes: ScaleWrites,
        rules: FleetRules,
        note: Callable[[EventNote], None],
        *,
        was_ready: bool = False,
        clock: Callable[[], float] = time.monotonic,
        unix_s: Callable[[], float] = time.time,
    ) -> None:
        """`was_ready`: whether a replica is known to have been ready before this one looks."""
        self.rules = rules
        self.ever_ready = was_ready
        self._sight = sight
        self._writes = writes
        self._note = note
        self._clock = clock
        self._unix_s = unix_s
        self._open: Decision | None = None  # not written yet, nor overtaken
        self._last: Decision | None = None
        self._stuck: tuple[float, ApiError] | None = None  # since when what is to be written can't be
        self._sent: Permit | None = None  # written, and not known whether it was done
        self._refused: Obstacle | None = None
        self._refused_until_s = 0.0
        self._not_before_s = 0.0
        self._told: dict[str, tuple[str, float]] = {}

    @property
    def obstacle(self) -> Obstacle | None:
        """What keeps replicas from being moved, besides a pause; None: nothing."""
        if self.rules.obstacle is not None:
            return self.rules.obstacle
        facts = self._sight.facts()
        # With `external` another scales it by intent: KEDA, by minwatt's number.
        if facts is not None and facts.rival and not self.rules.external:
            line = f"{facts.rival} scales {self._sight.key} too: remove it, or let it use minwatt's number"
            return Obstacle("OtherAutoscaler", f"{line} (annotation minwatt.dev/replicas: external)")
        if facts is not None and facts.rival_unseen and not self.rules.external:
            line = f"{facts.rival_unseen}: whether another scales {self._sight.key} is not known"
            return Obstacle("AutoscalersUnseen", line)
        return self._sight.obstacle or self._refusal

    @property
    def _refusal(self) -> Obstacle | None:
        """Of the last write, for a while: a right may have been given since, and nothing to be written."""
        if self._clock() < self._refused_until_s:
            return self._refused
        if self._stuck is None or self._clock() - self._stuck[0] < _STUCK_AFTER_S:
            return None
        return Obstacle("ScaleUnavailable", f"{self._sight.key} can't be scaled: {self._stuck[1]}")

    def running(self, seen: Signals | Missing) -> int:
        scale = self._sight.scale
        return seen.ready + seen.starting if scale is None else scale.replicas

    def awaited(self, seen: Signals | Missing) -> bool:
        """Once a pod was ready, by its own report, its kubelet's or the status of an earlier controller, and
        until the target has none by hand: the first pods of an install may take minutes for their image and
        model, and more of them as long."""
        facts = self._sight.facts()
        if seen.ready or (facts is not None and (facts.counts.ready or facts.uncounted)):
            self.ever_ready = True
        elif facts is not None and facts.scale.replicas == 0:
            self.ever_ready = False
        return self.ever_ready

    def observed(self, row: FleetRow) -> None:
        """Rows are for the status."""

    def decided(self, decision: Decision, at_s: float) -> None:  # noqa: ARG002 - Events are dated when noted
        self._open = decision
        self._sent = None
        if self.rules.paused:  # nobody is told of its point: what has changed meanwhile is news afterwards
            return
        for event in decision_events(self._last, decision, acted_on=False):
            self._note(event)
        self._last = decision

    async def scale_to(self, desired: int, seen: Signals | Missing) -> None:
        facts, decision = self._sight.facts(), self._open
        if facts is None:
            return
        self._tell_of_unschedulable(facts)
        if decision is None or desired != decision.desired_replicas or not self._may_move():
            return
        if facts.scale.replicas != decision.current_replicas:
            self._overtaken(facts.scale, decision)
            return
        permit = allow(desired, facts, self.rules.min_replicas, seen.ready)
        if permit.held:
            held = f"{facts.scale.replicas} → {desired} replicas: {permit.held}"
            self._tell("held", EventNote("Normal", permit.reason, "Scale", held))
        if permit.replicas == facts.scale.replicas:
            self._stuck = None
        else:
            await self._write(facts, permit, decision)

    def _overtaken(self, now: Scale, decision: Decision) -> None:
        """The scale is not what was decided on: by a write of ours whose answer was lost, or by another's."""
        sent, self._sent = self._sent, None
        if sent is not None and now.replicas == sent.replicas:
            self._done(now, decision.current_replicas, sent, decision)
        self._open = self._stuck = None  # decide again

    def _may_move(self) -> bool:
        if self.rules.paused or self.rules.external:
            self._stuck = None
            return False
        free = self._sight.certain and self._clock() >= self._not_before_s
        return free and self.obstacle in {None, self._refusal}

    async def _write(self, facts: Facts, permit: Permit, decision: Decision) -> None:
        try:
            scale = await self._put(facts.scale, permit.replicas)
        except ConflictError:
            await self._again(facts.scale, permit, decision)
        except ApiError as error:
            self._failed(error, permit)
        else:
            self._done(scale, facts.scale.replicas, permit, decision)

    async def _again(self, before: Scale, permit: Permit, decision: Decision) -> None:
        """Of another version: often the target's status alone has moved, and what was decided still holds."""
        kind, key = self._sight.kind, self._sight.key
        if kind is None:
            return
        try:
            now = scale_of(await self._writes.get(kind.scale, key.namespace, key.name, target=True))
            self._sight.wrote(now)
            if (now.replicas, now.uid) != (before.replicas, before.uid):
                self._sent = permit  # it may have been sent twice, and done the first time
                self._overtaken(now, decision)
                return
            scale = await self._put(now, permit.replicas)
        except ConflictError as error:
            self._sight.doubt()  # the next beat tries anew
            self._stuck = self._stuck or (self._clock(), error)
        except ApiError as error:
            self._failed(error, permit)
        else:
            self._done(scale, now.replicas, permit, decision)

    async def _put(self, scale: Scale, replicas: int) -> Scale:
        kind, key = self._sight.kind, self._sight.key
        if kind is None:
            raise UnavailableError(f"{key}: its kind is not known")
        body = scale_to_write(key, scale, replicas)
        return scale_of(await self._writes.replace(kind.scale, key.namespace, key.name, body, target=True))

    def _done(self, scale: Scale, before: int, permit: Permit, decision: Decision) -> None:
        self._sight.wrote(scale)
        self._open = self._stuck = None
        self._refused = None
        if permit.held:
            line = f"{before} → {permit.replicas} replicas: {permit.held}; {decision.line()}"
            self._note(EventNote("Normal", "ScaledDown", "Scale", line))
            return
        for event in decision_events(None, decision, acted_on=True):
            if event.action == "Scale":
                self._note(event)

    def _failed(self, error: ApiError, permit: Permit) -> None:
        log.warning("%s: not scaled: %s", self._sight.key, error)
        self._sight.doubt()
        self._sent = permit if isinstance(error, UnavailableError) else None
        wait_s = error.retry_after_s or 1.0
        if isinstance(error, DeniedError | InvalidError | NotFoundError):
            reason = {DeniedError: "AccessDenied", NotFoundError: "TargetNotFound"}.get(
                type(error), "ScaleRefused"
            )
            self._refused = Obstacle(reason, str(error))
            self._refused_until_s = self._clock() + _REFUSED_SHOWN_S
            wait_s = _REFUSED_AGAIN_S
        if isinstance(error, ThrottledError | UnavailableError):
            self._stuck = (self._clock() if self._stuck is None else self._stuck[0], error)
        self._not_before_s = self._clock() + wait_s

    def _tell_of_unschedulable(self, facts: Facts) -> None:
        counts, since_s = facts.counts, facts.counts.unschedulable_since_s
        if since_s is None or self._unix_s() - since_s < _UNSCHEDULABLE_AFTER_S:
            return
        why = counts.unschedulable_why or "the scheduler says no more"
        note = f"{counts.unschedulable} pods find no node: {why}"[:1000]
        self._tell("unschedulable", EventNote("Warning", "PodsUnschedulable", "Schedule", note))

    def _tell(self, what: str, event: EventNote) -> None:
        """When it is news, and now and then while it lasts."""
        said, at_s = self._told.get(what, ("", 0.0))
        if said != event.note or self._clock() - at_s >= _TOLD_EVERY_S:
            self._told[what] = event.note, self._clock()
            self._note(event)
