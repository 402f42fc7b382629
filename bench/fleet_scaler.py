"""The scaler that `bench.fleet` measures: the real bus, signals and decisions, timed beat by beat.

    python -m bench.fleet_scaler URL FLEET SECONDS

Beats and ticks each second; nobody is started or stopped. Prints one JSON object a beat.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

from minwatt.v1.redis_address import parse_redis_url
from scaler.bus import FleetBus, FleetView
from scaler.control_state import start_beside
from scaler.decision import Decision
from scaler.fleet_joules import FleetJoules
from scaler.garbage import collect_seldom
from scaler.inputs import read_inputs
from scaler.joined import JoinedFleet
from scaler.loop import ControlLoop, Surroundings
from scaler.operating_point import OperatingPoint
from scaler.policy_sections import Replicas
from scaler.record import FleetRow
from scaler.redis_bus import RedisHub
from scaler.settings import Settings

MOST_REPLICAS = 10_000


@dataclass
class Timed:
    """A FleetBus and a Watcher: what a beat spent where."""

    bus: FleetBus
    collect_s: float = 0.0
    collect_cpu_s: float = 0.0
    reports: int = 0
    problem: str = ""
    ready: int = 0
    reason: str = ""

    async def publish(self, point: OperatingPoint) -> None:
        await self.bus.publish(point)

    async def collect(self) -> FleetView:
        began_s, began_cpu_s = time.monotonic(), time.process_time()
        view = await self.bus.collect()
        self.collect_s = time.monotonic() - began_s
        self.collect_cpu_s = time.process_time() - began_cpu_s
        self.reports, self.problem = sum(len(page.names) for page in view.pages), view.problem
        return view

    async def close(self) -> None:
        await self.bus.close()

    def observed(self, row: FleetRow) -> None:
        self.ready = row.replicas_ready

    def decided(self, decision: Decision, at_s: float) -> None:  # noqa: ARG002
        self.reason = decision.reasons[0].code.value if decision.reasons else ""


async def beats(count: int, timed: Timed) -> AsyncIterator[float]:
    """One a second; says what each took."""
    next_s = time.monotonic()
    for _ in range(count):
        began_s, began_cpu_s = time.monotonic(), time.process_time()
        yield began_s
        beat = {
            "beat_s": time.monotonic() - began_s,
            "beat_cpu_s": time.process_time() - began_cpu_s,
            "collect_s": timed.collect_s,
            "collect_cpu_s": timed.collect_cpu_s,
            "reports": timed.reports,
            "ready": timed.ready,
            "problem": timed.problem,
            "reason": timed.reason,
        }
        print(json.dumps(beat), flush=True)  # noqa: T201 - read by bench.fleet
        next_s = max(next_s + 1.0, time.monotonic())
        await asyncio.sleep(next_s - time.monotonic())


def settings() -> Settings:
    """The shipped policy and profile, with room for the fleet and a tick each beat."""
    shipped = read_inputs(None, None).settings
    spec = shipped.policy.spec
    changes = {
        "replicas": Replicas(min=1, max=MOST_REPLICAS),
        "power": spec.power.model_copy(update={"budget_w": 1e7}),
        "behavior": spec.behavior.model_copy(update={"tick_s": 1.0}),
    }
    policy = shipped.policy.model_copy(update={"spec": spec.model_copy(update=changes)})
    return replace(shipped, policy=policy)


async def run(url: str, fleet: str, seconds: int) -> None:
    hub = RedisHub(parse_redis_url(url, "URL"))
    timed = Timed(hub.fleet(fleet))
    around = Surroundings(timed, JoinedFleet(), [timed], time.time)
    loop = ControlLoop(settings(), start_beside(time.monotonic()), around, FleetJoules(owns_processes=False))
    collect_seldom()
    await loop.run(beats(seconds, timed))
    await hub.close()


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], sys.argv[2], int(sys.argv[3])))
