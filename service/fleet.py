"""The replica's side of the fleet: reports up, operating points down, by whichever link.

Owns when a report is due, what is done with an operating point, and that serving never depends on either:
while the other side is away the last operating point stays in force, and the link is opened again with
backoff and jitter. `fleet_grpc` is a stream to the scaler itself, `fleet_redis` meets it in a Redis;
`fleet_opening` chooses. Started by `server`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from minwatt.v1.backoff import FIRST_BACKOFF_S, backoff_s
from minwatt.v1.fleet_pb2 import OperatingPoint, ReplicaReport
from service.replica import Sources
from service.report import report

log = logging.getLogger(__name__)

REPORT_EVERY_S = 1.0
MOST_TOLD = 10  # reasons of one absence
LAST_REPORT_S = 1.0  # for the report that ends the membership


class AwayError(Exception):
    """The other side can't be reached; `str` says why, in a word or a line."""


class Session(Protocol):
    """While the other side is there."""

    async def send(self, message: ReplicaReport, *, last: bool) -> None:
        """`last`: the replica is gone after it."""

    def points(self) -> AsyncIterator[OperatingPoint]:
        """The one in force at once, then each newer; ends when the other side says so."""


class Link(Protocol):
    def __str__(self) -> str:
        """Where it leads, for the log."""

    def open(self) -> AbstractAsyncContextManager[Session]:
        """Raises AwayError, as what is done within does."""


class FleetMember:
    """`run` is its task; `changed` sends a report at once; `leave` sends the last one.

    `retuned` is called when another operating point is in force.
    """

    def __init__(self, link: Link, fleet: str, sources: Sources, retuned: Callable[[], None]) -> None:
        self._link = link
        self._fleet = fleet
        self._sources = sources
        self._retuned = retuned
        self._changed = asyncio.Event()
        self._leaving = asyncio.Event()
        self._sequence = 0
        self._reported_s = time.monotonic()

    def changed(self) -> None:
        self._changed.set()

    async def run(self) -> None:
        """Until `leave`; joins again whenever the link breaks."""
        draw = random.Random()
        failures, told = 0, set[str]()
        while not self._leaving.is_set():
            before = self._sequence
            try:
                await self._member()
            except AwayError as away:
                failures = 1 if self._sequence > before + 1 else failures + 1
                if failures == 1:
                    told.clear()
                # Who was unavailable may come back, and let this replica join no more.
                if str(away) not in told and len(told) < MOST_TOLD:
                    told.add(str(away))
                    log.warning("%s is away (%s): serving on as told last", self._link, away)
                await self._pause(backoff_s(failures, draw))
            except Exception:  # a report that can't be made: serving goes on, and so do the tries
                failures += 1
                log.exception("no member of the fleet at %s", self._link)
                await self._pause(backoff_s(failures, draw))
            else:
                failures = 0
                await self._pause(FIRST_BACKOFF_S)  # the scaler ended the stream: it restarts

    async def leave(self, run: asyncio.Task[None]) -> None:
        """Ends `run` after one more report, or without it when nobody listens."""
        self._leaving.set()
        self._changed.set()
        await asyncio.wait({run}, timeout=LAST_REPORT_S)
        await _ended(run)

    async def _pause(self, wait_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._leaving.wait()

    async def _member(self) -> None:
        """As long as the link holds. Raises AwayError when it breaks."""
        async with self._link.open() as session:
            listening = asyncio.create_task(self._listen(session))
            try:
                while not listening.done():
                    self._changed.clear()
                    leaving = self._leaving.is_set()
                    await session.send(self._next_report(), last=leaving)
                    if leaving:
                        return
                    await self._until_next(listening)
                await listening
            finally:
                await _ended(listening)

    async def _until_next(self, listening: asyncio.Task[None]) -> None:
        """A second, a change, or the link's end."""
        changed = asyncio.create_task(self._changed.wait())
        try:
            await asyncio.wait(
                {changed, listening}, timeout=REPORT_EVERY_S, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            changed.cancel()

    async def _listen(self, session: Session) -> None:
        async for point in session.points():
            replica = self._sources.replica
            problem = replica.operate_at(point)
            if problem is not None:
                log.warning("%s: not followed", problem)
            else:
                log.info("operating point %d: %s, %s", point.version, replica.limits, replica.clocks)
                self._retuned()
            self._changed.set()

    def _next_report(self) -> ReplicaReport:
        now_s = time.monotonic()
        interval_s, self._reported_s = now_s - self._reported_s, now_s
        self._sequence += 1
        message = report(self._sources, self._sequence, interval_s)
        message.fleet = self._fleet
        return message


async def _ended(task: asyncio.Task[None]) -> None:
    while not task.done():  # more than once, if need be: redis-py swallows it while it connects
        task.cancel()
        await asyncio.wait({task}, timeout=LAST_REPORT_S)
    if not task.cancelled():
        task.exception()  # was told of, or comes too late to matter
