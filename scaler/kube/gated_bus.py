"""A fleet's bus that says nothing while this process may not act, or the policy is paused.

What was to be said meanwhile is said when the gate opens: the newest of it alone. Hearing goes on.
"""

from __future__ import annotations

from collections.abc import Callable

from scaler.bus import FleetBus, FleetView
from scaler.operating_point import OperatingPoint


class GatedBus:
    def __init__(self, bus: FleetBus, may_speak: Callable[[], bool]) -> None:
        self._bus = bus
        self._may_speak = may_speak
        self._unsaid: OperatingPoint | None = None

    async def publish(self, point: OperatingPoint) -> None:
        self._unsaid = point
        await self._say()

    async def collect(self) -> FleetView:
        """Called each beat, so a gate that opens is noticed here."""
        await self._say()
        return await self._bus.collect()

    async def close(self) -> None:
        await self._bus.close()

    async def _say(self) -> None:
        if self._unsaid is not None and self._may_speak():
            point, self._unsaid = self._unsaid, None
            await self._bus.publish(point)
