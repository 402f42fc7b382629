"""One term as the leader: a loop a policy, their statuses and Events, until another leads or the end.

Owns starting, editing and stopping the loops; which there should be is `reconcile`'s to say. Called by
`controller`, which says what the policies are.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from scaler.kube.conditions import Obstacle
from scaler.kube.decision_events import EventNote
from scaler.kube.events import Events
from scaler.kube.policy_run import PolicyRun, Shared
from scaler.kube.reconcile import Wanted, reconcile
from scaler.kube.status_moment import Fence, StatusMoment
from scaler.kube.store import Key, Object

log = logging.getLogger(__name__)

_STOP_WITHIN_S = 6.0  # a beat, with a write that is on its way


class Leading:
    def __init__(self, shared: Shared, events: Events, fence: Fence) -> None:
        self._shared = shared
        self._events = events
        self._fence = fence
        self._wanted: Mapping[Key, Wanted] = {}
        self._runs: dict[Key, PolicyRun] = {}
        self._tasks: dict[Key, asyncio.Task[None]] = {}

    async def follow(self, wanted: Mapping[Key, Wanted]) -> None:
        """The policies as they are now."""
        self._wanted = wanted
        changes = reconcile(wanted, {key: run.wanted for key, run in self._runs.items()})
        await self._stop(changes.stop)
        for key in changes.edit:
            self._runs[key].edit(wanted[key])
        for key in changes.start:
            run = PolicyRun(wanted[key], self._shared, partial(self._note, key))
            self._runs[key] = run
            self._tasks[key] = asyncio.create_task(run.run(), name="/".join(key))

    async def close(self) -> None:
        await self._stop(tuple(self._runs))

    def moments(self) -> Mapping[Key, tuple[Object, StatusMoment]]:
        """For the statuses: `StatusWrites` asks."""
        at_s = self._shared.unix_s()
        made: dict[Key, tuple[Object, StatusMoment]] = {}
        for key, one in self._wanted.items():
            moment = StatusMoment(
                at_s, one.generation, one.accepted, one.problem, one.obstacle, fence=self._fence
            )
            made[key] = one.obj, self._told(key, moment)
        return made

    def _told(self, key: Key, moment: StatusMoment) -> StatusMoment:
        """With what the policy's loop knows. A target that can't be read is that policy's trouble alone."""
        run = self._runs.get(key)
        try:
            return moment if run is None else run.moment(moment)
        except Exception as error:  # what the loop itself fails by, too: it says so in its log
            line = f"its target can't be read ({type(error).__name__}: {error})"[:1000]
            return replace(moment, obstacle=Obstacle("LoopFailed", line))

    def _note(self, key: Key, event: EventNote) -> None:
        one = self._wanted.get(key)
        if one is not None:
            self._events.note(one.obj, event)

    async def _stop(self, keys: tuple[Key, ...]) -> None:
        tasks = [self._tasks.pop(key) for key in keys]
        for key in keys:
            self._runs.pop(key).stop()
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=_STOP_WITHIN_S)
        for task in late:
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, Exception):
                log.error("a policy's loop ended badly", exc_info=result)
