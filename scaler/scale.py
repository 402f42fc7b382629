"""The scaler alone: replicas that run elsewhere join it; operating points move, replicas are only wished for.

Assembles and disassembles; decides nothing. Called by `minwatt scale`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from scaler.control_state import start_beside
from scaler.embedded_bus import EmbeddedBus
from scaler.fleet_joules import FleetJoules
from scaler.inputs import Inputs
from scaler.joined import JoinedFleet
from scaler.local.up import stop_on_signals
from scaler.loop import ControlLoop, Surroundings, Watcher, beats
from scaler.metrics import Metrics
from scaler.record import Record
from scaler.terminal import Terminal

_BEAT_S = 1.0


@dataclass(frozen=True, slots=True)
class ScaleOptions:
    listen: str
    metrics_port: int
    record: Path | None


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
        bus = await EmbeddedBus.listen(options.listen)
        stack.push_async_callback(bus.close)
        where = f"fleet {bus.address} · metrics {_serve(metrics, bus.address, options.metrics_port)}"
        say(f"ready: {where} · starts and stops no replica: the desired number is only said")
        around = Surroundings(bus, JoinedFleet(), watchers, time.time)
        control = ControlLoop(
            settings, start_beside(time.monotonic()), around, FleetJoules(owns_processes=False)
        )
        stopped = stop_on_signals(lambda: None)
        await control.run(beats(min(_BEAT_S, settings.tick_s), time.monotonic, stopped))


def _serve(metrics: Metrics, beside: str, port: int) -> str:
    """On the host that replicas join. Raises UsageError."""
    host = beside.rpartition(":")[0]
    return metrics.serve(host.strip("[]"), port)
