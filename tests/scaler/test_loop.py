"""One beat after another, with a bus and a fleet that only remember what they were told."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from minwatt.v1.errors import UsageError
from scaler.bus import FleetView
from scaler.control import first_point
from scaler.control_state import start_beside, start_fresh
from scaler.decision import Decision
from scaler.fleet_joules import FleetJoules
from scaler.joined import JoinedFleet
from scaler.loop import ControlLoop, Fleet, Surroundings
from scaler.metrics import Metrics
from scaler.operating_point import OperatingPoint
from scaler.record import FleetRow, Record
from scaler.report import Metered, ReplicaState, Report
from scaler.settings import Settings
from scaler.signals import Missing, Signals
from scaler.terminal import Terminal
from tests.scaler.made_up import policy, profile

SETTINGS = Settings(policy(replicas={"min": 2, "max": 4}), profile())


@dataclass
class RememberingBus:
    views: list[FleetView] = field(default_factory=list)
    published: list[OperatingPoint] = field(default_factory=list)

    async def publish(self, point: OperatingPoint) -> None:
        self.published.append(point)

    async def collect(self) -> FleetView:
        return self.views.pop(0) if self.views else FleetView.of(frozenset(), ())

    async def close(self) -> None: ...


@dataclass
class RememberingFleet:
    count: int = 0
    asked: list[int] = field(default_factory=list)

    def running(self, seen: Signals | Missing) -> int:
        return self.count

    def awaited(self, seen: Signals | Missing) -> bool:
        return seen.ready > 0

    async def scale_to(self, desired: int, seen: Signals | Missing) -> None:
        self.asked.append(desired)
        self.count = desired


@dataclass
class RememberingWatcher:
    rows: list[FleetRow] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)

    def observed(self, row: FleetRow) -> None:
        self.rows.append(row)

    def decided(self, decision: Decision, at_s: float) -> None:
        self.decisions.append(decision)


async def ticks(count: int) -> AsyncIterator[float]:
    for second in range(count):
        yield float(second)


def views(seconds: int, rate: int) -> list[FleetView]:
    """Two replicas that share the rate."""
    made = []
    for second in range(seconds):
        reports = tuple(
            Report(
                name,
                float(second),
                ReplicaState.READY,
                Metered("modelled", f"process:{name}", 2.0 * second, 2.0),
                "h",
                arrivals_total=rate * second // 2,
                completions_total=rate * second // 2,
                texts_total=rate * second // 2,
            )
            for name in "ab"
        )
        made.append(FleetView.of(frozenset("ab"), reports))
    return made


def loop(bus: RememberingBus, fleet: Fleet, *watchers: object, settings: Settings = SETTINGS) -> ControlLoop:
    around = Surroundings(bus, fleet, watchers, lambda: 1e9)  # type: ignore[arg-type]
    state = start_fresh(0.0, first_point(settings))
    return ControlLoop(settings, state, around, FleetJoules(owns_processes=True))


async def test_it_starts_the_fewest_and_publishes_a_point_only_when_it_changes() -> None:
    bus, fleet, watcher = RememberingBus(views(20, 30)), RememberingFleet(), RememberingWatcher()
    await loop(bus, fleet, watcher).run(ticks(20))
    assert fleet.asked[0] == 2
    versions = [point.version for point in bus.published]
    assert versions == sorted(set(versions))
    assert len(versions) <= 3
    assert len(watcher.rows) == len(watcher.decisions) == 20
    assert [row.joules_total for row in watcher.rows] == [4.0 * second for second in range(20)]


async def test_a_replica_that_is_gone_is_asked_for_again_on_the_next_beat() -> None:
    slow = Settings(policy(replicas={"min": 2, "max": 4}, behavior={"tick": "5s"}), profile())
    bus, fleet, watcher = RememberingBus(views(9, 30)), RememberingFleet(), RememberingWatcher()
    control = loop(bus, fleet, watcher, settings=slow)
    await control.run(ticks(3))
    fleet.count = 1
    await control.run(ticks(1))
    assert (fleet.count, fleet.asked[-1], len(watcher.decisions)) == (2, 2, 1)


async def test_a_joined_fleet_is_read_held_and_never_started() -> None:
    bus, said = RememberingBus(views(30, 2000)), list[str]()
    around = Surroundings(bus, JoinedFleet(), [Terminal(said.append)], lambda: 1e9)
    control = ControlLoop(SETTINGS, start_beside(0.0), around, FleetJoules(owns_processes=False))
    await control.run(ticks(5))
    assert bus.published == []
    await control.run(float(second) async for second in ticks_from(5, 25))
    assert bus.published[0].version == 1
    ups = [line for line in said if line.startswith("up: 2 → 4")]
    assert len(ups) == 1, "a wish that stays the same is said once"


async def test_a_joined_fleet_that_falls_silent_is_wished_for_as_it_was() -> None:
    """All gone from the bus at once: it was restarted empty, or nobody can reach it."""
    silence = [FleetView.of(frozenset(), ())] * 30
    bus, watcher = RememberingBus([*views(5, 30), *silence]), RememberingWatcher()
    around = Surroundings(bus, JoinedFleet(), [watcher], lambda: 1e9)
    settings = Settings(policy(replicas={"min": 1, "max": 4}), profile())
    control = ControlLoop(settings, start_beside(0.0), around, FleetJoules(owns_processes=False))
    await control.run(ticks(35))
    blind = watcher.decisions[5:]
    assert {one.desired_replicas for one in blind} <= {2, settings.policy.spec.fallback_replicas}
    assert min(one.desired_replicas for one in blind) == 2


async def test_what_the_policy_asks_and_can_not_be_held_is_said_once() -> None:
    said: list[str] = []
    poor = Settings(policy(power={"budget": "1W"}), profile())
    await loop(RememberingBus(views(10, 30)), RememberingFleet(1), Terminal(said.append), settings=poor).run(
        ticks(10)
    )
    assert len([line for line in said if "over the budget 1.0 W" in line]) == 1


async def ticks_from(first: int, count: int) -> AsyncIterator[float]:
    for second in range(first, first + count):
        yield float(second)


async def test_records_are_json_lines_with_null_for_what_is_not_known(tmp_path: Path) -> None:
    record = Record.into(tmp_path / "run", print)
    bus = RememberingBus([FleetView.of(frozenset(), ()), *views(5, 30)])
    await loop(bus, RememberingFleet(), record).run(ticks(6))
    record.close()
    rows = [json.loads(line) for line in (tmp_path / "run/fleet.jsonl").read_text().splitlines()]
    decisions = [json.loads(line) for line in (tmp_path / "run/decisions.jsonl").read_text().splitlines()]
    assert (rows[0]["arrivals_rps"], rows[0]["joules_total"], rows[0]["replicas_starting"]) == (None, None, 2)
    assert (rows[-1]["arrivals_rps"], rows[-1]["watts"], rows[-1]["watts_source"]) == (30.0, 4.0, "modelled")
    assert decisions[0]["action"] == "up"
    assert decisions[-1]["reasons"][0].keys() == {"code", "message", "values"}
    point = decisions[-1]["operating_point"]
    assert (point["slo_latency_s"], point["sm_clock_mhz"], rows[-1]["sm_clock_mhz"]) == (0.1, 0, 0)
    assert rows[-1]["max_batch_texts"] == point["max_batch_texts"] <= 8


def test_a_record_that_can_not_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"--record = .*file/below': can't be written"):
        Record.into(tmp_path / "file" / "below", print)


def full_disk(say: Callable[[str], None]) -> Record:
    full = Path("/dev/full")
    return Record(full.open("w"), full.open("w"), say)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no disk here is always full")
async def test_a_disk_that_fills_up_ends_the_record_and_not_the_fleet() -> None:
    said: list[str] = []
    record = full_disk(said.append)
    watcher = RememberingWatcher()
    await loop(RememberingBus(views(6, 30)), RememberingFleet(), record, watcher).run(ticks(6))
    record.close()
    assert len(watcher.rows) == 6
    (line,) = said
    assert "No space left on device" in line


async def test_metrics_show_the_last_row_and_count_the_decisions() -> None:
    metrics = Metrics()
    watcher = metrics.of("", SETTINGS.policy)
    await loop(RememberingBus(views(6, 30)), RememberingFleet(), watcher).run(ticks(6))

    def value(name: str, **labels: str) -> float | None:
        of_policy = {"namespace": "", "policy": SETTINGS.policy.metadata.name, **labels}
        return metrics.registry.get_sample_value(f"minwatt_scaler_{name}", of_policy)

    assert value("replicas", state="ready") == 2
    assert value("watts", source="modelled") == 4.0
    assert value("joules_total", source="modelled") == 20.0
    assert value("decisions_total", action="up") == 1
    assert value("latency_p99_seconds") is None, "nothing was answered: not 0 seconds"
