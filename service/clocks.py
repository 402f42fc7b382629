"""Keeps the card at the clock that was asked for last, off the event loop.

Owns the thread that talks to the card, what is in force, and why it is not what was asked. Asked by
`batcher`, which knows from the operating point and the reflex what is wanted; `energy.clocks` is the real
card, `node_agent` one that another process sets. Serving never depends on it: a card that can't be set stays
as it is, and the reports say so.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from energy.clocks import ClocksUnavailable, GpuClocks
from energy.gpu import GpuError, GpuGone, Refused
from minwatt.v1.errors import UsageError

RETRY_S = 5.0  # after a failure that need not last
NOT_ALLOWED = "the replica was started without --gpu-clocks"

log = logging.getLogger(__name__)


class NotInForce(GpuError):  # noqa: N818 - it names a state of the card
    """What was asked for is not refused, yet the card is at its own clocks now."""


class ClockControl(Protocol):
    """A card whose clock may be set. Calls block for milliseconds."""

    @property
    def renew_s(self) -> float | None:
        """How often `lock` is to be called again while a clock is held; None: it lasts."""
        ...

    def lock(self, clock_mhz: int) -> int:
        """Holds the nearest clock there is, and returns it. Raises GpuError; Refused if it never will."""
        ...

    def restore(self) -> None:
        """Gives the clock back to the driver. Raises GpuError."""
        ...

    def close(self) -> None:
        """Restores the clock and lets go of the card. Never raises."""
        ...


def clocks_of_this_machine() -> ClockControl:
    """Those of the card that this process computes on. Raises UsageError."""
    try:
        return GpuClocks.of_this_machine()
    except ClocksUnavailable as error:
        raise UsageError(str(error)) from error


class CardClock:
    """`ask` from the event loop; `run` is its task. Without a control nothing is ever set."""

    def __init__(self, control: ClockControl | None) -> None:
        self.in_force_mhz = 0  # locked by this replica; 0: the card is left alone
        self._control = control
        self._asked_mhz = 0
        self._changed = asyncio.Event()
        self._why_not = "" if control else NOT_ALLOWED
        self._never = control is None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="clock")

    @property
    def refused(self) -> str:
        """Why the card is not at the clock that was asked for; empty where none is asked for, or it is."""
        return self._why_not if self._asked_mhz else ""

    def ask(self, clock_mhz: int) -> None:
        """The clock to have from now on; 0: the driver's own."""
        if clock_mhz != self._asked_mhz:
            self._asked_mhz = clock_mhz
            self._changed.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            again_s = self._again_s()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(again_s):
                    await self._changed.wait()
            self._changed.clear()
            if not self._never:
                await self._set(self._asked_mhz)

    def _again_s(self) -> float | None:
        """When the card is to be asked again though no other clock is; None: not."""
        if self._never or self._control is None:
            return None
        if self._why_not:
            return RETRY_S
        return self._control.renew_s if self._asked_mhz else None

    async def _set(self, clock_mhz: int) -> None:
        """On the thread of its own; the newest word waits meanwhile."""
        try:
            self.in_force_mhz = await asyncio.get_running_loop().run_in_executor(
                self._thread, self._reach, clock_mhz
            )
        except GpuError as error:
            self._never = isinstance(error, Refused)
            if isinstance(error, GpuGone | NotInForce):
                self.in_force_mhz = 0
            if str(error) != self._why_not:
                log.warning("gpu-clocks: %d MHz: %s; serving on without", clock_mhz, error)
            self._why_not = str(error)
        else:
            self._why_not = ""

    def _reach(self, clock_mhz: int) -> int:
        """On the clock's thread. Returns what is in force then."""
        if self._control is None:
            return 0
        if clock_mhz:
            return self._control.lock(clock_mhz)
        self._control.restore()
        return 0

    def close(self) -> None:
        """Gives the clock back, from any thread, also while a call is under way."""
        self._never = True
        if self._control is not None:
            self._control.close()
        self._thread.shutdown(wait=False)
        self.in_force_mhz = 0
