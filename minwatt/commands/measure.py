"""Measures one replica over a grid: a real `minwatt serve`, a real bus, open-loop load.

Owns the replica's process and the waiting. Leaves what to measure and the arithmetic to `grid`, the fit to
`scaler.profile`. Called by `profile`.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import IO

import numpy as np

from loadtest.arrivals import draw, flat
from loadtest.plan import Task, build_plan, payload
from loadtest.sender import SendOptions, send
from minwatt.client import AsyncClient
from minwatt.commands.grid import Cell, Grid, TooFewReportsError, mean_watts, point_of, text_of
from minwatt.failures import RequestFailed
from minwatt.v1.errors import UsageError
from scaler.embedded_bus import EmbeddedBus
from scaler.local import tethered
from scaler.operating_point import OperatingPoint
from scaler.profile import Point, StartUp
from scaler.report import Metered, ReplicaState, Report

START_LIMIT_S = 120.0
STOP_LIMIT_S = 20.0
WARM_UP_S = 1.0  # of each point, left out
PROBE_S = 2.0
REPORT_WAIT_S = 10.0
NO_SLACK_LIMIT_S = (
    60.0  # a profile shows what the batching rule does, without a latency bound that cuts it short
)


@dataclass(frozen=True, slots=True)
class Setup:
    """What to start and how long to look. `serve_flags` are passed to `minwatt serve` as they are."""

    serve_flags: tuple[str, ...]
    max_batch_tokens: int
    point_s: float
    idle_s: float
    seed: int


@dataclass(frozen=True, slots=True)
class Measured:
    ready: Report  # the replica's first report as READY: identity, start-up, meter
    start_up: StartUp
    points: list[Point]


class Replica:
    """The replica under measurement: its bus, its address, and the reports it has sent."""

    def __init__(self, bus: EmbeddedBus, max_batch_tokens: int) -> None:
        self._bus = bus
        self._max_batch_tokens = max_batch_tokens
        self._version = 0
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
        """Returns once a report says that the operating point is in force."""
        self._version += 1
        version = self._version
        point = OperatingPoint(
            version, cell.max_batch_texts, self._max_batch_tokens, cell.max_delay_s, NO_SLACK_LIMIT_S
        )
        await self._bus.publish(point)
        await self.next_report(lambda report: report.operating_point_version == version)


async def measure(setup: Setup, grid: Grid, on_point: Callable[[Point], None]) -> Measured:
    """Starts a replica, measures it idle and at every point of the grid, stops it.

    Raises UsageError when the replica does not start or falls silent.
    """
    async with _replica(setup) as (replica, ready):
        start_up = _start_up(ready)
        points = [await _idle_point(replica, setup.idle_s)]
        on_point(points[0])
        rng = np.random.default_rng(setup.seed)
        for cell in grid.cells():
            await replica.set_point(cell)
            try:
                capacity_rps = await closed_loop_rps(ready.address, cell)
            except RequestFailed as error:
                raise UsageError(f"texts of {cell.text_tokens} tokens: the replica said {error}") from error
            for load in grid.loads:
                points.append(
                    await _loaded_point(replica, ready.address, cell, load * capacity_rps, setup, rng)
                )
                on_point(points[-1])
    return Measured(ready, start_up, points)


async def _idle_point(replica: Replica, idle_s: float) -> Point:
    """Watts without load: the fit's intercept must not be an extrapolation."""
    first = await replica.next_report(lambda _: True)
    last = await replica.next_report(
        lambda report: report.received_s >= first.received_s + idle_s, idle_s + REPORT_WAIT_S
    )
    return Point(
        max_batch_texts=1,
        max_delay_s=0.0,
        text_tokens=1,
        offered_rps=0.0,
        completed_rps=0.0,
        p50_s=None,
        p99_s=None,
        batch_mean_texts=None,
        compute_s_per_batch=None,
        watts=mean_watts(first, last),
        duration_s=last.received_s - first.received_s,
    )


async def closed_loop_rps(address: str, cell: Cell) -> float:
    """What the replica completes a second when two batches' worth of callers never pause."""
    text = text_of(cell.text_tokens)

    async def caller(until_s: float) -> int:
        done = 0
        while time.monotonic() < until_s:
            await client.classify([text])
            done += 1
        return done

    async with AsyncClient(address) as client:
        await client.classify([text])
        start_s = time.monotonic()
        done = await asyncio.gather(*(caller(start_s + PROBE_S) for _ in range(2 * cell.max_batch_texts)))
        return sum(done) / (time.monotonic() - start_s)


async def _loaded_point(
    replica: Replica, address: str, cell: Cell, offered_rps: float, setup: Setup, rng: np.random.Generator
) -> Point:
    """Poisson arrivals at `offered_rps`; the first `WARM_UP_S` is left out."""
    duration_s = WARM_UP_S + setup.point_s
    requests = [[payload(Task.CLASSIFY, [text_of(cell.text_tokens)])]]
    plan = build_plan(draw(flat(offered_rps, duration_s), rng), duration_s, requests, rng)
    options = SendOptions(deadline_s=NO_SLACK_LIMIT_S, connections=8)
    await replica.next_report(lambda _: True)
    from_s = time.monotonic() + WARM_UP_S
    result = await send(plan, address, options)
    until_s = from_s + setup.point_s
    await replica.next_report(lambda report: report.received_s >= until_s)
    span = [report for report in replica.reports if from_s <= report.received_s <= until_s + 0.5]
    steady = [outcome for outcome in result.outcomes if outcome.planned_s >= WARM_UP_S]
    try:
        return point_of(cell, len(plan) / duration_s, span, steady)
    except TooFewReportsError as error:
        raise UsageError(f"--point = {setup.point_s:g}s: {error}; measure each point longer") from error


def source_of(report: Report) -> str:
    """Where the report's watts come from. Raises UsageError where they are unknown."""
    if isinstance(report.power, Metered) and report.power.joules_total is not None:
        return report.power.source
    reason = "it counts no joules" if isinstance(report.power, Metered) else report.power.reason
    raise UsageError(f"--meter: watts are unknown ({reason}); a profile needs a meter that gives joules")


def _start_up(ready: Report) -> StartUp:
    """What the start cost. A process's own meter counted it; a device's counter began long before.

    Of a device, watts as the replica became ready stand for the whole start: its model was on the card then.
    """
    source_of(ready)
    power, seconds = ready.power, ready.start_up_s
    if not isinstance(power, Metered) or seconds is None:
        raise UsageError("the replica's report says nothing of its start-up; is it of another version?")
    own_j = power.joules_total if power.device.startswith("process:") else None
    joules = own_j if own_j is not None else None if power.watts is None else power.watts * seconds
    if joules is None:
        raise UsageError(f"--meter: {power.source} gave no watts at start-up; start the profile again")
    return StartUp(seconds=seconds, joules=joules)


@contextlib.asynccontextmanager
async def _replica(setup: Setup) -> AsyncIterator[tuple[Replica, Report]]:
    """A `minwatt serve` joined to a bus of its own; stopped by its pid at the end."""
    bus = await EmbeddedBus.listen()
    flags: Sequence[str] = ("--port", "0", "--metrics-port", "0", "--scaler", bus.address, *setup.serve_flags)
    with tempfile.TemporaryFile() as log:
        process = await asyncio.create_subprocess_exec(
            *tethered.command(["serve", *flags]), stdout=log, stderr=log
        )
        try:
            yield await _until_ready(Replica(bus, setup.max_batch_tokens), process, log)
        finally:
            await _stop(process)
            await bus.close()


async def _until_ready(
    replica: Replica, process: asyncio.subprocess.Process, log: IO[bytes]
) -> tuple[Replica, Report]:
    ready = asyncio.create_task(
        replica.next_report(lambda report: report.state is ReplicaState.READY, START_LIMIT_S)
    )
    ended = asyncio.create_task(process.wait())
    await asyncio.wait([ready, ended], return_when=asyncio.FIRST_COMPLETED)
    if not ready.done():
        ready.cancel()
        log.seek(0)
        last_line = (log.read().decode(errors="replace").strip().splitlines() or ["no output"])[-1]
        raise UsageError(f"minwatt serve ended with code {process.returncode}: {last_line}")
    ended.cancel()
    return replica, await ready


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.send_signal(signal.SIGTERM)
    try:
        await asyncio.wait_for(process.wait(), STOP_LIMIT_S)
    except TimeoutError:
        process.kill()
        await process.wait()
