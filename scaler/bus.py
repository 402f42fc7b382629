"""How the scaler hears replicas and tells them their operating point: the protocol every bus keeps.

`embedded_bus` is the one that needs no other server. Every implementation passes
tests/contract/test_fleet_bus.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from scaler.operating_point import OperatingPoint
from scaler.report import Report


@dataclass(frozen=True, slots=True)
class FleetView:
    """Who is joined now, and what was reported since the last look, oldest first.

    Reports of replicas that have left since are there too: their last joules count.
    """

    members: frozenset[str]
    reports: tuple[Report, ...]


class FleetBus(Protocol):
    async def publish(self, point: OperatingPoint) -> None:
        """Tells every member, and each replica that joins from now on, at once on joining."""

    async def collect(self) -> FleetView:
        """Each report is handed out once."""

    async def close(self) -> None: ...
