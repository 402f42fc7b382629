"""Which steps a measurement takes: those that are missing, each variant on a replica of its own."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence

import numpy as np
import pytest

from energy import Reading, Telemetry, Unknown
from energy.reading import NO_TELEMETRY
from minwatt.commands import measure as module
from minwatt.commands.grid import Cell, Grid
from minwatt.commands.measure import Setup, measure
from minwatt.commands.profile_points import Loaded, Parked, Rows, Started
from minwatt.v1.errors import UsageError
from scaler.profile import Point
from scaler.report import Metered, ReplicaState, Report
from tests.scaler.measured_points import idle, point

GRID = Grid(("int8", "fp16"), (1, 4), (0.0,), (8,), (0.3, 0.9), (1410, 940))


class MemorySink:
    def __init__(self, rows: Sequence[Started | Loaded | Parked] = ()) -> None:
        self.rows = Rows(tuple(rows))

    def add(self, row: Started | Loaded | Parked) -> None:
        self.rows = Rows((*self.rows.rows, row))


class Card:
    """The meter of a card that draws 15 W by itself."""

    source, device = "nvml", "GPU-1"
    idle_w = busy_w_per_core = opening_j = None

    def __init__(self, *readings: Reading | Unknown) -> None:
        self._readings = iter(readings)

    def read(self) -> Reading | Unknown:
        return next(self._readings)

    def telemetry(self) -> Telemetry:
        return NO_TELEMETRY

    def close(self) -> None: ...


class Lab:
    """Stands where the replicas would be: says what was started and measured, and with which arrivals."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.probed: list[Cell] = []
        self.loaded: dict[tuple[Cell, float], float] = {}

    async def set_point(self, cell: Cell) -> None:
        self.cell = cell

    @contextlib.asynccontextmanager
    async def replica(self, flags: Sequence[str], max_batch_tokens: int) -> AsyncIterator[tuple[Lab, Report]]:
        self.started.append(flags[-1])
        power = Metered("modelled", "process:1", 6.0, 3.0)
        yield self, Report("r", 0.0, ReplicaState.READY, power, start_up_s=2.0, address="a:1")

    async def capacity_rps(self, address: str, cell: Cell) -> float:
        self.probed.append(cell)
        return 100.0

    async def idle_point(self, one: Lab, cell: Cell) -> Point:
        return idle(0.8, variant=cell.variant, sm_clock_mhz=cell.sm_clock_mhz)

    async def loaded_point(
        self,
        one: Lab,
        address: str,
        cell: Cell,
        offered_rps: float,
        point_s: float,
        rng: np.random.Generator,
    ) -> Point:
        assert one.cell == cell
        self.loaded[cell, offered_rps / 100.0] = rng.random()
        return point(offered_rps, 1, 0.01, 2.0, variant=cell.variant, sm_clock_mhz=cell.sm_clock_mhz)


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    made = Lab()
    monkeypatch.setattr(module, "replica", made.replica)
    monkeypatch.setattr(module, "closed_loop_rps", made.capacity_rps)
    monkeypatch.setattr(module, "_idle_point", made.idle_point)
    monkeypatch.setattr(module, "_loaded_point", made.loaded_point)
    monkeypatch.setattr(module, "PARKED_SETTLE_S", 0.0)
    monkeypatch.setattr(module, "IDLE_S", 0.0)
    return made


async def test_everything_is_measured_once_and_a_cell_s_throughput_too(lab: Lab) -> None:
    sink, seen = MemorySink(), list[Point]()
    await measure(Setup((), 2048, 1.0, seed=0), GRID, sink, seen.append)
    assert lab.started == ["int8", "fp16"]
    assert lab.probed == GRID.cells()
    assert {*lab.loaded} == {*GRID.places()}
    assert len(seen) == len(sink.rows) == len(GRID)
    assert {row.point.sm_clock_mhz for row in sink.rows.rows if isinstance(row, Started)} == {1410}


async def test_what_is_there_is_not_measured_again_and_the_rest_is_as_it_would_have_been(lab: Lab) -> None:
    whole = MemorySink()
    await measure(Setup((), 2048, 1.0, seed=0), GRID, whole, lambda _: None)
    arrivals = dict(lab.loaded)
    of_int8 = 1 + len(GRID.cells()) // 2 * len(GRID.loads)
    for kept in (1, 4, of_int8, len(GRID)):
        lab.started, lab.probed, lab.loaded = [], [], {}
        sink = MemorySink(whole.rows.rows[:kept])
        await measure(Setup((), 2048, 1.0, seed=0), GRID, sink, lambda _: None)
        assert sink.rows == whole.rows
        names = ["int8", "fp16"] if kept < of_int8 else ["fp16"]
        assert lab.started == (names if kept < len(GRID) else [])
        assert lab.loaded == {pair: drawn for pair, drawn in arrivals.items() if pair in lab.loaded}
        assert len(sink.rows) - kept == len(lab.loaded) + sum(
            isinstance(row, Started) for row in whole.rows.rows[kept:]
        )


async def test_a_cell_that_was_begun_keeps_its_throughput(lab: Lab) -> None:
    whole = MemorySink()
    await measure(Setup((), 2048, 1.0, seed=0), GRID, whole, lambda _: None)
    lab.probed = []
    await measure(Setup((), 2048, 1.0, seed=0), GRID, MemorySink(whole.rows.rows[:2]), lambda _: None)
    assert lab.probed == GRID.cells()[1:]


async def test_another_seed_draws_other_arrivals(lab: Lab) -> None:
    await measure(Setup((), 2048, 1.0, seed=0), GRID, MemorySink(), lambda _: None)
    before = dict(lab.loaded)
    assert len({*before.values()}) == len(before)
    await measure(Setup((), 2048, 1.0, seed=1), GRID, MemorySink(), lambda _: None)
    assert not {*before.values()} & {*lab.loaded.values()}


async def test_a_card_is_measured_once_more_when_no_replica_is_on_it(lab: Lab) -> None:
    grid = Grid(("int8",), (1,), (0.0,), (8,), (0.3,))
    sink = MemorySink()
    card = Card(Reading(1000.0, 20.0, "nvml", 10.0), Reading(1075.0, 15.0, "nvml", 15.0))
    await measure(Setup((), 2048, 1.0, seed=0, card=card), grid, sink, lambda _: None)
    assert sink.rows.parked == Parked(watts=15.0)
    await measure(Setup((), 2048, 1.0, seed=0, card=card), grid, sink, lambda _: None)  # reads no more


async def test_unknown_watts_of_the_card_are_no_zero(lab: Lab) -> None:
    grid = Grid(("int8",), (1,), (0.0,), (8,), (0.3,))
    sink = MemorySink()
    with pytest.raises(UsageError, match=r"the card's watts without a replica are unknown \(it is lost\)"):
        await measure(
            Setup((), 2048, 1.0, seed=0, card=Card(Unknown("it is lost", 0.0))), grid, sink, lambda _: None
        )
    assert sink.rows.parked is None
    assert len(sink.rows) == len(grid)
