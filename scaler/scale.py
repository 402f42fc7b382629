"""The scaler alone: replicas that run elsewhere join it; operating points move, replicas are only wished for.

Assembles and disassembles; decides nothing. Called by `minwatt scale`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from scaler.bus_opening import BusOptions, open_hub
from scaler.control_state import start_beside
from scaler.dashboard.options import DashboardOptions
from scaler.fleet_joules import FleetJoules
from scaler.garbage import collect_seldom
from scaler.inputs import Inputs
from scaler.joined import JoinedFleet
from scaler.local.up import stop_on_signals
from scaler.loop import ControlLoop, Surroundings, Watcher, beats
from scaler.metrics import Metrics
from scaler.record import Record
from scaler.strays import tell_of_strays
from scaler.terminal import Terminal

_BEAT_S = 1.0


@dataclass(frozen=True, slots=True)
class ScaleOptions:
    bus: BusOptions
    fleet: str
    metrics_port: int
    record: Path | None
    dashboard: DashboardOptions


async def run_scale(inputs: Inputs, options: ScaleOptions, say: Callable[[str], None]) -> None:
    """Until SIGTERM or SIGINT; the replicas go on at their last operating point. Raises UsageError."""
    settings = inputs.settings
    for line in inputs.lines:
        say(line)
    async with AsyncExitStack() as stack:
        metrics = Metrics()
        stack.callback(metrics.close)
        watchers: list[Watcher] = [Terminal(say), metrics.of("", settings.policy)]
        if options.record is not None:
            record = Record.into(options.record, say)
            stack.callback(record.close)
            watchers.append(record)
        hub = await open_hub(options.bus)
        stack.push_async_callback(hub.close)
        bus = hub.fleet(options.fleet)
        served = f"metrics {metrics.serve(options.bus.host, options.metrics_port)}"
        dashboard = options.dashboard.opened()
        if dashboard is not None:
            stack.push_async_callback(dashboard.close)
            board = dashboard.of(settings.policy.metadata.name, settings)
            watchers.append(board)
            bus = board.read_along(bus)
            served += f" · dashboard {await dashboard.listen()}"
        say(
            f"ready: fleet {options.fleet} at {hub.address} · {served} · "
            "starts and stops no replica: the desired number is only said"
        )
        around = Surroundings(bus, JoinedFleet(), watchers, time.time)
        control = ControlLoop(
            settings, start_beside(time.monotonic()), around, FleetJoules(owns_processes=False)
        )
        collect_seldom()
        stopped = stop_on_signals(lambda: None)

        def stray(fleet: str, replicas: int) -> None:
            own = options.fleet
            say(f"fleet {fleet}: {replicas} replicas, and no policy here; this one's is fleet {own}")

        telling = asyncio.create_task(tell_of_strays(hub, stray))
        stack.callback(telling.cancel)
        await control.run(beats(min(_BEAT_S, settings.tick_s), time.monotonic, stopped))
