"""The replica's side of the fleet: one stream to the scaler, reports up, operating points down.

Serving never depends on it: while the scaler is away the last operating point stays in force, and the
stream is opened again with backoff and jitter. Started by `server`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable
from typing import Any

import grpc

from minwatt.v1.fleet_pb2 import OperatingPoint, ReplicaReport
from minwatt.v1.fleet_pb2_grpc import FleetStub
from service.replica import Sources
from service.report import report

log = logging.getLogger(__name__)

REPORT_EVERY_S = 1.0
FIRST_BACKOFF_S, LAST_BACKOFF_S = 0.2, 5.0
LAST_REPORT_S = 1.0  # for the report that ends the stream

CHANNEL_OPTIONS = [
    ("grpc.enable_retries", 0),
    ("grpc.use_local_subchannel_pool", 1),  # the backoff is ours, not one that earlier channels left behind
]

Join = grpc.aio.StreamStreamCall[ReplicaReport, OperatingPoint]


def backoff_s(failures: int, draw: random.Random) -> float:
    """Before try `failures` + 1: doubles up to a bound; half is jitter, so that a fleet is spread."""
    bound_s: float = min(LAST_BACKOFF_S, FIRST_BACKOFF_S * 2 ** min(failures - 1, 10))
    return bound_s * draw.uniform(0.5, 1.0)


class FleetMember:
    """`run` is its task; `changed` sends a report at once; `leave` sends the last one.

    `retuned` is called when another operating point is in force.
    """

    def __init__(self, scaler: str, sources: Sources, retuned: Callable[[], None]) -> None:
        self._scaler = scaler
        self._sources = sources
        self._retuned = retuned
        self._changed = asyncio.Event()
        self._leaving = asyncio.Event()
        self._sequence = 0
        self._reported_s = time.monotonic()

    def changed(self) -> None:
        self._changed.set()

    async def run(self) -> None:
        """Until `leave`; joins again whenever the stream breaks."""
        draw = random.Random()
        failures = 0
        while not self._leaving.is_set():
            before = self._sequence
            try:
                await self._member()
            except grpc.aio.AioRpcError as error:
                failures = 1 if self._sequence > before + 1 else failures + 1
                if failures == 1:
                    why = error.code().name
                    log.warning("scaler %s is away (%s): serving on as told last", self._scaler, why)
                await self._pause(backoff_s(failures, draw))
            except Exception:  # a report that can't be made: serving goes on, and so do the tries
                failures += 1
                log.exception("no member of scaler %s's fleet", self._scaler)
                await self._pause(backoff_s(failures, draw))
            else:
                failures = 0
                await self._pause(FIRST_BACKOFF_S)  # the scaler ended the stream: it restarts

    async def leave(self, run: asyncio.Task[None]) -> None:
        """Ends `run` after one more report, or without it when the scaler doesn't listen."""
        self._leaving.set()
        self._changed.set()
        await asyncio.wait({run}, timeout=LAST_REPORT_S)
        run.cancel()
        await asyncio.wait({run})

    async def _pause(self, wait_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._leaving.wait()

    async def _member(self) -> None:
        """One stream's life. Raises AioRpcError when it breaks."""
        async with grpc.aio.insecure_channel(self._scaler, CHANNEL_OPTIONS) as channel:
            stub: Any = FleetStub(channel)
            call: Join = stub.Join()
            listening = asyncio.create_task(self._listen(call))
            try:
                while not listening.done():
                    self._changed.clear()
                    leaving = self._leaving.is_set()
                    await call.write(self._next_report())
                    if leaving:
                        await call.done_writing()
                        break
                    await self._until_next(listening)
                await listening
            except asyncio.InvalidStateError:  # grpc's word for writing to a stream that has ended
                await listening
            finally:
                listening.cancel()
                call.cancel()

    async def _until_next(self, listening: asyncio.Task[None]) -> None:
        """A second, a change, or the stream's end."""
        changed = asyncio.create_task(self._changed.wait())
        try:
            await asyncio.wait(
                {changed, listening}, timeout=REPORT_EVERY_S, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            changed.cancel()

    async def _listen(self, call: Join) -> None:
        async for point in call:
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
        return report(self._sources, self._sequence, interval_s)
