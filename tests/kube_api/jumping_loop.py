"""An event loop whose time does not pass while something is to be done, and jumps ahead when nothing is.

Everything that waits for one another must run on it: the stand-in, the controller and the replicas of a
scenario, over real sockets; who asks another process does so while time is `standing`. Five minutes then take
as long as what happens in them, and no outcome depends on how busy the machine is.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

_GRACE_S = 0.001  # a socket of this machine delivers at once; this is for the kernel's sake
_STUCK_S = 20.0


class _Selector(selectors.DefaultSelector):
    def __init__(self) -> None:
        super().__init__()
        self.jump: Callable[[float], None] = lambda _seconds: None
        self.holds = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if timeout is None or self.holds:
            return self._wait_without_timers()
        ready = super().select(_GRACE_S)
        if not ready:
            self.jump(timeout or 0.0)
        return ready

    def _wait_without_timers(self) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(_STUCK_S)
        if not ready:
            raise RuntimeError("the loop waits for nothing that could come")
        return ready


class JumpingLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._waits = _Selector()
        super().__init__(self._waits)
        self._jumped_s = 0.0
        self._waits.jump = self._jump

    def time(self) -> float:
        return self._jumped_s

    @contextmanager
    def standing(self) -> Iterator[None]:
        """Time does not pass within: no timer ends before a process outside has answered."""
        self._waits.holds += 1
        try:
            yield
        finally:
            self._waits.holds -= 1

    def _jump(self, seconds: float) -> None:
        self._jumped_s += max(0.0, seconds)


def run_jumping(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        runner.run(main())
