"""Writes Events about policies: best effort, beside the loops, never in their way.

Owns the Event objects' fields and the queue; what is worth one is `decision_events`, which are written
`event_series`. Called by the controller while it leads.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from scaler.kube.errors import ApiError, NotFoundError
from scaler.kube.event_series import Count, Create, Noted, SeriesState, after, firsts, forgotten
from scaler.kube.kube_time import micro_time
from scaler.kube.permissions import EVENTS, Resource
from scaler.kube.store import Object, key_of

log = logging.getLogger(__name__)

CONTROLLER = "minwatt.dev/scaler"
_QUEUE = 1000  # beyond: dropped, and counted in the log
_NAME_CHARS = 220  # of 253: the rest is for the time
_NOTE_BYTES = 1024
_LONGEST = 128  # of reportingInstance
_AFTER_FAILURE_S = 1.0


def _clipped(note: str) -> str:
    """To the bytes that the server accepts."""
    return note.encode()[:_NOTE_BYTES].decode(errors="ignore")


class Note(Protocol):
    """`EventNote` of `decision_events`."""

    @property
    def type(self) -> str: ...

    @property
    def reason(self) -> str: ...

    @property
    def action(self) -> str: ...

    @property
    def note(self) -> str: ...


class EventWrites(Protocol):
    """A fenced `KubeApi`."""

    async def create(self, resource: Resource, namespace: str, body: Object) -> Object: ...

    async def merge(self, resource: Resource, namespace: str, name: str, patch: Object) -> Object: ...


@dataclass(frozen=True, slots=True)
class _Queued:
    policy: Object
    write: Create | Count


class Events:
    """`note` at any time; `run` writes, until cancelled."""

    def __init__(
        self, writes: EventWrites, identity: str, *, unix_s: Callable[[], float] = time.time
    ) -> None:
        self._writes = writes
        self._identity = identity[:_LONGEST]
        self._unix_s = unix_s
        self._state = SeriesState()
        self._queue: asyncio.Queue[_Queued] = asyncio.Queue(_QUEUE)
        self._names: dict[Noted, str] = {}
        self._created = 0

    def note(self, policy: Object, what: Note) -> None:
        uid = str((policy.get("metadata") or {}).get("uid", ""))
        noted = Noted(uid, what.type, what.reason, what.action, what.note)
        self._state, write = after(self._state, noted, self._unix_s())
        if write is None:
            return
        try:
            self._queue.put_nowait(_Queued(policy, write))
        except asyncio.QueueFull:
            log.warning("event dropped: %s %s", what.reason, what.note)

    async def run(self) -> None:
        while True:
            queued = await self._queue.get()
            try:
                await self._write(queued)
            except ApiError as error:
                log.warning("event not written: %s", error)
                await asyncio.sleep(_AFTER_FAILURE_S)
            finally:
                self._queue.task_done()

    async def flush(self, limit_s: float) -> None:
        """What is queued, for so long at most."""
        try:
            await asyncio.wait_for(self._queue.join(), limit_s)
        except TimeoutError:
            log.warning("%d events not written", self._queue.qsize())

    async def _write(self, queued: _Queued) -> None:
        namespace, policy_name = key_of(queued.policy)
        write = queued.write
        if isinstance(write, Create):
            self._created += 1
            unique = f"{int(write.at_s * 1e6):x}{self._created % 4096:03x}"
            name = f"{policy_name[:_NAME_CHARS].rstrip('.-')}.{unique}"
            await self._writes.create(EVENTS, namespace, self._event(queued.policy, name, write))
            alive = firsts(self._state)
            self._names = {first: told for first, told in self._names.items() if first in alive}
            self._names[write.noted] = name
            return
        name = self._names.get(write.first, "")
        if not name:
            return  # the first could not be written either
        series = {"count": write.count, "lastObservedTime": micro_time(write.at_s)}
        try:
            await self._writes.merge(EVENTS, namespace, name, {"series": series})
        except NotFoundError:
            self._state = forgotten(self._state, write.first)

    def _event(self, policy: Object, name: str, create: Create) -> dict[str, Any]:
        metadata, noted = policy.get("metadata") or {}, create.noted
        return {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": metadata.get("namespace")},
            "eventTime": micro_time(create.at_s),
            "reportingController": CONTROLLER,
            "reportingInstance": self._identity,
            "type": noted.type,
            "reason": noted.reason,
            "action": noted.action,
            "note": _clipped(noted.note),
            "regarding": {
                "apiVersion": policy.get("apiVersion", "minwatt.dev/v1alpha1"),
                "kind": policy.get("kind", "PowerPolicy"),
                "namespace": metadata.get("namespace"),
                "name": metadata.get("name"),
                "uid": metadata.get("uid"),
                "resourceVersion": metadata.get("resourceVersion"),
            },
        }
