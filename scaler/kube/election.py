"""Runs for the Lease, renews it, and says at each moment whether this process may act.

The `kubernetes` client has an election (`kubernetes.leaderelection`, `LeaseLock`), and it is not used: it
measures its deadlines on the wall clock; a call that hangs has no limit, so that a leader learns too late
that it is one no more; it keeps no count of transitions, lets go of no lease at its end, spells a time
without microseconds once in a million (the server refuses that), and its asyncio half writes local time as
UTC. The protocol is the same as its own and client-go's, so both may stand for one Lease.

**A lapse is not a loss.** When the API server is away nobody can renew, and nobody else can take the lease
either. The fence closes, so nothing is written; but the fleet is still watched, and what was learnt is kept.
If the lease is still ours when the server is back, the fence opens again. Only when another holds it, or
nobody can tell for too long, is the term over.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Callable
from typing import Protocol

from scaler.kube.errors import ApiError, ConflictError, DeposedError, NotFoundError
from scaler.kube.lease import (
    LeaseRules,
    Object,
    SeenLease,
    first_lease,
    held_lease,
    looked,
    may_take,
    released_lease,
)
from scaler.kube.permissions import LEASES, Resource

# Replicas that joined a leader which is cut off from the API server are not heard by the next one.
_LONGEST_LAPSE_S = 600.0


class LeaseStore(Protocol):
    """`KubeApi`, without a fence."""

    async def get(self, resource: Resource, namespace: str, name: str) -> Object: ...

    async def create(self, resource: Resource, namespace: str, body: Object) -> Object: ...

    async def replace(self, resource: Resource, namespace: str, name: str, body: Object) -> Object: ...


class Election:
    """`run` for as long as the process stands for it; then `release`."""

    def __init__(
        self,
        store: LeaseStore,
        namespace: str,
        name: str,
        identity: str,
        *,
        rules: LeaseRules | None = None,
        clock: Callable[[], float] = time.monotonic,
        unix_s: Callable[[], float] = time.time,
        rng: random.Random | None = None,
    ) -> None:
        self.identity = identity
        self.problem: ApiError | None = None
        self._store = store
        self._namespace = namespace
        self._name = name
        self._rules = rules or LeaseRules()
        self._clock = clock
        self._unix_s = unix_s
        self._rng = rng or random.Random()
        self._seen: SeenLease | None = None
        self._term: int | None = None  # transitions of the lease that is ours; None: it is not
        self._renewed_s = -math.inf  # when the last renewal that succeeded was sent

    @property
    def holder(self) -> str:
        """As last seen; empty: nobody's, or not known."""
        return "" if self._seen is None else self._seen.holder

    @property
    def term(self) -> int | None:
        """The lease's transitions while it is ours, a lapse included; None: another's."""
        if self._term is not None and self._clock() - self._renewed_s > _LONGEST_LAPSE_S:
            return None
        return self._term

    @property
    def may_act(self) -> bool:
        return self._term is not None and self._clock() < self._renewed_s + self._rules.renew_deadline_s

    def check(self) -> None:
        """The fence: raises DeposedError. Asked immediately before each write."""
        if not self.may_act:
            raise DeposedError("this controller may not be the leader any more: nothing is written")

    async def run(self) -> None:
        while True:
            await self.attempt()
            await asyncio.sleep(self._rules.wait_s(self._rng))

    async def attempt(self) -> None:
        try:
            await self._attempt()
            self.problem = None
        except ConflictError:
            pass  # another was faster: the next look says who
        except ApiError as error:
            self.problem = error

    async def release(self) -> None:
        """After the last write. What can't be released runs out by itself."""
        if self._term is None or self._seen is None:
            return
        self._term = None
        try:
            try:
                await self._let_go(self._seen)
            except ConflictError:  # a renewal that was cut short may have been done
                lease = await self._store.get(LEASES, self._namespace, self._name)
                seen = looked(self._seen, lease, self._clock())
                if seen.holder == self.identity:
                    await self._let_go(seen)
        except ApiError as error:
            self.problem = error

    async def _let_go(self, seen: SeenLease) -> None:
        released = released_lease(seen, self._unix_s())
        await self._store.replace(LEASES, self._namespace, self._name, released)

    async def _attempt(self) -> None:
        if self.may_act and self._seen is not None:
            try:  # at the version that we wrote: of a slow server each answer counts
                await self._take(self._seen)
            except (ConflictError, NotFoundError):
                pass  # somebody has written it since, or deleted it
            else:
                return
        try:
            lease = await self._store.get(LEASES, self._namespace, self._name)
        except NotFoundError:
            await self._make()
            return
        seen = self._seen = looked(self._seen, lease, self._clock())
        if seen.holder != self.identity or seen.transitions != self._term:
            self._term = None
        if may_take(seen, self.identity, self._clock()):
            await self._take(seen)

    async def _make(self) -> None:
        """One that was deleted is held by whom it named for as long as if it were there: as far as this copy
        has seen it. A copy that starts just then can't know; who deletes a lease in use takes that on."""
        seen = self._seen
        if seen is not None and not may_take(seen, self.identity, self._clock()):
            return
        sent_s = self._clock()
        term = 0 if seen is None else seen.transitions + 1
        first = first_lease(self._name, self.identity, self._rules, self._unix_s(), term)
        self._have(await self._store.create(LEASES, self._namespace, first), sent_s)

    async def _take(self, seen: SeenLease) -> None:
        sent_s = self._clock()
        wanted = held_lease(seen, self.identity, self._rules, self._unix_s())
        self._have(await self._store.replace(LEASES, self._namespace, self._name, wanted), sent_s)

    def _have(self, lease: Object, sent_s: float) -> None:
        self._seen = looked(self._seen, lease, sent_s)
        self._term = self._seen.transitions
        self._renewed_s = sent_s
