"""How the scaler hears replicas and tells them their operating point: the protocol every bus keeps.

A replica belongs to one fleet, by name; a hub carries any number of them. `embedded_bus` is the one that
needs no other server, `redis_bus` the one for large fleets, `bus_opening` chooses. Both pass
tests/contract/test_fleet_bus.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from scaler.operating_point import OperatingPoint
from scaler.pages import Page
from scaler.report import Report


@dataclass(frozen=True, slots=True)
class FleetView:
    """Who is joined now, and what was reported since the last look, in pages, oldest first.

    Reports of replicas that have left since are there too: their last joules count. While the bus can't tell,
    `problem` says why and `members` are those it knew last: nobody has left by that. `told_version` is the
    newest operating point that the bus holds, of whichever scaler.
    """

    members: frozenset[str]
    pages: tuple[Page, ...]
    problem: str = ""
    told_version: int = 0

    @classmethod
    def of(
        cls, members: frozenset[str], reports: Sequence[Report], problem: str = "", told_version: int = 0
    ) -> FleetView:
        """From reports that are in no pages yet."""
        return cls(members, (Page.of(reports),) if reports else (), problem, told_version)

    @property
    def reports(self) -> tuple[Report, ...]:
        return tuple(report for page in self.pages for report in page.reports)


class FleetBus(Protocol):
    """One fleet's. No method raises because a server is away."""

    async def publish(self, point: OperatingPoint) -> None:
        """Tells every member, and each replica that joins from now on, at once on joining.

        An older version never replaces a newer one, nor a scaler that was taken over from the one that took
        over.
        """

    async def collect(self) -> FleetView:
        """Each report is handed out once."""

    async def close(self) -> None:
        """This scaler asks for the fleet no more; its replicas go on at their last operating point."""


class Hub(Protocol):
    @property
    def address(self) -> str:
        """What replicas join, for people."""

    def fleet(self, name: str) -> FleetBus:
        """The same one until it is closed. Raises ValueError on what is no name of a fleet."""

    async def strays(self) -> Mapping[str, int]:
        """Replicas by fleet, of fleets that nobody here has asked for: is one of them misnamed?"""

    async def close(self) -> None:
        """Closes the fleets too."""
