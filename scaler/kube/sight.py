"""All that the controller sees of one target, kept up to date beside the loop that acts on it.

Owns reading the scale (when the target changed, and now and then) and the watches over the target, its pods,
and the budgets and autoscalers of its namespace. Moves nothing. Made and run by `policy_run`; read each beat.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import random
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from scaler.kube.api import Selection
from scaler.kube.conditions import Obstacle
from scaler.kube.disruption import budgets_over
from scaler.kube.errors import ApiError, DeniedError, NotFoundError
from scaler.kube.facts import SEEN_WITHIN_S, Facts
from scaler.kube.permissions import AUTOSCALERS, BUDGETS, PODS, SCALED_OBJECTS, Resource
from scaler.kube.pods import count_pods
from scaler.kube.rivals import TargetKey, autoscaler_on
from scaler.kube.rollout import rollout_of
from scaler.kube.store import Object, Store
from scaler.kube.target import Kinds, Scale, TargetKind, UnscalableError, scale_of
from scaler.kube.watches import Watches
from scaler.kube.watching import Waits, Watching

log = logging.getLogger(__name__)

_READ_EVERY_S = 30.0  # without a change: a resync
_MISSING_AGAIN_S = 5.0
_READ_AT_MOST_S = 1.0  # a target's status moves many times a second while it scales


class Reads(Protocol):
    """`KubeApi`."""

    async def get(self, resource: Resource, namespace: str, name: str, *, target: bool = False) -> Object: ...


class Sight:
    """`run` until cancelled. `scale` is None until it was read; `obstacle` says why it can't be."""

    def __init__(
        self,
        reads: Reads,
        watches: Watches,
        kinds: Kinds,
        key: TargetKey,
        api_version: str,
        *,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random,
    ) -> None:
        self.key = key
        self.kind: TargetKind | None = None
        self.scale: Scale | None = None
        self.obstacle: Obstacle | None = None
        self._reads = reads
        self._watches = watches
        self._kinds = kinds
        self._api_version = api_version
        self._clock = clock
        self._waits = Waits(rng)
        self._doubted = False
        self._wake = asyncio.Event()
        self._ready = asyncio.Event()
        self._picture: Facts | None = None
        self._held: dict[str, Watching] = {}

    @property
    def certain(self) -> bool:
        """Whether `scale` was read since the last write whose end is not known."""
        return self.scale is not None and not self._doubted

    def doubt(self) -> None:
        """A write may or may not have been done: the scale is read before anything else is."""
        self._doubted = True
        self._wake.set()

    def wrote(self, scale: Scale) -> None:
        self.scale = scale
        self._picture = None

    async def known(self) -> None:
        """Until the scale was read, and the pods were looked for once."""
        await self._ready.wait()
        await asyncio.gather(*(one.first_look() for one in list(self._held.values())))

    def facts(self) -> Facts | None:
        """None until the scale was read. Worked out once between two changes."""
        if self.scale is None or self.kind is None:
            return None
        if self._picture is None:
            self._picture = self._seen(self.scale, self.kind)
        return replace(
            self._picture,
            scale=self.scale,
            unseen=self._unseen(),
            uncounted=isinstance(self._store("pods").failure, DeniedError),
            rival_unseen=self._rival_unseen(),
        )

    def _seen(self, scale: Scale, kind: TargetKind) -> Facts:
        pods = list(self._items("pods"))
        counts = count_pods(pods)
        return Facts(
            scale=scale,
            counts=counts,
            rollout=rollout_of(self.key, next(iter(self._items("target")), None), counts),
            budgets=budgets_over(pods, self._items("budgets"), scale.replicas),
            rival=autoscaler_on(self.key, self._items("scaled objects"), self._items("autoscalers")),
            not_ready_first=kind.deletes_not_ready_first,
        )

    @property
    def complaint(self) -> Obstacle | None:
        """What can't be seen for want of a right: replicas are moved all the same, though never down."""
        for name in ("pods", "budgets"):
            failure = self._store(name).failure
            if isinstance(failure, DeniedError):
                return Obstacle("AccessDenied", f"{failure}: replicas are added, and none taken")
        return None

    async def run(self) -> None:
        try:
            while True:
                wait_s = await self._look()
                await asyncio.sleep(min(wait_s, _READ_AT_MOST_S))
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), max(0.0, wait_s - _READ_AT_MOST_S))
                self._wake.clear()
        finally:
            for name in list(self._held):
                self._let_go(name)

    async def _look(self) -> float:
        """Returns after how many seconds to look again, if nothing wakes it before."""
        key = self.key
        try:
            self.kind = await self._kinds.find(self._api_version, key.kind)
            found = scale_of(await self._reads.get(self.kind.scale, key.namespace, key.name, target=True))
        except UnscalableError as error:
            self.obstacle = Obstacle(error.reason, str(error))
        except NotFoundError:
            self.obstacle = Obstacle("TargetNotFound", f"{key} is not there")
            return _MISSING_AGAIN_S
        except DeniedError as error:
            self.obstacle = Obstacle("AccessDenied", str(error))
        except ApiError as error:
            # What was known stays: the next look says more.
            log.debug("%s: %s", key, error)
            return self._waits.after(error)
        else:
            self._waits.well()
            self._saw(self.kind, found)
        return _READ_EVERY_S

    def _saw(self, kind: TargetKind, scale: Scale) -> None:
        self._doubted = False
        self.wrote(scale)
        self.obstacle = None
        if not scale.selector:
            line = f"{self.key}: its scale names no selector: its pods can't be told from others"
            self.obstacle = Obstacle("TargetNotScalable", line)
        elif scale.replicas == 0:
            line = f"{self.key} is scaled to 0 by hand: it is left so until it has a replica again"
            self.obstacle = Obstacle("ScaledToZero", line)
        namespace, name = self.key.namespace, self.key.name
        one = Selection(kind.resource, namespace, fields=f"metadata.name={name}", target=True)
        self._hold("target", one)
        self._hold("budgets", Selection(BUDGETS, namespace))
        self._hold("autoscalers", Selection(AUTOSCALERS, namespace))
        self._hold("scaled objects", Selection(SCALED_OBJECTS, namespace))
        if scale.selector:
            self._hold("pods", Selection(PODS, namespace, labels=scale.selector))
            self._ready.set()

    def _hold(self, name: str, selection: Selection) -> None:
        if name in self._held and self._held[name].selection == selection:
            return
        self._let_go(name)
        self._held[name] = self._watches.hold(selection, self._changed(name))
        self._picture = None

    def _let_go(self, name: str) -> None:
        held = self._held.pop(name, None)
        if held is not None:
            self._watches.let_go(held.selection, self._changed(name))

    def _changed(self, name: str) -> Callable[[], None]:
        """Only the target itself can have changed its scale; the rest is read where it lies."""
        return self._target_changed if name == "target" else self._others_changed

    def _target_changed(self) -> None:
        self._picture = None
        self._wake.set()

    def _others_changed(self) -> None:
        self._picture = None

    def _items(self, name: str) -> tuple[Object, ...]:
        held = self._held.get(name)
        return () if held is None else tuple(held.store.items.values())

    def _store(self, name: str) -> Store:
        return self._held[name].store if name in self._held else Store()

    def _rival_unseen(self) -> str:
        """What was listed once is believed through an outage: a rival comes by a person's hand. A right that
        is denied comes no sooner, so then nothing is believed. A kind that the server does not have has no
        objects: there is no KEDA."""
        for name, words in (
            ("autoscalers", "HorizontalPodAutoscalers"),
            ("scaled objects", "KEDA ScaledObjects"),
        ):
            store = self._store(name)
            failure = store.failure
            if failure is None or isinstance(failure, NotFoundError):
                continue
            if isinstance(failure, DeniedError) or not store.synced:
                return f"{words} can't be read: {failure}"
        return ""

    def _unseen(self) -> str:
        now_s = self._clock()
        for name, words in (("pods", "pods"), ("budgets", "PodDisruptionBudgets")):
            store = self._store(name)
            if isinstance(store.failure, DeniedError):
                return f"{words} can't be read: {store.failure}"
            if store.deaf_for_s(now_s) == math.inf:
                return f"{words} not seen yet"
            if store.deaf_for_s(now_s) > SEEN_WITHIN_S:
                return f"{words} last seen {store.deaf_for_s(now_s):.0f} s ago"
        target = self._store("target")
        # A kind that the controller may scale and not list shows its rollouts by its pods alone.
        if target.synced and target.deaf_for_s(now_s) > SEEN_WITHIN_S:
            return f"{self.key} last seen {target.deaf_for_s(now_s):.0f} s ago"
        return ""
