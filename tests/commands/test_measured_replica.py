"""When the replica under measurement is at the point that was asked for, and what stands in the way."""

from __future__ import annotations

import pytest

from minwatt.commands.grid import Cell
from minwatt.commands.measured_replica import MeasuredReplica
from minwatt.v1.errors import UsageError
from scaler.bus import FleetView
from scaler.operating_point import OperatingPoint
from scaler.report import Metered, ReplicaState, Report


class CardBus:
    """A bus with one replica, whose card takes the nearest of its clocks, a report late."""

    def __init__(self, clocks_mhz: tuple[int, ...] = (), refused: str = "") -> None:
        self._clocks_mhz = clocks_mhz
        self._refused = refused
        self._clock_mhz = 0
        self._point = OperatingPoint(0, 1, 8, 0.0, 1.0)

    async def publish(self, point: OperatingPoint) -> None:
        self._point = point

    async def collect(self) -> FleetView:
        report = Report(
            "r",
            0.0,
            ReplicaState.READY,
            Metered("nvml", "GPU-1", 1.0, 1.0),
            operating_point_version=self._point.version,
            sm_clock_mhz=self._clock_mhz,
            sm_clock_refused=self._refused if self._point.sm_clock_mhz else "",
        )
        if self._point.sm_clock_mhz and self._clocks_mhz:
            wanted_mhz = self._point.sm_clock_mhz
            self._clock_mhz = min(self._clocks_mhz, key=lambda mhz: abs(mhz - wanted_mhz))
        return FleetView.of(frozenset({"r"}), (report,))

    async def close(self) -> None: ...

    @property
    def clock_mhz(self) -> int:
        return self._clock_mhz


def cell(sm_clock_mhz: int, texts: int = 4) -> Cell:
    return Cell("int8", texts, 0.0, 8, sm_clock_mhz)


async def test_the_clock_is_awaited_whichever_near_one_the_card_takes() -> None:
    bus = CardBus(clocks_mhz=(1410, 1170, 945))
    replica = MeasuredReplica(bus, max_batch_tokens=2048)
    for asked_mhz, taken_mhz in ((1410, 1410), (1410, 1410), (1175, 1170), (940, 945)):
        await replica.set_point(cell(asked_mhz))
        assert bus.clock_mhz == taken_mhz
        assert replica.reports[-1].sm_clock_mhz == taken_mhz


async def test_a_card_that_is_left_alone_is_not_waited_for() -> None:
    replica = MeasuredReplica(CardBus(), max_batch_tokens=2048)
    await replica.set_point(cell(0))
    await replica.set_point(cell(0, texts=1))
    assert len(replica.reports) == 2


async def test_a_clock_that_may_not_be_set_is_one_line() -> None:
    replica = MeasuredReplica(CardBus(refused="Insufficient Permissions"), max_batch_tokens=2048)
    with pytest.raises(UsageError, match="--clocks = 1410: the replica can't: Insufficient Permissions"):
        await replica.set_point(cell(1410))


async def test_a_clock_that_the_card_does_not_have_is_one_line() -> None:
    replica = MeasuredReplica(CardBus(clocks_mhz=(1410, 1170)), max_batch_tokens=2048)
    with pytest.raises(UsageError, match="--clocks = 5000: the card's nearest is 1410"):
        await replica.set_point(cell(5000))
