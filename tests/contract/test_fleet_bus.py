"""What every FleetBus keeps, whatever carries the messages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import grpc
import pytest

from minwatt.v1 import fleet_pb2, fleet_pb2_grpc
from minwatt.v1.errors import UsageError
from scaler.bus import FleetBus
from scaler.embedded_bus import EmbeddedBus
from scaler.operating_point import OperatingPoint
from scaler.report import Metered, ReplicaState, Report, Unmetered

_WAIT_S = 5.0


def point(version: int) -> OperatingPoint:
    return OperatingPoint(
        version=version, max_batch_texts=8, max_batch_tokens=512, max_delay_s=0.01, slo_latency_s=0.05
    )


def report(replica_id: str = "a", **fields: object) -> fleet_pb2.ReplicaReport:
    return fleet_pb2.ReplicaReport(replica_id=replica_id, state=fleet_pb2.REPLICA_STATE_READY, **fields)  # type: ignore[arg-type]


class JoinedReplica:
    """A replica as the wire sees it."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.aio.insecure_channel(address)
        self._stream = fleet_pb2_grpc.FleetStub(self._channel).Join()

    async def say(self, message: fleet_pb2.ReplicaReport) -> None:
        await self._stream.write(message)

    async def hear(self) -> int:
        told = await asyncio.wait_for(self._stream.read(), _WAIT_S)
        return told.version

    async def refusal(self) -> tuple[grpc.StatusCode, str]:
        code = await asyncio.wait_for(self._stream.code(), _WAIT_S)
        return code, await self._stream.details()

    async def say_no_more(self) -> None:
        """Ends the stream after what was said, in order."""
        await self._stream.done_writing()

    async def leave(self) -> None:
        self._stream.cancel()
        await self._channel.close()


Join = Callable[[], Awaitable[JoinedReplica]]


@pytest.fixture(params=["embedded"])
async def bus(request: pytest.FixtureRequest) -> AsyncIterator[FleetBus]:
    opened = {"embedded": EmbeddedBus.listen}[request.param]
    made = await opened("127.0.0.1:0")
    yield made
    await made.close()


@pytest.fixture
async def join(bus: EmbeddedBus) -> AsyncIterator[Join]:
    joined: list[JoinedReplica] = []

    async def one() -> JoinedReplica:
        joined.append(JoinedReplica(bus.address))
        return joined[-1]

    yield one
    for replica in joined:
        await replica.leave()


async def until(bus: FleetBus, enough: Callable[[frozenset[str], list[Report]], bool]) -> list[Report]:
    heard: list[Report] = []
    async with asyncio.timeout(_WAIT_S):
        while True:
            view = await bus.collect()
            heard.extend(view.reports)
            if enough(view.members, heard):
                return heard
            await asyncio.sleep(0.005)


async def test_each_report_is_handed_out_once_in_order(bus: FleetBus, join: Join) -> None:
    replica = await join()
    for sequence in range(20):
        await replica.say(report(arrivals_total=sequence))
    heard = await until(bus, lambda members, reports: len(reports) >= 20)
    assert [one.arrivals_total for one in heard] == list(range(20))
    assert (await bus.collect()).reports == ()


async def test_a_point_reaches_members_and_whoever_joins_later(bus: FleetBus, join: Join) -> None:
    early = await join()
    await early.say(report("early"))
    await until(bus, lambda members, reports: "early" in members)
    await bus.publish(point(7))
    assert await early.hear() == 7
    late = await join()
    await late.say(report("late"))
    assert await late.hear() == 7
    await bus.publish(point(8))
    assert (await early.hear(), await late.hear()) == (8, 8)


async def test_the_streams_end_means_gone_and_the_last_report_still_counts(bus: FleetBus, join: Join) -> None:
    staying, leaving = await join(), await join()
    await staying.say(report("staying"))
    await leaving.say(report("leaving", completions_total=5))
    await until(bus, lambda members, reports: members == {"staying", "leaving"})
    await leaving.say(report("leaving", completions_total=9))
    await leaving.say_no_more()
    heard = await until(bus, lambda members, reports: members == {"staying"})
    assert [one.completions_total for one in heard if one.replica_id == "leaving"] == [9]


async def test_a_replica_that_joins_again_is_one_member(bus: FleetBus, join: Join) -> None:
    first, second = await join(), await join()
    await first.say(report("a"))
    await until(bus, lambda members, reports: members == {"a"})
    await second.say(report("a"))
    await until(bus, lambda members, reports: len(reports) >= 1)
    await first.leave()
    await bus.publish(point(1))
    assert await second.hear() == 1
    assert (await bus.collect()).members == {"a"}


@pytest.mark.parametrize(
    ("message", "named"),
    [
        (fleet_pb2.ReplicaReport(state=fleet_pb2.REPLICA_STATE_READY), "replica_id"),
        (fleet_pb2.ReplicaReport(replica_id="x"), "state = 0"),
        (report(busy_seconds_total=float("nan")), "busy_seconds_total"),
        (report(start_up_seconds=1e300), "start_up_seconds"),
        (report(reflex_seconds_total=-1), "reflex_seconds_total"),
        (report(operating_point_version=2**64 - 1), "operating_point_version"),
    ],
)
async def test_a_report_that_can_not_be_meant_is_refused(
    bus: FleetBus, join: Join, message: fleet_pb2.ReplicaReport, named: str
) -> None:
    replica = await join()
    await replica.say(message)
    code, details = await replica.refusal()
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert named in details
    assert (await bus.collect()).reports == ()


async def test_what_is_missing_stays_missing(bus: FleetBus, join: Join) -> None:
    replica = await join()
    await replica.say(
        fleet_pb2.ReplicaReport(
            replica_id="a",
            state=fleet_pb2.REPLICA_STATE_STARTING,
            power=fleet_pb2.Power(source="unknown", unknown_reason="no permission"),
        )
    )
    await replica.say(
        report(power=fleet_pb2.Power(source="modelled", device="process:1", watts=float("nan")))
    )
    starting, ready = await until(bus, lambda members, reports: len(reports) == 2)
    assert starting.state is ReplicaState.STARTING
    assert starting.start_up_s is None
    assert starting.power == Unmetered("no permission")
    assert ready.power == Metered("modelled", "process:1", joules_total=None, watts=None)


async def test_closing_ends_the_streams_in_good_order(bus: FleetBus, join: Join) -> None:
    replica = await join()
    await replica.say(report("a"))
    await until(bus, lambda members, reports: members == {"a"})
    await bus.close()
    code, _ = await replica.refusal()
    assert code is grpc.StatusCode.OK
    assert (await bus.collect()).members == frozenset()


@pytest.mark.parametrize("address", ["nonsense", "127.0.0.1:", "127.0.0.1:99999", "127.0.0.1:٣"])
async def test_an_address_to_listen_at_is_a_host_and_a_port(address: str) -> None:
    with pytest.raises(UsageError, match=r"--listen = .*: allowed: HOST:PORT"):
        await EmbeddedBus.listen(address)
