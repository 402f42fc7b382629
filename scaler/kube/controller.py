"""The controller: policies are watched, one copy leads, and each policy it leads has a loop.

Level-triggered: after any change, and each second, what should run is worked out anew from what the policies
are. Owns the order of things: watching goes on in every copy, so that a follower knows the last good policies
when its turn comes; loops, bus and writes are the leader's alone. Assembled by `command`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Any

from scaler.bus import Hub
from scaler.kube.api import KubeApi, Selection
from scaler.kube.election import Election
from scaler.kube.events import Events
from scaler.kube.external_scaler import ExternalScaler
from scaler.kube.leading import Leading
from scaler.kube.permissions import POLICIES
from scaler.kube.policy_object import parse
from scaler.kube.policy_run import Shared
from scaler.kube.profile_files import LOOK_EVERY_S, ProfileFiles
from scaler.kube.profiles import settings_for
from scaler.kube.reconcile import Wanted, unread, wanted_of, with_claims
from scaler.kube.status_moment import Fence, StatusMoment
from scaler.kube.status_writes import StatusWrites
from scaler.kube.store import Key, Object
from scaler.kube.watches import Watches
from scaler.kube.watching import Watching
from scaler.metrics import Metrics
from scaler.strays import tell_of_strays

log = logging.getLogger(__name__)

_LOOK_EVERY_S = 1.0
_LAST_EVENTS_S = 2.0


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Of the whole process. `api` has no fence; `open_hub` and `open_external` are called at the begin of
    each term."""

    api: KubeApi
    election: Election
    watches: Watches
    profiles: ProfileFiles
    metrics: Metrics
    open_hub: Callable[[], Awaitable[Hub]]
    open_external: Callable[[], Awaitable[ExternalScaler]] | None  # None: KEDA asks nothing here
    shared: Callable[[KubeApi, Hub], Shared]
    say: Callable[[str], None]


class Controller:
    """`run` until stopped: then the loops end, what is queued is written, and the lease is let go."""

    def __init__(self, around: Surroundings, namespaces: Sequence[str]) -> None:
        self._around = around
        self._namespaces = tuple(namespaces) or ("",)
        self._wake = asyncio.Event()
        self._wanted: dict[Key, Wanted] = {}
        self._read_as: dict[Key, object] = {}
        self._troubles: dict[str, str] = {}
        self._watchings = [
            around.watches.hold(Selection(POLICIES, namespace), self._wake.set)
            for namespace in self._namespaces
        ]

    @property
    def ready(self) -> bool:
        """Whether the policies were listed, of every namespace: a copy that never could is of no use."""
        return all(one.store.synced for one in self._watchings)

    async def run(self, stopped: asyncio.Event) -> None:
        """Raises UsageError where the bus's address can't be had."""
        election = self._around.election
        standing = [asyncio.create_task(_standing(one)) for one in (election.run, self._follow_profiles)]
        try:
            while not stopped.is_set():
                self._look()
                self._around.metrics.leading(election.may_act)
                if election.term is not None and any(one.store.synced for one in self._watchings):
                    await self._lead(stopped)
                await self._pause(stopped)
        finally:
            await _cancelled(standing)
            await election.release()

    async def _lead(self, stopped: asyncio.Event) -> None:
        around, election = self._around, self._around.election
        term = election.term
        if term is None:
            return
        async with AsyncExitStack() as stack:
            hub = await around.open_hub()
            stack.push_async_callback(hub.close)
            around.say(f"leading as {election.identity}, term {term}: fleets join {hub.address}")
            writes = around.api.fenced(election.check)
            shared = around.shared(writes, hub)
            events = Events(writes, election.identity, unix_s=shared.unix_s)
            leading = Leading(shared, events, Fence(election.identity, term))
            statuses = StatusWrites(_Told(leading, self), writes, events.note, shared.clock)

            async def strays() -> None:
                await tell_of_strays(hub, self._stray)

            beside = (events.run, statuses.run, strays)
            tasks = [asyncio.create_task(_standing(one)) for one in beside]
            stack.push_async_callback(_cancelled, tasks)
            stack.push_async_callback(events.flush, _LAST_EVENTS_S)
            stack.push_async_callback(leading.close)
            if around.open_external is not None:
                external = await around.open_external()
                stack.push_async_callback(external.close)  # before the loops end and forget their numbers
                around.say(f"external scaler {external.address}")
            while not stopped.is_set() and election.term == term:
                self._look()
                around.metrics.leading(election.may_act)
                await leading.follow(with_claims(self._wanted.values()))
                await self._pause(stopped)
        around.metrics.leading(False)
        around.say(f"leading no more: {'stopped' if stopped.is_set() else f'the lease is {election.holder}'}")

    def wrote(self, obj: Object) -> None:
        """The server's answer to a status: what a next write goes on from, before the watch tells."""
        for one in self._watchings:
            one.store.accept(obj)

    def _stray(self, fleet: str, replicas: int) -> None:
        self._around.say(f"fleet {fleet}: {replicas} replicas, and no PowerPolicy of that namespace and name")

    async def _follow_profiles(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            for line in await self._around.profiles.look():
                self._around.say(line)
                self._wake.set()

    def _look(self) -> None:
        self._wake.clear()
        self._tell_of_troubles()
        found = {key: obj for one in self._watchings for key, obj in one.store.items.items()}
        for key in [key for key in self._wanted if key not in found]:
            del self._wanted[key], self._read_as[key]
        for key, obj in found.items():
            self._take(key, obj)

    def _take(self, key: Key, obj: Object) -> None:
        """Read anew where what a person writes has changed: the spec's generation, the annotations, or a
        profile."""
        metadata, profiles = obj.get("metadata") or {}, self._around.profiles
        written = ("uid", "generation", "annotations", "deletionTimestamp")
        version = (profiles.revision, *(metadata.get(name) for name in written))
        if self._read_as.get(key) == version:
            self._wanted[key] = replace(self._wanted[key], obj=obj)
            return
        before = self._wanted.get(key)
        try:
            wanted = wanted_of(obj, before, parse, lambda one: settings_for(one, profiles.library))
        except Exception as error:  # a mistake in this program, on one policy: the others go on
            log.exception("PowerPolicy %s/%s can't be read", *key)
            wanted = unread(obj, before, error)
        self._wanted[key] = replace(wanted, complaint=profiles.library.complaint(wanted.settings))
        self._read_as[key] = version
        problem = self._wanted[key].problem
        if problem is not None:
            self._around.say(f"{'/'.join(key)}: not used: {problem.line}")

    def _tell_of_troubles(self) -> None:
        """Once each: what the API server refuses before any policy could show it."""
        where = [
            (f"PowerPolicies of {name or 'all namespaces'}", one.store.failure) for name, one in self._found()
        ]
        for what, error in (*where, ("the lease", self._around.election.problem)):
            said = "" if error is None else str(error)
            if said != self._troubles.get(what, ""):
                self._around.say(f"{what}: {said}" if said else f"{what}: well again")
            self._troubles[what] = said

    def _found(self) -> Iterable[tuple[str, Watching]]:
        return zip(self._namespaces, self._watchings, strict=True)

    async def _pause(self, stopped: asyncio.Event) -> None:
        waits = [asyncio.create_task(one.wait()) for one in (stopped, self._wake)]
        try:
            await asyncio.wait(waits, timeout=_LOOK_EVERY_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await _cancelled(waits)


@dataclass(frozen=True, slots=True)
class _Told:
    """`Policies` of the statuses."""

    leading: Leading
    controller: Controller

    def moments(self) -> Mapping[Key, tuple[Object, StatusMoment]]:
        return self.leading.moments()

    def wrote(self, obj: Object) -> None:
        self.controller.wrote(obj)


async def _standing(run: Callable[[], Awaitable[None]]) -> None:
    """A mistake in this program must not end the election, or the writing of statuses, without a word."""
    while True:
        try:
            await run()
        except Exception:
            log.exception("%s failed; begun anew", run.__qualname__)
            await asyncio.sleep(_LOOK_EVERY_S)


async def _cancelled(tasks: Iterable[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
