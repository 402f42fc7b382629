"""Writes policies' statuses, each when it is worth it, and the Events of conditions that changed with it.

Owns the round over all policies and what a failure means for it; what a status says is `status`. One policy's
trouble holds up no other; the API server's holds up all of them, for the round: the next one goes on behind
the policy that it showed at, as a webhook of one namespace may look like it. Run by `leading`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from scaler.kube.decision_events import EventNote, condition_events
from scaler.kube.errors import (
    ApiError,
    ConflictError,
    DeposedError,
    NotFoundError,
    ThrottledError,
    UnavailableError,
)
from scaler.kube.permissions import POLICY_STATUS, Resource
from scaler.kube.status import status_of
from scaler.kube.status_changes import worth_writing
from scaler.kube.status_moment import StatusMoment
from scaler.kube.store import Key, Object

log = logging.getLogger(__name__)

_EVERY_S = 1.0
_AFTER_FAILURE_S = 5.0
_SAID_EVERY_S = 300.0


class StatusStore(Protocol):
    """A fenced `KubeApi`."""

    async def replace(self, resource: Resource, namespace: str, name: str, body: Object) -> Object: ...


class Policies(Protocol):
    """What there is to say of each policy, and where the server's answers go."""

    def moments(self) -> Mapping[Key, tuple[Object, StatusMoment]]: ...

    def wrote(self, obj: Object) -> None: ...


class StatusWrites:
    def __init__(
        self,
        policies: Policies,
        store: StatusStore,
        note: Callable[[Object, EventNote], None],
        clock: Callable[[], float],
    ) -> None:
        self._policies = policies
        self._store = store
        self._note = note
        self._clock = clock
        self._said_s: dict[Key, float] = {}
        self._tried: Key = ("", "")
        # The status whose Events were noted last, and the uid of its policy.
        self._told: dict[Key, tuple[str, Mapping[str, Any] | None]] = {}

    async def run(self) -> None:
        while True:
            wait_s = await self.round()
            await asyncio.sleep(wait_s)

    async def round(self) -> float:
        """Returns how long to wait before the next."""
        moments = self._policies.moments()
        self._told = {key: told for key, told in self._told.items() if key in moments}
        self._said_s = {key: said_s for key, said_s in self._said_s.items() if key in moments}
        # From where the last round was broken off: one that always fails must not keep the same ones waiting.
        for key in sorted(moments, key=lambda key: (key <= self._tried, key)):
            obj, moment = moments[key]
            self._tried = key
            try:
                await self._one(key, obj, moment)
            except (ConflictError, NotFoundError):
                continue  # the watch brings what it is now, or that it is gone
            except ThrottledError as error:
                return max(_EVERY_S, error.retry_after_s)
            except (UnavailableError, DeposedError) as error:
                return max(_AFTER_FAILURE_S, error.retry_after_s)
            except ApiError as error:
                self._say(key, error)
            except Exception:
                log.exception("%s/%s: its status can't be made", *key)
        return _EVERY_S

    async def _one(self, key: Key, obj: Object, moment: StatusMoment) -> None:
        before: Mapping[str, Any] | None = obj.get("status")
        after = status_of(before, moment)
        metadata = obj.get("metadata") or {}
        uid = str(metadata.get("uid") or "")
        if key not in self._told or self._told[key][0] != uid:
            self._told[key] = uid, before
        if not worth_writing(before, after, moment.at_s):
            self._tell(key, obj, uid, before)  # of a write that was done, and its answer lost
            return
        body = {
            "apiVersion": obj.get("apiVersion", "minwatt.dev/v1alpha1"),
            "kind": obj.get("kind", "PowerPolicy"),
            "metadata": {
                name: metadata.get(name) for name in ("name", "namespace", "uid", "resourceVersion")
            },
            "status": after,
        }
        answer = await self._store.replace(POLICY_STATUS, *key, body)
        self._policies.wrote(answer)
        self._tell(key, obj, uid, after)

    def _tell(self, key: Key, obj: Object, uid: str, shown: Mapping[str, Any] | None) -> None:
        """The Events between what was told last and what the server shows now."""
        told = self._told[key][1]
        if shown is None or shown is told:
            return
        for event in condition_events(told, shown):
            self._note(obj, event)
        self._told[key] = uid, shown

    def _say(self, key: Key, error: ApiError) -> None:
        """Refused: it can't be said where it belongs."""
        if self._clock() - self._said_s.get(key, -_SAID_EVERY_S) >= _SAID_EVERY_S:
            self._said_s[key] = self._clock()
            log.warning("%s/%s: its status is not written: %s", *key, error)
