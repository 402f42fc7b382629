"""A replica by hand, for tests of the buses: the server's own link to the fleet, and nothing behind it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

from minwatt.v1 import fleet_pb2
from scaler.bus import FleetBus
from scaler.operating_point import OperatingPoint
from scaler.report import Report
from service.fleet import Link, Session

WAIT_S = 30.0  # a busy machine is no failure


def point(version: int) -> OperatingPoint:
    return OperatingPoint(
        version=version, max_batch_texts=8, max_batch_tokens=512, max_delay_s=0.01, slo_latency_s=0.05
    )


def report(replica_id: str = "a", **fields: Any) -> fleet_pb2.ReplicaReport:
    return fleet_pb2.ReplicaReport(replica_id=replica_id, state=fleet_pb2.REPLICA_STATE_READY, **fields)


class Replica:
    """Made by `joined`; left without a word where no report was its last."""

    def __init__(self, stack: AsyncExitStack, session: Session) -> None:
        self._stack = stack
        self._session = session
        points = session.points()
        assert isinstance(points, AsyncGenerator)
        self._points = points

    @classmethod
    async def joined(cls, link: Link) -> Replica:
        stack = AsyncExitStack()
        return cls(stack, await stack.enter_async_context(link.open()))

    async def say(self, message: fleet_pb2.ReplicaReport, *, last: bool = False) -> None:
        async with asyncio.timeout(WAIT_S):
            await self._session.send(message, last=last)

    async def hear(self) -> int:
        """The version of the next operating point that is told."""
        async with asyncio.timeout(WAIT_S):
            told: OperatingPoint = await anext(self._points)
            return told.version

    async def leave(self) -> None:
        await self._points.aclose()
        await self._stack.aclose()


Join = Callable[..., Awaitable[Replica]]


async def until(bus: FleetBus, enough: Callable[[frozenset[str], list[Report]], bool]) -> list[Report]:
    """All that is handed out until it is enough."""
    heard: list[Report] = []
    async with asyncio.timeout(WAIT_S):
        while True:
            view = await bus.collect()
            heard.extend(view.reports)
            if enough(view.members, heard):
                return heard
            await asyncio.sleep(0.005)
