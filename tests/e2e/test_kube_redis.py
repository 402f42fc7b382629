"""The controller on a Kubernetes that the stand-in plays, and a real Redis that is killed under it.

Time jumps, Redis' own too, and stands still while Redis is asked. Replicas are what the stand-in's pods are:
they report as a server does, go on while Redis is away, and obey the newest point that they could read.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from minwatt.v1.fleet_keys import REPORT, FleetKeys
from minwatt.v1.fleet_pb2 import REPLICA_STATE_READY, OperatingPoint, ReplicaReport
from minwatt.v1.redis_address import parse_redis_url
from scaler import redis_bus
from scaler.bus import Hub
from scaler.bus_opening import BusOptions
from scaler.feasible import TableKey
from scaler.kube import command
from scaler.redis_bus import RedisHub
from scaler.redis_line import Line
from scaler.report import Report
from scaler.settings import Settings
from tests.contract.fleet_replica import point
from tests.kube_api.jumping_loop import JumpingLoop
from tests.redis_server import RedisServer
from tests.scaler import made_up
from tests.scaler.kube.controlled import NAMESPACE, Scenario, play, policy, workload
from tests.scaler.kube.made_fleet import Traffic

FLEET = f"{NAMESPACE}/support-text"
KEYS = FleetKeys.of(FLEET)
CLOCK = b"clock"
BUSY_RPS, QUIET_RPS = 220.0, 10.0
STALE_AFTER_S = 15.0
LEAST, MOST = 2, 6


def busiest_w() -> float:
    """What a replica of the profile draws that never rests, at the point that takes most."""
    settings = Settings(made_up.policy(), made_up.profile())
    return float(settings.tables.at(TableKey(made_up.TEXT_TOKENS, 1.0, 1.0)).watts[0].max())


@dataclass
class Replicas:
    """Each pod that is ready reports each second, between two looks of the controller."""

    server: RedisServer
    traffic: Traffic
    now_s: Callable[[], float]
    up: bool = True

    async def run(self) -> None:
        await asyncio.sleep(0.5)
        for sequence in range(1, 1_000_000):
            reports = self.traffic.view().reports
            if self.up:
                self._obey()
                for number, report in enumerate(reports, 1):
                    message = said(report, sequence).SerializeToString()
                    entry = f"{int(self.now_s() * 1e3)}-{number}".encode()
                    self.server.command(b"XADD", KEYS.reports.encode(), entry, REPORT, message)
            await asyncio.sleep(1.0)

    def set_clock(self) -> None:
        """Of Redis, to the loop's."""
        if self.up:
            now_s = self.now_s()
            seconds, rest = f"{int(now_s)}".encode(), f"{int(now_s % 1 * 1e6)}".encode()
            self.server.command(b"RPUSH", CLOCK, seconds, rest)
            self.server.command(b"LTRIM", CLOCK, b"-2", b"-1")

    def kept_version(self) -> int:
        """Of the point that Redis has now; 0: none."""
        answer = self.server.command(b"HGET", KEYS.point.encode(), b"point")
        return OperatingPoint.FromString(answer.partition(b"\r\n")[2].removesuffix(b"\r\n")).version

    def _obey(self) -> None:
        version, points = self.kept_version(), self.traffic.points
        if not points or version > points[-1].version:
            points.append(point(version))


def said(report: Report, sequence: int) -> ReplicaReport:
    """Without watts: the budget is planned with the profile's."""
    return ReplicaReport(
        replica_id=report.replica_id,
        fleet=FLEET,
        sequence=sequence,
        state=REPLICA_STATE_READY,
        host=report.host,
        variant=report.variant,
        arrivals_total=report.arrivals_total,
        completions_total=report.completions_total,
        texts_total=report.texts_total,
        tokens_total=report.tokens_total,
        padded_tokens_total=report.padded_tokens_total,
        batch_sizes_total={1: report.batches_total},
        busy_seconds_total=report.busy_s_total,
        start_up_seconds=report.start_up_s or 0.0,
        operating_point_version=report.operating_point_version,
    )


Story = Callable[[Scenario, Replicas], Coroutine[Any, Any, None]]
Stage = Callable[[Story], None]


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    ask = Line.ask
    by_loop = redis_bus.HOLD.replace("redis.call('TIME')", f"redis.call('LRANGE', '{CLOCK.decode()}', 0, 1)")
    assert by_loop != redis_bus.HOLD

    async def open_hub(options: BusOptions) -> Hub:
        assert options.redis is not None
        return RedisHub(parse_redis_url(options.redis, "test"), asyncio.get_running_loop().time)

    def run(story: Story) -> None:
        async def among_replicas(case: Scenario) -> None:
            loop = asyncio.get_running_loop()
            assert isinstance(loop, JumpingLoop)
            with RedisServer(tmp_path) as server:
                traffic = Traffic(loop.time, lambda: case.ready_pods("support-text"))
                replicas = Replicas(server, traffic, case.api.now_s)

                async def asked(line: Line, question: Callable[[Any], Awaitable[Any]]) -> Any:
                    with loop.standing():
                        replicas.set_clock()
                        return await ask(line, question)

                monkeypatch.setattr(Line, "ask", asked)
                monkeypatch.setattr(redis_bus, "HOLD", by_loop)
                monkeypatch.setattr(command, "open_hub", open_hub)
                async with running(replicas):
                    await story(case, replicas)

        play(tmp_path, monkeypatch, among_replicas)

    return run


@contextlib.asynccontextmanager
async def running(replicas: Replicas) -> AsyncIterator[None]:
    task = asyncio.create_task(replicas.run())
    try:
        yield
        assert not task.done() or task.result() is None
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def kill(replicas: Replicas) -> None:
    replicas.up = False
    replicas.server.kill()


def come_back_empty(replicas: Replicas) -> None:
    replicas.server.start()
    assert replicas.server.command(b"DBSIZE") == b":0\r\n"
    replicas.up = True


def scale_writes(case: Scenario) -> list[int]:
    return [
        one.body["spec"].get("replicas", 0) for one in case.api.writes() if one.resource.endswith("/scale")
    ]


def on_redis(replicas: Replicas) -> dict[str, Any]:
    return {"bus": BusOptions(redis=replicas.server.url, beside="127.0.0.1")}


def guarded(budget_w: float) -> dict[str, Any]:
    return policy(
        replicas={"min": LEAST, "max": MOST},
        power={"budget": f"{budget_w:.2f}W"},
        behavior={"tick": "1s", "scaleDown": {"stabilizationWindow": "20s"}},
        telemetry={"staleAfter": f"{STALE_AFTER_S:g}s"},
    )


def test_redis_away_for_long_takes_nothing_breaks_no_budget_and_is_made_up_for(stage: Stage) -> None:
    room = 4  # replicas that the budget lets run whatever they do; the fallback would be MOST
    budget_w = (room + 0.5) * busiest_w()

    async def story(case: Scenario, replicas: Replicas) -> None:
        case.api.apply(workload(replicas=1), guarded(budget_w))
        replicas.traffic.rate_rps = BUSY_RPS
        async with case.control(**on_redis(replicas)):
            await case.until(lambda: case.condition("Ready")[0] == "True" and case.replicas() == 3, "steady")
            await asyncio.sleep(10)
            before, written, told = case.replicas(), len(scale_writes(case)), replicas.kept_version()
            assert LEAST < before < room
            assert case.condition("Stale") == ("False", "ReportsFresh")

            kill(replicas)
            replicas.traffic.rate_rps = QUIET_RPS  # which nobody can know
            await case.until(lambda: case.condition("Stale") == ("True", "ReportsMissing"), "stale")
            assert replicas.server.url in case.message("Stale")
            assert case.condition("Ready") == ("False", "ReportsMissing")
            assert scale_writes(case)[written:] == []
            await case.until(lambda: case.condition("Stale") == ("True", "FallbackReplicas"), "fallen back")
            assert "of which the budget allows" in case.message("Stale")
            await asyncio.sleep(60)
            assert case.replicas() == room
            assert len(case.ready_pods("support-text")) == room
            assert scale_writes(case)[written:] == [room]
            assert replicas.traffic.points[-1].version == told  # they serve on at the last point

            come_back_empty(replicas)
            await case.until(lambda: case.condition("Stale") == ("False", "ReportsFresh"), "heard again")
            assert case.condition("Ready")[0] == "True"
            assert replicas.kept_version() >= told  # who starts now is told it
            await case.until(lambda: case.replicas() == LEAST, "by what is asked for")
            replicas.traffic.rate_rps = BUSY_RPS
            await case.until(lambda: case.replicas() == before, "and the other way")
            assert replicas.traffic.points[-1].version == replicas.kept_version()
            assert min(scale_writes(case)) >= LEAST
            assert max(scale_writes(case)) * busiest_w() <= budget_w
            assert sum("leading as" in line for line in case.said) == 1

    stage(story)


def test_a_leader_that_begins_while_redis_is_away_takes_nothing_either(stage: Stage) -> None:
    async def story(case: Scenario, replicas: Replicas) -> None:
        case.api.apply(workload(replicas=3), guarded(100 * busiest_w()))
        replicas.traffic.rate_rps = BUSY_RPS
        async with case.control("one", **on_redis(replicas)):
            await case.until(lambda: case.condition("Ready")[0] == "True", "ready")
            await asyncio.sleep(10)
            before, told = case.replicas(), replicas.kept_version()
        kill(replicas)
        written = len(scale_writes(case))
        async with case.control("two", **on_redis(replicas)):
            await case.until(lambda: case.condition("Stale") == ("True", "ReportsMissing"), "stale")
            assert case.replicas() == before
            await case.until(lambda: case.replicas() == MOST, "fallen back")
            come_back_empty(replicas)
            await case.until(lambda: case.condition("Stale") == ("False", "ReportsFresh"), "heard")
            await case.until(lambda: replicas.kept_version() > told, "told by the second")
            await asyncio.sleep(20)
            assert case.condition("Ready")[0] == "True"
            assert min(scale_writes(case)[written:]) >= before

    stage(story)
