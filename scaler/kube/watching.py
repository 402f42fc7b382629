"""A selection of objects, kept as the API server has them: list, then watch, for ever.

Owns when to list anew (the watch fell too far behind, or an hour's quarter passed), how long to wait after a
failure, and waking who waits for changes. What the objects mean is others' matter. A watch that breaks loses
nothing: it goes on from the last version that was heard, bookmarks included, and where the server has
forgotten that version (410) the list is read again. Called by `controller` and `sight`.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Protocol

from scaler.kube.api import Listed, Object, Selection
from scaler.kube.errors import ApiError, DeniedError, NotFoundError, ThrottledError, UnavailableError
from scaler.kube.store import Key, Store

# A connection that hangs half open is noticed when its watch should have ended: not the usual five minutes.
_WATCH_S = (90, 150)
_LIST_AGAIN_S = 900.0  # a resync: whatever a watch may have missed, a list says
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 30.0
_REFUSED_WAIT_S = 30.0  # a role or a kind that is not there comes by a person's hand
_GONE_AFTER = 4  # answers in a row, 45 s at least: a server that has just started may not know its kinds
_STEADY_S = 5.0  # a watch that stood for so long was no failure


class Source(Protocol):
    """`KubeApi`, or what stands in for it."""

    async def list_all(self, selection: Selection) -> Listed: ...

    def watch(self, selection: Selection, version: str, limit_s: int) -> AsyncGenerator[Object, None]: ...


class Waits:
    """How long to wait after each failure in a row: twice the last, with jitter; what a server asks for."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._failures = 0

    def after(self, error: ApiError) -> float:
        if isinstance(error, DeniedError | NotFoundError):
            return self._rng.uniform(0.5, 1.0) * _REFUSED_WAIT_S
        longest_s = min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2.0 ** min(self._failures, 10))
        self._failures += 1
        wait_s = self._rng.uniform(0.5, 1.0) * longest_s
        return max(wait_s, error.retry_after_s)

    def well(self) -> None:
        self._failures = 0


class Watching:
    """`run` until cancelled; `store` is read at any time; `changed` is called after each change."""

    def __init__(
        self,
        source: Source,
        selection: Selection,
        *,
        clock: Callable[[], float],
        rng: random.Random,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self.selection = selection
        self.store = Store()
        self._source = source
        self._clock = clock
        self._rng = rng
        self._changed = changed
        self._waits = Waits(rng)
        self._listed_s = 0.0
        self._not_there = 0
        self._tried = asyncio.Event()

    @property
    def items(self) -> Mapping[Key, Object]:
        """As the store has them, believed through an outage; none once the server has no such kind any more,
        which took them along."""
        return {} if self._not_there >= _GONE_AFTER else self.store.items

    async def first_look(self) -> None:
        """Until a first list was had, or refused, or nobody watches any more."""
        await self._tried.wait()

    def ended(self) -> None:
        """Called when `run` is cancelled."""
        self._tried.set()

    async def run(self) -> None:
        relist = True
        while True:
            try:
                if relist or self._clock() - self._listed_s >= _LIST_AGAIN_S:
                    await self._list()
                    relist = False
                await self._watch()
            except ApiError as error:
                # Too old a version, or an answer that makes no sense: the list is the truth. What was merely
                # not to be reached is asked again from where it was.
                relist = (
                    relist or not isinstance(error, UnavailableError | ThrottledError) or error.status == 500
                )
                self.store.lost(self._clock(), error)
                self._not_there = self._not_there + 1 if isinstance(error, NotFoundError) else 0
                self._tell()
                await asyncio.sleep(self._waits.after(error))

    async def _list(self) -> None:
        listed = await self._source.list_all(self.selection)
        self._listed_s = self._clock()
        changed = self.store.listed(listed.items, listed.version) or self._not_there > 0
        self._not_there = 0
        self.store.heard()
        if changed:
            self._tell()

    async def _watch(self) -> None:
        began_s = self._clock()
        events = self._source.watch(self.selection, self.store.version, self._rng.randint(*_WATCH_S))
        try:
            async for event in events:
                was_lost = self.store.lost_s is not None
                self.store.heard()
                if self.store.happened(event) or was_lost:
                    self._tell()
        finally:
            await events.aclose()
            stood_s = self._clock() - began_s
            if stood_s >= _STEADY_S:
                self._waits.well()
        if stood_s < _STEADY_S:  # a server that ends each watch at once would be asked in a loop
            raise UnavailableError(f"watch {self.selection.resource}: ended after {stood_s:.1f} s")

    def _tell(self) -> None:
        self._tried.set()
        self._changed()
