"""Measures a model over a grid: a real `minwatt serve` for each variant, a real bus, open-loop load.

Owns the waiting and the order of the steps. Leaves what to measure and the arithmetic to `grid`, what is
done already to `profile_points`, the replica's process to `measured_replica`, the fit to `scaler.fit`.
Called by `profile`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from energy import PowerMeter, Reading, Unknown
from loadtest.arrivals import draw, flat
from loadtest.plan import Task, build_plan, payload
from loadtest.sender import SendOptions, send
from minwatt.client import AsyncClient
from minwatt.commands.grid import Cell, Grid, TooFewReportsError, idle_point, point_of, text_of
from minwatt.commands.measured_replica import NO_SLACK_LIMIT_S, REPORT_WAIT_S, MeasuredReplica, replica
from minwatt.commands.profile_points import Loaded, Parked, Rows, Started
from minwatt.failures import RequestFailed
from minwatt.v1.errors import UsageError
from scaler.profile import Point, StartUp
from scaler.report import Metered, Report

WARM_UP_S = 1.0  # of each point, left out
PROBE_S = 2.0
IDLE_S = 5.0
PARKED_SETTLE_S = 10.0  # a card takes seconds to leave the clocks that a model kept it at


@dataclass(frozen=True, slots=True)
class Setup:
    """What to start and how long to look. `serve_flags` are passed to `minwatt serve` as they are.

    `card`: the meter of a card that stays powered when its replica is gone; None where there is none.
    """

    serve_flags: tuple[str, ...]
    max_batch_tokens: int
    point_s: float
    seed: int
    card: PowerMeter | None = None


class Sink(Protocol):
    """Where finished steps go, and what is there already."""

    @property
    def rows(self) -> Rows: ...

    def add(self, row: Started | Loaded | Parked) -> None: ...


async def measure(setup: Setup, grid: Grid, sink: Sink, on_point: Callable[[Point], None]) -> None:
    """Measures what the sink does not have yet: each variant idle and at every point of the grid.

    Raises UsageError when a replica does not start or falls silent.
    """
    for variant in grid.variants:
        await _measure_variant(variant, setup, grid, sink, on_point)
    if setup.card is not None and sink.rows.parked is None:
        sink.add(Parked(watts=await _parked_w(setup.card)))


async def _measure_variant(
    variant: str, setup: Setup, grid: Grid, sink: Sink, on_point: Callable[[Point], None]
) -> None:
    cells = [cell for cell in grid.cells() if cell.variant == variant]
    started = sink.rows.started(variant)
    if started is not None and not any(sink.rows.missing(grid, cell) for cell in cells):
        return
    async with replica((*setup.serve_flags, "--variant", variant), setup.max_batch_tokens) as (one, ready):
        if started is None:
            start_up = _start_up(ready)
            point = await _idle_point(one, Cell(variant, 1, 0.0, 1, grid.full_clock_mhz))
            sink.add(Started(start_up=start_up, point=point))
            on_point(point)
        for cell in cells:
            await _measure_cell(one, ready.address, cell, setup, grid, sink, on_point)


async def _measure_cell(
    one: MeasuredReplica,
    address: str,
    cell: Cell,
    setup: Setup,
    grid: Grid,
    sink: Sink,
    on_point: Callable[[Point], None],
) -> None:
    missing = sink.rows.missing(grid, cell)
    if not missing:
        return
    await one.set_point(cell)
    capacity_rps = sink.rows.capacity_rps(cell)
    if capacity_rps is None:
        try:
            capacity_rps = await closed_loop_rps(address, cell)
        except RequestFailed as error:
            raise UsageError(f"texts of {cell.text_tokens} tokens: the replica said {error}") from error
    places = grid.places()
    for load in missing:
        rng = np.random.default_rng([setup.seed, places[cell, load]])
        point = await _loaded_point(one, address, cell, load * capacity_rps, setup.point_s, rng)
        sink.add(Loaded(cell=cell, load=load, capacity_rps=capacity_rps, point=point))
        on_point(point)


async def _idle_point(one: MeasuredReplica, cell: Cell) -> Point:
    await one.set_point(cell)
    first = await one.next_report(lambda _: True)
    until_s = first.received_s + IDLE_S
    last = await one.next_report(lambda report: report.received_s >= until_s, IDLE_S + REPORT_WAIT_S)
    return idle_point(cell, first, last)


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
    one: MeasuredReplica,
    address: str,
    cell: Cell,
    offered_rps: float,
    point_s: float,
    rng: np.random.Generator,
) -> Point:
    """Poisson arrivals at `offered_rps`; the first `WARM_UP_S` is left out."""
    duration_s = WARM_UP_S + point_s
    requests = [[payload(Task.CLASSIFY, [text_of(cell.text_tokens)])]]
    plan = build_plan(draw(flat(offered_rps, duration_s), rng), duration_s, requests, rng)
    options = SendOptions(deadline_s=NO_SLACK_LIMIT_S, connections=8)
    await one.next_report(lambda _: True)
    from_s = time.monotonic() + WARM_UP_S
    result = await send(plan, address, options)
    until_s = from_s + point_s
    await one.next_report(lambda report: report.received_s >= until_s)
    span = [report for report in one.reports if from_s <= report.received_s <= until_s + 0.5]
    steady = [outcome for outcome in result.outcomes if outcome.planned_s >= WARM_UP_S]
    try:
        return point_of(cell, len(plan) / duration_s, span, steady)
    except TooFewReportsError as error:
        raise UsageError(f"--point = {point_s:g}s: {error}; measure each point longer") from error


def _start_up(ready: Report) -> StartUp:
    """What the start cost. A process's own meter counted it; a device's counter began long before.

    Of a device, watts as the replica became ready stand for the whole start: its model was on the card then.
    """
    power, seconds = ready.power, ready.start_up_s
    if not isinstance(power, Metered):
        raise UsageError(f"--meter: watts are unknown ({power.reason}); a profile needs a meter")
    if power.joules_total is None:
        raise UsageError("--meter: it counts no joules; a profile needs a meter that gives joules")
    if seconds is None:
        raise UsageError("the replica's report says nothing of its start-up; is it of another version?")
    own_j = power.joules_total if power.device.startswith("process:") else None
    joules = own_j if own_j is not None else None if power.watts is None else power.watts * seconds
    if joules is None:
        raise UsageError(f"--meter: {power.source} gave no watts at start-up; start the profile again")
    return StartUp(basis="measured", seconds=seconds, joules=joules)


async def _parked_w(card: PowerMeter) -> float:
    await asyncio.sleep(PARKED_SETTLE_S)
    first = _known(card.read())
    await asyncio.sleep(IDLE_S)
    last = _known(card.read())
    return (last.joules_total - first.joules_total) / (last.at_s - first.at_s)


def _known(reading: Reading | Unknown) -> Reading:
    if isinstance(reading, Unknown):
        raise UsageError(f"--meter: the card's watts without a replica are unknown ({reading.reason})")
    return reading
