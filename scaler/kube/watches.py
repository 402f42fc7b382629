"""The watches that are open, each shared by all who need it.

Owns their tasks. Two policies of a namespace look at the same budgets and autoscalers: one watch serves both,
and ends when the last of them lets go. Called by `controller` and `sight`.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable

from scaler.kube.api import Selection
from scaler.kube.watching import Source, Watching

log = logging.getLogger(__name__)

_AGAIN_S = 5.0


class _Open:
    def __init__(self, watching: Watching, task: asyncio.Task[None]) -> None:
        self.watching = watching
        self.task = task
        self.listeners: list[Callable[[], None]] = []


class Watches:
    """Everything runs on one event loop."""

    def __init__(self, source: Source, clock: Callable[[], float], rng: random.Random) -> None:
        self._source = source
        self._clock = clock
        self._rng = rng
        self._open: dict[Selection, _Open] = {}

    def hold(self, selection: Selection, changed: Callable[[], None]) -> Watching:
        """`changed` is called after each change, until it is let go."""
        found = self._open.get(selection)
        if found is None:
            watching = Watching(
                self._source,
                selection,
                clock=self._clock,
                rng=self._rng,
                changed=lambda: self._tell(selection),
            )
            task = asyncio.create_task(_for_ever(watching), name=f"watch {selection.resource}")
            found = self._open[selection] = _Open(watching, task)
        found.listeners.append(changed)
        return found.watching

    def let_go(self, selection: Selection, changed: Callable[[], None]) -> None:
        found = self._open.get(selection)
        if found is None:
            return
        found.listeners.remove(changed)
        if not found.listeners:
            del self._open[selection]
            found.task.cancel()
            found.watching.ended()

    async def close(self) -> None:
        tasks = [one.task for one in self._open.values()]
        self._open.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _tell(self, selection: Selection) -> None:
        found = self._open.get(selection)
        for listener in list(found.listeners) if found else ():
            listener()


async def _for_ever(watching: Watching) -> None:
    """A mistake in this program must not leave anyone blind without a word."""
    while True:
        try:
            await watching.run()
        except Exception:
            log.exception("watch %s failed; begun anew", watching.selection.resource)
            await asyncio.sleep(_AGAIN_S)
