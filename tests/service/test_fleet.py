"""A replica's membership, with a link that does as it is told."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from minwatt.v1.fleet_pb2 import OperatingPoint, ReplicaReport
from service import fleet
from service.fleet import AwayError, FleetMember
from service.fleet_grpc import GrpcLink
from service.fleet_opening import open_link
from service.fleet_redis import RedisLink
from service.settings import ServeSettings
from tests.eventually import happens


@dataclass
class MadeUpLink:
    """Away while told so; keeps what was sent."""

    away: bool = False
    because: str = "asleep"
    opened: int = 0
    sent: list[tuple[ReplicaReport, bool]] = field(default_factory=list)
    told: asyncio.Queue[OperatingPoint | None] = field(default_factory=asyncio.Queue)

    def __str__(self) -> str:
        return "made up"

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[MadeUpLink]:
        self.opened += 1
        if self.away:
            raise AwayError(self.because)
        yield self

    async def send(self, message: ReplicaReport, *, last: bool) -> None:
        if self.away:
            raise AwayError(self.because)
        self.sent.append((message, last))

    async def points(self) -> AsyncIterator[OperatingPoint]:
        while (point := await self.told.get()) is not None:
            yield point


@pytest.fixture
def sources(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Follows version 2 and no other."""
    monkeypatch.setattr(fleet, "REPORT_EVERY_S", 0.01)
    monkeypatch.setattr(fleet, "FIRST_BACKOFF_S", 0.01)
    monkeypatch.setattr(fleet, "backoff_s", lambda failures, draw: 0.01)
    monkeypatch.setattr(fleet, "report", lambda sources, sequence, _: ReplicaReport(sequence=sequence))
    replica = SimpleNamespace(limits="limits", clocks="clocks", followed=[])

    def operate_at(point: OperatingPoint) -> str | None:
        replica.followed.append(point.version)
        return None if point.version == 2 else "no"

    replica.operate_at = operate_at
    return SimpleNamespace(replica=replica)


async def test_reports_go_up_points_come_down_and_the_last_report_says_so(sources: Any) -> None:
    link, retuned = MadeUpLink(), list[str]()
    member = FleetMember(link, "shop/text", sources, lambda: retuned.append("retuned"))
    run = asyncio.create_task(member.run())
    await happens(lambda: len(link.sent) >= 3)
    for version in (1, 2, 3):
        link.told.put_nowait(OperatingPoint(version=version))
    await happens(lambda: sources.replica.followed == [1, 2, 3])
    assert retuned == ["retuned"]
    await member.leave(run)
    messages, lasts = zip(*link.sent, strict=True)
    assert [message.sequence for message in messages] == list(range(1, len(messages) + 1))
    assert {message.fleet for message in messages} == {"shop/text"}
    assert [*lasts[:-1], not lasts[-1]] == [False] * len(lasts)


async def test_it_joins_again_and_again_and_says_once_that_it_is_alone(
    sources: Any, caplog: pytest.LogCaptureFixture
) -> None:
    link = MadeUpLink(away=True)
    member = FleetMember(link, "default", sources, lambda: None)
    run = asyncio.create_task(member.run())
    await happens(lambda: link.opened >= 4)
    assert [line.message for line in caplog.records] == ["made up is away (asleep): serving on as told last"]
    link.away = False
    await happens(lambda: len(link.sent) >= 3)
    link.away = True
    opened = link.opened
    await happens(lambda: link.opened >= opened + 2)
    assert len(caplog.records) == 2
    await member.leave(run)
    assert run.done()


async def test_each_reason_is_said_once_while_it_is_alone(
    sources: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """A scaler that restarts is unavailable first, and may ask for a token when it is back."""
    link = MadeUpLink(away=True)
    member = FleetMember(link, "default", sources, lambda: None)
    run = asyncio.create_task(member.run())
    for because in ("asleep", "no token", "asleep", "no token"):
        link.because, opened = because, link.opened
        await happens(lambda opened=opened: link.opened >= opened + 2)  # type: ignore[misc]
    assert [line.message.partition(")")[0] for line in caplog.records] == [
        "made up is away (asleep",
        "made up is away (no token",
    ]
    await member.leave(run)


async def test_a_link_that_ends_in_good_order_is_opened_again(sources: Any) -> None:
    link = MadeUpLink()
    member = FleetMember(link, "default", sources, lambda: None)
    run = asyncio.create_task(member.run())
    for _ in range(3):
        link.told.put_nowait(None)
    await happens(lambda: link.opened >= 4)
    await member.leave(run)


def test_the_link_is_what_the_flags_say() -> None:
    assert open_link(ServeSettings.of_flags()) is None
    assert isinstance(open_link(ServeSettings.of_flags(scaler="h:1")), GrpcLink)
    redis = open_link(ServeSettings.of_flags(bus_redis="redis://u:secret@h", fleet="shop/text"))
    assert isinstance(redis, RedisLink)
    assert str(redis) == "the fleet's Redis redis://h:6379"
