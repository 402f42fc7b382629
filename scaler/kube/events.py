"""Writes Events about policies: best effort, beside the loops, never in their way.

Owns the Event objects' fields, the queue, and trying again; what is worth one is `decision_events`, which are
written `event_series`. Called by the controller while it leads.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from scaler.kube.errors import (
    ApiError,
    ConflictError,
    DeposedError,
    NotFoundError,
    ThrottledError,
    UnavailableError,
)
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
_AGAIN_S, _LONGEST_AGAIN_S = 1.0, 30.0
_KEPT_S = 900.0  # what can't be written for longer is no news


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
    name: str  # of the Event to create: the same at each try, so that none is there twice


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
        self._created += 1
        unique = f"{int(write.at_s * 1e6):x}{self._created % 4096:03x}"
        name = f"{key_of(policy)[1][:_NAME_CHARS].rstrip('.-')}.{unique}"
        try:
            self._queue.put_nowait(_Queued(policy, write, name))
        except asyncio.QueueFull:
            self._drop(write, "too many wait")

    async def run(self) -> None:
        wait_s = _AGAIN_S
        while True:
            queued = await self._queue.get()
            try:
                patience_s = await self._deliver(queued)
            finally:
                self._queue.task_done()
            if patience_s is None:
                wait_s = _AGAIN_S
                continue
            await asyncio.sleep(max(wait_s, patience_s))
            wait_s = min(_LONGEST_AGAIN_S, 2.0 * wait_s)

    async def flush(self, limit_s: float) -> None:
        """What is queued, for so long at most."""
        try:
            await asyncio.wait_for(self._queue.join(), limit_s)
        except TimeoutError:
            log.warning("%d events not written", self._queue.qsize())

    async def _deliver(self, queued: _Queued) -> float | None:
        """None: done with. Else it is at the queue's end again, so that one namespace's trouble holds up no
        other's, and what is returned is how long the server asks to wait."""
        try:
            await self._write(queued)
        except (UnavailableError, ThrottledError, DeposedError) as error:
            if self._unix_s() - queued.write.at_s > _KEPT_S or self._queue.full():
                self._drop(queued.write, str(error))
            else:
                self._queue.put_nowait(queued)
            return error.retry_after_s
        except ApiError as error:  # the same again would be refused again
            self._drop(queued.write, str(error))
        return None

    def _drop(self, write: Create | Count, why: str) -> None:
        """If it happens again it is told anew."""
        noted = write.noted if isinstance(write, Create) else write.first
        log.warning("event not written: %s: %s: %s", noted.reason, noted.note, why)
        if isinstance(write, Create):
            self._state = forgotten(self._state, noted)

    async def _write(self, queued: _Queued) -> None:
        namespace, write = key_of(queued.policy)[0], queued.write
        if isinstance(write, Create):
            try:
                await self._writes.create(EVENTS, namespace, self._event(queued.policy, queued.name, write))
            except ConflictError:
                log.debug("%s is there: an earlier try was answered too late", queued.name)
            alive = firsts(self._state)
            self._names = {first: told for first, told in self._names.items() if first in alive}
            self._names[write.noted] = queued.name
            return
        name = self._names.get(write.first, "")
        if not name:
            return  # the first is not written yet: what is told next counts this one too
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
