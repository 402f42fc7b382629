"""The replica under measurement: a real `minwatt serve` on a bus of its own.

Owns its process, its address and its reports. Called by `measure`.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import IO

from minwatt.commands.grid import LEFT_ALONE, Cell
from minwatt.v1.errors import UsageError
from minwatt.v1.fleet_keys import DEFAULT_FLEET
from scaler.bus import FleetBus
from scaler.embedded_bus import EmbeddedHub
from scaler.local import tethered
from scaler.operating_point import OperatingPoint
from scaler.report import ReplicaState, Report

START_LIMIT_S = 120.0
STOP_LIMIT_S = 20.0
CLOCK_STEP_MHZ = 15  # a card's clocks stand that far apart; the replica takes the one that is nearest
REPORT_WAIT_S = 10.0
# A profile shows what the batching rule does, without a latency bound that cuts it short.
NO_SLACK_LIMIT_S = 60.0


class MeasuredReplica:
    """A replica's bus and the reports it has sent."""

    def __init__(self, bus: FleetBus, max_batch_tokens: int) -> None:
        self._bus = bus
        self._max_batch_tokens = max_batch_tokens
        self._version = 0
        self._wanted_mhz = self._clock_mhz = LEFT_ALONE  # asked of the card, and what it then took
        self.reports: list[Report] = []

    async def next_report(self, accept: Callable[[Report], bool], limit_s: float = REPORT_WAIT_S) -> Report:
        """The first report from now on that `accept` takes. Raises UsageError after `limit_s`."""
        deadline_s = time.monotonic() + limit_s
        while time.monotonic() < deadline_s:
            fresh = (await self._bus.collect()).reports
            self.reports.extend(fresh)
            if found := next(filter(accept, fresh), None):
                return found
            await asyncio.sleep(0.05)
        raise UsageError(f"the replica sent no such report within {limit_s:g} s; is the machine overloaded?")

    async def set_point(self, cell: Cell) -> None:
        """Returns once a report says that the operating point is in force, its clock included.

        Raises UsageError where the replica may not set the clock, or the card has none near it.
        """
        self._version += 1
        version, wanted_mhz = self._version, cell.sm_clock_mhz
        point = OperatingPoint(
            version,
            cell.max_batch_texts,
            self._max_batch_tokens,
            cell.max_delay_s,
            NO_SLACK_LIMIT_S,
            sm_clock_mhz=wanted_mhz,
        )
        await self._bus.publish(point)

        def in_force(report: Report) -> bool:
            if report.operating_point_version != version:
                return False
            moved = report.sm_clock_mhz not in (LEFT_ALONE, self._clock_mhz)
            return moved or wanted_mhz == self._wanted_mhz or report.sm_clock_refused != ""

        report = await self.next_report(in_force)
        if report.sm_clock_refused:
            raise UsageError(f"--clocks = {wanted_mhz}: the replica can't: {report.sm_clock_refused}")
        if abs(report.sm_clock_mhz - wanted_mhz) > CLOCK_STEP_MHZ:
            raise UsageError(f"--clocks = {wanted_mhz}: the card's nearest is {report.sm_clock_mhz}")
        self._wanted_mhz, self._clock_mhz = wanted_mhz, report.sm_clock_mhz


@contextlib.asynccontextmanager
async def replica(
    serve_flags: Sequence[str], max_batch_tokens: int
) -> AsyncIterator[tuple[MeasuredReplica, Report]]:
    """The replica and its first report as READY; stopped by its pid at the end. Raises UsageError."""
    hub = await EmbeddedHub.listen()
    bus = hub.fleet(DEFAULT_FLEET)
    flags = ("--port", "0", "--metrics-port", "0", "--scaler", hub.address)
    tokens = ("--max-batch-tokens", str(max_batch_tokens))
    with tempfile.TemporaryFile() as log:
        # A session of its own: Ctrl-C in a terminal is for the measuring, which then stops the replica. A
        # replica that went first would leave a request waiting, and Ctrl-C would look like its failure.
        process = await asyncio.create_subprocess_exec(
            *tethered.command(["serve", *flags, *tokens, *serve_flags]),
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            yield await _until_ready(MeasuredReplica(bus, max_batch_tokens), process, log)
        finally:
            await _stop(process)
            await hub.close()


async def _until_ready(
    one: MeasuredReplica, process: asyncio.subprocess.Process, log: IO[bytes]
) -> tuple[MeasuredReplica, Report]:
    ready = asyncio.create_task(
        one.next_report(lambda report: report.state is ReplicaState.READY, START_LIMIT_S)
    )
    ended = asyncio.create_task(process.wait())
    await asyncio.wait([ready, ended], return_when=asyncio.FIRST_COMPLETED)
    if not ready.done():
        ready.cancel()
        log.seek(0)
        last_line = (log.read().decode(errors="replace").strip().splitlines() or ["no output"])[-1]
        raise UsageError(f"minwatt serve ended with code {process.returncode}: {last_line}")
    ended.cancel()
    return one, await ready


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.send_signal(signal.SIGTERM)
    try:
        await asyncio.wait_for(process.wait(), STOP_LIMIT_S)
    except TimeoutError:
        process.kill()
        await process.wait()
